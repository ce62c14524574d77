"""Profiles and pseudo items that a model writes: a real service on this machine, asked over HTTP."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest

from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.llm.build import build_llm_features
from recbole_cdsr.llm.pseudo_features import build_pseudo_items

from .flat_dataset import FlatDataset
from .service import Received, Reply, completion
from .written import HISTORIES, answering, asked, settings, task_of, texts, toy

# ------------------------------------------------------------------------------------------------ profiles


def test_hierarchical_profiles_are_summaries_of_summaries(tmp_path, serve):
    service = serve()
    features = build_llm_features(settings(tmp_path, service), toy())
    counts = asked(service)
    assert counts["summariser"] == len(HISTORIES)
    assert counts["analyser"] >= len(HISTORIES)
    assert texts(tmp_path)["cid"] == {"user": "cid", "by": "llm", "text": "A person who likes things of kind tool"}
    assert features.provenance["llm"] == "m"
    made = features.provenance["profiles"]
    assert made["made_by"] == "LLM m (hierarchical profiles)"
    assert (made["answers"]["by_llm"], made["answers"]["by_fallback"], made["answers"]["given_up"]) == (4, 0, 0)
    assert made["prompt_version"] == "llm4cdsr_analyser_en-1, llm4cdsr_summariser_en-1"
    np.testing.assert_allclose(np.linalg.norm(features.profiles[1:], axis=1), 1, atol=1e-5)


def test_flat_profiles_take_one_question_each_with_numbered_titles_and_categories(tmp_path, serve):
    service = serve()
    build_llm_features(settings(tmp_path, service, profile_style="flat"), toy())
    assert asked(service) == {"profile": 4}
    (of_bob,) = [received.asked for received in service.requests if "book:5" in received.asked]
    listed = [line for line in of_bob.splitlines() if "Title of" in line]
    assert listed == [
        "1. Title of food:4 (category: kind 4)",
        "2. Title of tool:4 (category: kind 4)",
        "3. Title of book:5",
        "4. Title of tool:0 (category: kind 0)",
    ]
    assert "food, tool, book" in of_bob
    assert texts(tmp_path)["bob"]["text"] == "A person of 4 choices."  # without the thought


def test_nothing_answered_is_asked_again_and_a_stored_set_needs_no_key(tmp_path, serve, monkeypatch):
    service = serve()
    keys = settings(tmp_path, service)
    first = build_llm_features(keys, toy())
    n_asked = len(service.requests)
    monkeypatch.delenv("TEST_KEY")
    service.close()
    second = build_llm_features(keys, toy())
    assert len(service.requests) == n_asked
    np.testing.assert_array_equal(first.profiles, second.profiles)


@pytest.mark.parametrize("style", ["hierarchical", "flat"])
def test_only_who_changed_is_asked_again(tmp_path, serve, style):
    service = serve()
    build_llm_features(settings(tmp_path, service, profile_style=style), toy())
    before = len(service.requests)
    build_llm_features(settings(tmp_path, service, profile_style=style), toy(HISTORIES | {"eve": ["food:0", "food:2"]}))
    again = [received.asked for received in service.requests[before:]]
    assert again
    assert all("food:0" in text or "food:2" in text or "kind food" in text for text in again)
    assert len(again) <= 3


def test_the_latest_items_are_the_ones_kept(tmp_path, serve):
    service = serve()
    long = {"ann": [f"food:{i}" for i in range(6)] + [f"tool:{i}" for i in range(6)]}
    build_llm_features(settings(tmp_path, service, profile_style="flat", prompt_history_tokens=30), toy(long))
    (received,) = service.requests
    listed = [line.split("Title of ")[1][:6] for line in received.asked.splitlines() if "Title of" in line]
    assert listed == [f"tool:{i}" for i in range(6)][-len(listed) :]
    assert 1 < len(listed) < 6
    build_llm_features(settings(tmp_path, service, profile_style="flat", prompt_history_tokens=1), toy(long))
    assert service.requests[-1].asked.count("Title of") == 1  # the newest is never dropped
    assert "tool:5" in service.requests[-1].asked


def test_prompts_are_cut_alike_whether_or_not_the_models_tokenizer_is_at_hand(tmp_path, serve, tiny_model):
    """That of the tiny model counts one token a byte, so that it cuts much sooner than the estimate."""
    service = serve()
    long = {"ann": [f"food:{i}" for i in range(6)] + [f"tool:{i}" for i in range(6)]}
    keys = settings(tmp_path, service, profile_style="flat", prompt_history_tokens=70, llm_model="a model of elsewhere")

    def listed(**more: Any) -> int:
        build_llm_features(keys | more, toy(long))
        return service.requests[-1].asked.count("Title of")

    estimated = listed()
    assert estimated > 4
    assert listed(llm_model=str(tiny_model)) == estimated  # its tokenizer is on this machine
    assert len(list((tmp_path / "features").glob("profiles-*.json"))) == 2
    by_tokenizer = listed(llm_tokenizer=str(tiny_model))
    assert 0 < by_tokenizer < estimated
    sidecars = [json.loads(path.read_text()) for path in (tmp_path / "features").glob("profiles-*.json")]
    named = {sidecar["generator_identity"].get("tokenizer") for sidecar in sidecars}
    assert (len(sidecars), named) == (3, {None, str(tiny_model)})


def test_where_the_model_has_nothing_the_offline_text_stands_in_and_is_counted(tmp_path, serve, caplog):
    def behave(received: Received, nth: int) -> Reply:
        if "tool:3" in received.asked:
            return Reply(completion(None, "content_filter"))
        return Reply(completion("  ")) if "book:5" in received.asked else answering(received, nth)

    service = serve(behave)
    with caplog.at_level(logging.WARNING):
        features = build_llm_features(settings(tmp_path, service, profile_style="flat"), toy())
    written = texts(tmp_path)
    assert {user: entry["by"] for user, entry in written.items()} == {
        "ann": "llm",
        "bob": "extractive",
        "cid": "extractive",
        "eve": "llm",
    }
    assert written["cid"]["text"].startswith("Interests: Title of tool")
    made_by = features.provenance["profiles"]["made_by"]
    assert made_by == "LLM m (flat profiles); 2 of 4 users by the offline extractive profiler (no LLM)"
    assert "the LLM has none for 2 of 4 users" in caplog.text
    before = len(service.requests)
    build_llm_features(settings(tmp_path, service, profile_style="flat"), toy())
    assert len(service.requests) == before  # a refusal is an answer


def test_what_was_given_up_is_asked_again_by_the_next_run(tmp_path, serve):
    broken = [True]

    def behave(received: Received, nth: int) -> Reply:
        if broken[0] and "tool:3" in received.asked:
            return Reply({"error": "out of order"}, status=500)
        return answering(received, nth)

    service = serve(behave)
    keys = settings(tmp_path, service, profile_style="flat")
    first = build_llm_features(keys, toy())
    assert first.provenance["profiles"]["answers"]["given_up"] == 1
    assert texts(tmp_path)["cid"]["by"] == "extractive"
    broken[0] = False
    before = len(service.requests)
    second = build_llm_features(keys, toy())
    assert len(service.requests) == before + 1
    assert texts(tmp_path)["cid"]["by"] == "llm"
    assert second.provenance["profiles"]["answers"]["given_up"] == 0


def test_a_run_does_not_fail_for_what_is_open_still(tmp_path, serve, caplog):
    def behave(received: Received, nth: int) -> Reply:
        return Reply({}, status=500) if "tool:3" in received.asked else answering(received, nth)

    service = serve(behave)
    keys = settings(tmp_path, service, profile_style="flat")
    first = build_llm_features(keys, toy())
    service.close()
    with caplog.at_level(logging.WARNING):
        second = build_llm_features(keys, toy())
    np.testing.assert_array_equal(first.profiles, second.profiles)


def test_without_an_llm_configured_one_line_says_so(tmp_path, serve):
    with pytest.raises(ConfigError, match="write the profiles, but llm_generator is offline; set llm_generator=openai"):
        build_llm_features(settings(tmp_path, serve(), llm_generator="offline"), toy())
    with pytest.raises(ConfigError, match="write the pseudo items, but llm_generator is offline"):
        build_pseudo_items(settings(tmp_path, serve(), llm_generator="offline"), toy())


def test_the_key_goes_nowhere_but_into_the_header(tmp_path, serve):
    service = serve()
    build_llm_features(settings(tmp_path, service), toy())
    build_pseudo_items(settings(tmp_path, service), toy())
    sent = [{name.lower(): value for name, value in received.headers.items()} for received in service.requests]
    assert all("sk-secret" in headers["authorization"] for headers in sent)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"sk-secret" not in path.read_bytes()


def test_prompts_of_ones_own_and_in_chinese(tmp_path, serve):
    service = serve(lambda received, nth: Reply(completion("一位用户")))
    own = tmp_path / "own.yaml"
    own.write_text(
        "name: own\nversion: 1\nentry: '<{title}>'\nmessages:\n  - {role: user, content: 'Describe {history}!'}\n"
    )
    build_llm_features(settings(tmp_path, service, profile_style="flat", prompt_files={"profile": str(own)}), toy())
    assert "Describe <Title of food:0>\n<Title of food:1>!" in {received.asked for received in service.requests}
    before = len(service.requests)
    features = build_llm_features(settings(tmp_path, service, profile_style="flat", prompt_language="zh"), toy())
    assert all("领域的历史记录" in received.asked for received in service.requests[before:])
    assert features.provenance["profiles"]["prompt_version"] == "lecdsr_profile_zh-1"
    assert features.provenance["items"]["prompt_version"] == "item_zh-1"


# ------------------------------------------------------------------------------------------------ pseudo items


def by_pair(pseudo: Any, dataset: FlatDataset) -> dict[tuple[str, str], list[str]]:
    return {
        (str(dataset.id2token("user_id", user)), dataset.domain_names[into]): pseudo.names_of(pair)
        for pair, (user, into) in enumerate(zip(pseudo.user_ids, pseudo.into_domain, strict=True))
    }


def test_pseudo_items_are_asked_for_extracted_parsed_and_encoded(tmp_path, serve):
    service = serve()
    pseudo = build_pseudo_items(settings(tmp_path, service), toy())
    # cid and eve are single-domain; two other domains each; bob alone has books, and food and tools.
    assert asked(service) == {"generate": 4, "extract": 3}  # equal questions are asked once: two are into books
    pairs = [("cid", "food"), ("cid", "book"), ("eve", "tool"), ("eve", "book")]
    assert by_pair(pseudo, toy()) == {pair: ["Red Lamp", "Blue Lamp", "Green Lamp"] for pair in pairs}
    assert (pseudo.names, pseudo.vectors.shape, pseudo.vectors.dtype) == (
        ["Red Lamp", "Blue Lamp", "Green Lamp"],
        (3, 384),
        np.float32,
    )
    assert pseudo.provenance["made_by"] == "LLM m (3 examples)"
    assert pseudo.provenance["generator"]["llm"] == "m"
    before = len(service.requests)
    build_pseudo_items(settings(tmp_path, service), toy())
    assert len(service.requests) == before


def test_examples_are_overlapped_users_in_the_users_own_direction(tmp_path, serve):
    service = serve()
    build_pseudo_items(settings(tmp_path, service), toy())
    questions = [received.asked for received in service.requests if task_of(received) == "generate"]
    (into_food,) = [text for text in questions if "tool:3" in text and 'domain "food" would' in text]
    shown = into_food.split("Another person")[0]
    examples = shown.split("Example ")[1:]
    assert len(examples) == 2  # ann and bob: there are no more
    for example in examples:
        own, other = example.split("\nfood: ")
        assert "tool: Title of tool" in own
        assert "Title of food" in other
        assert "tool" not in other
    assert "Title of tool:1; Title of tool:2; Title of tool:3" in into_food.split("Another person")[1]


def test_who_has_too_few_names_is_reported_and_left_out(tmp_path, serve, caplog):
    def behave(received: Received, nth: int) -> Reply:
        if task_of(received) == "generate" and "tool:3" in received.asked:
            return Reply(completion("", "stop"))
        return answering(received, nth)

    service = serve(behave)
    with caplog.at_level(logging.WARNING):
        pseudo = build_pseudo_items(settings(tmp_path, service), toy())
    assert {user for user, _ in by_pair(pseudo, toy())} == {"eve"}
    assert pseudo.provenance["too_few"] == {
        "pairs": 2,
        "by_domain": {"food": 1, "tool": 0, "book": 1},
        "first_users": ["cid"],
    }
    assert pseudo.provenance["answers"]["unanswered"] == 2
    assert "2 of 4 have fewer than 3 different names" in caplog.text


def test_names_are_read_from_the_first_answer_where_the_second_question_lost_them(tmp_path, serve):
    def behave(received: Received, nth: int) -> Reply:
        texts = {"generate": "1) Kettle\n2) Toaster\n3) Oven", "extract": "I cannot help with that."}
        return Reply(completion(texts[task_of(received)]))

    service = serve(behave)
    pseudo = build_pseudo_items(settings(tmp_path, service), toy())
    assert set(map(tuple, by_pair(pseudo, toy()).values())) == {("Kettle", "Toaster", "Oven")}
    assert pseudo.provenance["answers"]["names_from_first_answer"] == 4
    parsed = build_pseudo_items(settings(tmp_path, service, pseudo_extraction="parser"), toy())
    assert asked(service) == {"generate": 4, "extract": 3}  # the parser asks nothing more
    assert by_pair(parsed, toy()) == by_pair(pseudo, toy())


def test_a_direction_without_overlapped_users_is_reported(tmp_path, serve):
    alone = {"ann": ["food:0", "tool:0"], "eve": ["food:0", "food:1"], "fay": ["book:1", "book:2"]}
    service = serve()
    pseudo = build_pseudo_items(settings(tmp_path, service), toy(alone))
    assert set(by_pair(pseudo, toy(alone))) == {("eve", "tool")}
    assert pseudo.provenance["answers"]["without_examples"] == 3


def test_names_of_another_width_than_the_items_are_refused_before_asking(tmp_path, serve):
    service = serve()
    keys = settings(tmp_path, service, item_features_file="given.npy")
    np.save(tmp_path / "given.npy", np.ones((18, 6), np.float32))
    with pytest.raises(FeatureError, match="gives vectors of 384 numbers and the item features have 6"):
        build_pseudo_items(keys, toy())
    assert not service.requests
