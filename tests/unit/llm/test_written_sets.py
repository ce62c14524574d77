"""When a stored set of what a model wrote is used again, and when it is not."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from recbole_cdsr.llm import encoder_settings, local_models
from recbole_cdsr.llm.build import build_llm_features
from recbole_cdsr.llm.encoder_sources import EncoderNotFoundError
from recbole_cdsr.llm.pseudo_features import build_pseudo_items
from recbole_cdsr.llm.response_cache import ResponseCache

from .flat_dataset import FlatDataset
from .service import Received, Reply, Service, completion
from .tiny_model import save_tiny_model
from .written import answering, settings, task_of, toy


@pytest.mark.parametrize("style", ["hierarchical", "flat"])
def test_kinds_of_answers_are_asked_again_although_a_set_of_them_is_stored(tmp_path, serve, style):
    cut = [True]

    def behave(received: Received, nth: int) -> Reply:
        first = task_of(received) in ("analyser", "profile")
        return Reply(completion("half of", "length")) if cut[0] and first else answering(received, nth)

    service = serve(behave)
    keys = settings(tmp_path, service, profile_style=style)
    first = build_llm_features(keys, toy()).provenance["profiles"]["answers"]
    assert first["kinds"]["truncated"] > 0
    cut[0] = False
    before = len(service.requests)
    build_llm_features(keys, toy())
    build_llm_features(keys | {"llm_ask_again": ["empty"]}, toy())
    assert len(service.requests) == before
    again = build_llm_features(keys | {"llm_ask_again": ["truncated"]}, toy()).provenance["profiles"]["answers"]
    assert len(service.requests) > before
    assert again["kinds"] == {"empty": 0, "truncated": 0, "refused": 0}
    before = len(service.requests)
    build_llm_features(keys | {"llm_ask_again": ["truncated"]}, toy())
    assert len(service.requests) == before


def rewritten_items(folder: Path, column: str, values: dict[str, str]) -> None:
    """Change a column of `.item` for some items."""
    path = folder / "toy.item"
    frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False).set_index("item_id:token", drop=False)
    frame.loc[list(values), column] = list(values.values())
    frame.to_csv(path, sep="\t", index=False)


def test_categories_and_domains_that_a_prompt_shows_are_part_of_what_a_set_was_made_from(tmp_path, serve):
    service = serve()
    keys = settings(tmp_path, service, profile_style="flat", item_features_file="given.npy")  # which no text changes
    np.save(tmp_path / "given.npy", np.random.default_rng(1).standard_normal((18, 384)).astype(np.float32))

    def asked_for(dataset: FlatDataset, **more: Any) -> int:
        before = len(service.requests)
        build_llm_features(keys | more, dataset)
        return len(service.requests) - before

    assert asked_for(toy()) == 4
    rewritten_items(tmp_path, "category:token_seq", {"food:4": "another kind"})
    assert asked_for(toy()) == 1  # bob's alone
    renamed = toy()
    renamed.domain_names = ["meals", "tool", "book"]
    assert asked_for(renamed) == 4
    assert asked_for(toy(), profile_style="hierarchical") > 4
    sets = sorted((tmp_path / "features").glob("*.json"))
    rewritten_items(tmp_path, "category:token_seq", {"food:4": "a third kind"})
    assert asked_for(toy(), profile_style="hierarchical") == 0
    assert sorted((tmp_path / "features").glob("*.json")) == sets  # its prompts show no category


def test_pseudo_items_of_a_wording_that_shows_categories_are_made_anew_when_these_change(tmp_path, serve):
    service = serve()
    own = tmp_path / "own.yaml"
    own.write_text(
        "name: own\nversion: 1\nentry: '<{title}, {category}>'\nmessages:\n  - role: user\n"
        "    content: 'The people below chose {examples} {history} {other_domain}'\n"
        "example: '{own_titles} {other_titles}'\n"
    )
    keys = settings(tmp_path, service, prompt_files={"generate": str(own)}, item_features_file="given.npy")
    np.save(tmp_path / "given.npy", np.random.default_rng(1).standard_normal((18, 384)).astype(np.float32))
    build_pseudo_items(keys, toy())
    before = len(service.requests)
    rewritten_items(tmp_path, "category:token_seq", {"tool:3": "another kind"})
    build_pseudo_items(keys, toy())
    assert 0 < len(service.requests) - before < before


def test_another_local_model_in_the_same_folder_writes_anew(tmp_path, serve):
    folder = save_tiny_model(tmp_path / "mine")
    service = serve()
    keys = settings(
        tmp_path,
        service,
        profile_style="flat",
        llm_generator="transformers",
        llm_model=str(folder),
        llm_max_new_tokens=4,
    )

    def made() -> str:
        return build_llm_features(keys, toy()).provenance["profiles"]["generator"]["parameters"]["weights_sha256"]

    first = made()
    for file in (tmp_path / "features").glob("profiles-*"):  # as earlier releases called it
        stem, dot, suffix = file.name.partition(".")
        file.rename(file.with_name(f"{stem[:-8]}00000000{dot}{suffix}"))
    assert made() == first
    assert len(list((tmp_path / "features").glob("profiles-*.json"))) == 1
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(folder)
        model.get_input_embeddings().weight.mul_(3.0)
        model.save_pretrained(folder)
    assert made() != first
    shutil.rmtree(folder)
    made()  # what is stored can be used without the model
    assert len(list((tmp_path / "features").glob("profiles-*.json"))) == 2


@pytest.mark.parametrize("backend", ["sentence-transformers", "transformers"])
@pytest.mark.parametrize("given", [False, True], ids=["items encoded", "items given"])
def test_sets_are_found_where_the_encoder_is_not(tmp_path, serve, tiny_model, backend, given, monkeypatch):
    service = serve()
    keys = settings(tmp_path, service, profile_style="flat", llm_encoder_backend=backend)
    if backend == "transformers":
        keys["llm_encoder"] = str(tiny_model)
    if given:
        np.save(tmp_path / "given.npy", np.ones((18, 32 if backend == "transformers" else 384), np.float32))
        keys["item_features_file"] = "given.npy"
    made = build_llm_features(keys, toy()), build_pseudo_items(keys, toy())
    asked_before, files = len(service.requests), sorted((tmp_path / "features").glob("*.json"))

    def absent(*arguments: Any, **options: Any) -> Any:
        raise EncoderNotFoundError("it is not on this machine")

    monkeypatch.setattr(encoder_settings, "locate_encoder", absent)
    monkeypatch.setattr(local_models, "locate_model", absent)
    service.close()
    found = build_llm_features(keys, toy()), build_pseudo_items(keys, toy())
    np.testing.assert_array_equal(found[0].profiles, made[0].profiles)
    assert found[1].names == made[1].names
    assert len(service.requests) == asked_before
    assert sorted((tmp_path / "features").glob("*.json")) == files


def test_a_set_of_another_name_is_found_by_what_it_was_made_from(tmp_path, serve):
    service = serve()
    keys = settings(tmp_path, service, profile_style="flat")
    build_llm_features(keys, toy())
    for path in (tmp_path / "features").glob("profiles-*"):
        stem, dot, suffix = path.name.partition(".")
        path.rename(path.with_name(f"{stem[:-8]}00000000{dot}{suffix}"))
    before = len(list((tmp_path / "features").glob("profiles-*.json")))
    build_llm_features(keys, toy())
    assert len(list((tmp_path / "features").glob("profiles-*.json"))) == before == 1
    build_llm_features(keys | {"llm_temperature": 0.5}, toy())  # what was made otherwise is not taken for it
    build_llm_features(keys | {"llm_permute_seed": 1}, toy())
    assert len(list((tmp_path / "features").glob("profiles-*.json"))) == 3


def test_a_set_stays_when_asking_again_fails(tmp_path, serve, caplog):
    service = serve(lambda received, nth: Reply(completion("half of", "length")))
    keys = settings(tmp_path, service, profile_style="flat")
    first = build_llm_features(keys, toy())
    service.close()
    with caplog.at_level(logging.WARNING):
        second = build_llm_features(keys | {"llm_ask_again": ["truncated"]}, toy())
    np.testing.assert_array_equal(first.profiles, second.profiles)
    assert second.provenance["profiles"]["answers"]["kinds"]["truncated"] == 4
    np.testing.assert_array_equal(first.profiles, build_llm_features(keys, toy()).profiles)


class TestSomethingIsRefusedForGood:
    """The service will never answer what one user is asked about; all else it answers."""

    @staticmethod
    def behave(received: Received, nth: int) -> Reply:
        too_long = "tool:3" in received.asked
        return Reply({"error": {"message": "too long"}}, 400) if too_long else answering(received, nth)

    @staticmethod
    def build(kind: str, keys: dict[str, Any]) -> dict[str, Any]:
        """Make or find the set; what it says of itself."""
        if kind == "pseudo":
            return build_pseudo_items(keys, toy()).provenance
        return build_llm_features(keys, toy()).provenance["profiles"]

    @staticmethod
    def files(folder: Path, kind: str) -> dict[str, tuple[int, bytes]]:
        return {
            path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in (folder / "features").glob(f"{kind}-*")
        }

    @pytest.fixture(params=["flat", "hierarchical", "pseudo"])
    def kind_and_keys(self, request, tmp_path, serve) -> tuple[str, dict[str, Any]]:
        keys = settings(tmp_path, serve(self.behave))
        if request.param == "pseudo":
            return "pseudo", keys
        return "profiles", keys | {"profile_style": request.param}

    @pytest.fixture
    def service(self, kind_and_keys, serve) -> Service:
        """The one that is asked."""
        service = serve(self.behave)
        kind_and_keys[1]["llm_base_url"] = service.url
        return service

    def test_the_stored_set_stays_as_it_is(self, tmp_path, service, kind_and_keys, caplog):
        kind, keys = kind_and_keys
        first = self.build(kind, keys)
        assert first["answers"]["given_up"] > 0
        stored, asked = self.files(tmp_path, kind), len(service.requests)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            second = self.build(kind, keys)
        assert len(service.requests) == asked + first["answers"]["given_up"]  # it is asked, and said, all the same
        assert "requests were given up, and the next run asks them again" in caplog.text
        assert self.files(tmp_path, kind) == stored
        assert second == first
        assert ", reused, " in caplog.text
        assert "encoding" not in caplog.text

    def test_it_is_made_anew_when_the_service_answers_after_all(self, service, kind_and_keys):
        kind, keys = kind_and_keys
        self.build(kind, keys)
        service.behave = answering
        assert self.build(kind, keys)["answers"]["given_up"] == 0

    def test_it_is_made_anew_of_answers_that_came_otherwise(self, tmp_path, service, serve, kind_and_keys):
        kind, keys = kind_and_keys
        self.build(kind, keys)
        elsewhere = settings(tmp_path / "elsewhere", serve()) | {"profile_style": keys.get("profile_style")}
        self.build(kind, elsewhere)
        with ResponseCache(tmp_path / "features" / "llm_cache.sqlite") as cache:
            assert cache.take_from(tmp_path / "elsewhere" / "features" / "llm_cache.sqlite") > 0
        service.close()  # nothing is left to ask
        assert self.build(kind, keys)["answers"]["given_up"] == 0

    def test_it_is_made_anew_where_it_is_damaged(self, tmp_path, service, kind_and_keys):
        kind, keys = kind_and_keys
        first = self.build(kind, keys)
        (matrix,) = (tmp_path / "features").glob(f"{kind}-*.safetensors")
        matrix.write_bytes(matrix.read_bytes()[:-8])
        assert self.build(kind, keys)["matrix_sha256"] == first["matrix_sha256"]
