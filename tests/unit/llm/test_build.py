from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.llm import build_item_features, build_llm_features
from recbole_cdsr.llm.encoder_settings import ENCODER_ONLY
from recbole_cdsr.llm.profiles import EXTRACTIVE_PROFILER, cluster_items, interest_clusters, profile_vectors
from recbole_cdsr.locks import take_lock

from .flat_dataset import FlatDataset

TITLES = {
    "food": ["Green tea", "Black tea", "Matcha powder", "Olive oil", "Sea salt", "Dark chocolate"],
    "tool": ["Cordless drill", "Hammer", "Tea kettle", "Saw", "Frying pan"],
}
HISTORIES = {
    "ann": ["food:0", "tool:2", "food:2", "food:5"],
    "bob": ["tool:0", "tool:1", "tool:3", "food:4", "tool:0"],
    "cid": ["food:3"],
}


@pytest.fixture
def folder(tmp_path) -> Path:
    write_items(tmp_path / "toy", TITLES)
    return tmp_path / "toy"


def write_items(folder: Path, titles: dict[str, list[str]]) -> None:
    folder.mkdir(exist_ok=True)
    rows = [f"{domain}:{i}\t{domain}\t{title}\n" for domain, of in titles.items() for i, title in enumerate(of)]
    (folder / "toy.item").write_text("item_id:token\tdomain:token\ttitle:token_seq\n" + "".join(rows))


def dataset(histories=HISTORIES, order_seed: int = 0) -> FlatDataset:
    """Ids are dealt out of file order within a domain, as a dataset may do."""
    generator = np.random.default_rng(order_seed)
    items = {domain: [f"{domain}:{i}" for i in generator.permutation(len(of))] for domain, of in TITLES.items()}
    return FlatDataset("toy", items, histories, users_without_history=["dora"])


def config(folder: Path, **keys) -> dict:
    return {"data_path": str(folder), "device": "cpu", "show_progress": False, "profile_clusters": 3} | keys


@pytest.fixture
def given(folder) -> np.ndarray:
    """A matrix of the user's own, so that most tests need no encoder."""
    matrix = np.random.default_rng(5).standard_normal((11, 6)).astype(np.float32)
    np.save(folder / "given.npy", matrix)
    return matrix


def rows_of(data: FlatDataset, matrix: np.ndarray) -> np.ndarray:
    tokens = [f"{domain}:{i}" for domain, of in TITLES.items() for i in range(len(of))]
    return matrix[[tokens.index(token) for token in data.id2token("item_id", np.arange(1, data.item_num))]]


def test_features_by_internal_id_with_the_real_encoder(encoder, folder, caplog):
    data = dataset()
    with caplog.at_level(logging.INFO):
        features = build_llm_features(config(folder), data)
    assert features.items.shape == (12, 384)
    assert features.items.dtype == features.profiles.dtype == np.float32
    assert not features.items[0].any()
    texts = [TITLES[token.split(":")[0]][int(token.split(":")[1])] for token in data.tokens["item_id"][1:]]
    np.testing.assert_allclose(features.items[1:], encoder.encode(texts), atol=1e-5)
    # ann drinks tea, bob builds; dora (the last) has no history.
    tea, hammer = encoder.encode(["tea", "hammer and drill"])
    ann, bob, dora = (features.profiles[data.tokens["user_id"].index(user)] for user in ("ann", "bob", "dora"))
    assert ann @ tea > bob @ tea
    assert bob @ hammer > ann @ hammer
    assert not dora.any()
    assert not features.profiles[0].any()
    assert ENCODER_ONLY in caplog.text
    assert EXTRACTIVE_PROFILER in caplog.text


def test_provenance_says_who_made_what(encoder, folder):
    provenance = json.loads(json.dumps(build_llm_features(config(folder), dataset()).provenance))
    assert provenance["llm"] is None
    assert provenance["items"]["made_by"] == ENCODER_ONLY
    assert provenance["items"]["encoder"] == encoder.provenance()
    assert provenance["profiles"]["made_by"] == EXTRACTIVE_PROFILER
    assert "no text was encoded anew" in provenance["profiles"]["how"]
    assert "no LLM" in provenance["made_by"]
    assert str(folder) not in json.dumps(provenance)


def test_second_run_reuses_and_a_changed_title_is_refused(encoder, folder, caplog):
    first = build_llm_features(config(folder), dataset())
    stored = {path: path.stat().st_mtime_ns for path in (folder / "features").iterdir()}
    assert sorted(path.suffix for path in stored) == [".json", ".json", ".safetensors", ".safetensors"]
    with caplog.at_level(logging.INFO):
        second = build_llm_features(config(folder), dataset(order_seed=1))
    assert caplog.text.count("reused") == 2
    items = folder / "features" / "items-all-minilm-l6-v2.safetensors"
    assert items.stat().st_mtime_ns == stored[items]
    by_token = [
        dict(zip(data.tokens["item_id"], map(tuple, features.items), strict=True))
        for data, features in ((dataset(), first), (dataset(order_seed=1), second))
    ]
    assert by_token[0] == by_token[1]
    write_items(folder, TITLES | {"tool": [*TITLES["tool"][:-1], "Wok"]})
    with pytest.raises(FeatureError, match=r"items-all-minilm-l6-v2\.json is stale: texts_sha256"):
        build_llm_features(config(folder), dataset())
    rebuilt = build_item_features(folder, "toy", show_progress=False, force=True)
    np.testing.assert_allclose(rebuilt.align(["tool:4"]), encoder.encode(["Wok"]), atol=1e-5)


def test_features_of_an_encoder_that_is_gone_are_still_used(encoder, folder, caplog):
    made = build_item_features(folder, "toy", show_progress=False)
    for suffix in (".safetensors", ".json"):
        (folder / "features" / f"items-all-minilm-l6-v2{suffix}").rename(folder / "features" / f"items-gone{suffix}")
    sidecar = folder / "features" / "items-gone.json"
    content = json.loads(sidecar.read_text())
    content["encoder"]["name"] = "sentence-transformers/gone"
    sidecar.write_text(json.dumps(content))
    found = build_item_features(folder, "toy", encoder="gone", show_progress=False)
    np.testing.assert_array_equal(found.matrix, made.matrix)


def test_profile_texts_can_be_encoded_instead(encoder, folder):
    features = build_llm_features(config(folder, profile_encoding="text", profile_clusters=1), dataset())
    data = dataset()
    expected = encoder.encode(["Interests: Olive oil"])[0]
    np.testing.assert_allclose(features.profiles[data.tokens["user_id"].index("cid")], expected, atol=1e-5)
    assert features.provenance["profiles"]["how"] == "every user's profile text encoded"
    assert features.provenance["profiles"]["prompt_version"] == "profile_extractive_en-1"
    assert not features.profiles[data.tokens["user_id"].index("dora")].any()


def test_profile_texts_follow_the_titles_whoever_made_the_item_features(encoder, folder, given):
    keys = config(folder, profile_encoding="text", profile_clusters=1, item_features_file="given.npy")
    before = build_llm_features(keys, dataset())
    write_items(folder, TITLES | {"food": [title.replace("Olive", "Palm") for title in TITLES["food"]]})
    after = build_llm_features(keys, dataset())
    cid = dataset().tokens["user_id"].index("cid")
    for features, title in ((before, "Olive oil"), (after, "Palm oil")):
        np.testing.assert_allclose(features.profiles[cid], encoder.encode([f"Interests: {title}"])[0], atol=1e-5)
    write_items(folder, TITLES)
    np.testing.assert_array_equal(build_llm_features(keys, dataset(order_seed=1)).profiles, before.profiles)
    assert len(list((folder / "features").glob("profiles-*.json"))) == 2


@pytest.mark.parametrize("keys", [{"item_features_file": "given.npy"}, {"profile_encoding": "text"}])
def test_titles_are_said_of_such_profiles_only(encoder, folder, given, keys):
    """Sets that were stored before there were titles in their names are used further."""
    made_of = build_llm_features(config(folder, **keys), dataset()).provenance["profiles"]["made_of_items"]
    assert set(made_of) == {"matrix_sha256", "permute_seed"}


def test_default_encoder_warns_of_chinese_text(encoder, folder, caplog):
    write_items(folder, {domain: ["霸王别姬"] * len(of) for domain, of in TITLES.items()})
    build_llm_features(config(folder, use_profiles=False), dataset())
    assert "multilingual" in caplog.text


def test_a_matrix_of_the_users_own_needs_no_encoder(folder, given):
    data = dataset()
    features = build_llm_features(config(folder, item_features_file="given.npy", llm_encoder="no-such"), data)
    np.testing.assert_array_equal(features.items[1:], rows_of(data, given))
    histories = data.training_histories()
    labels = np.append(-1, rows_of(data, cluster_items(given, 3)))
    expected = profile_vectors(features.items, interest_clusters(features.items, labels, histories))
    np.testing.assert_array_equal(features.profiles[histories.user_ids], expected)
    assert "given by the user" in features.provenance["items"]["made_by"]
    json.dumps(features.provenance)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.full((11, 6), np.nan), "NaN or infinite"),
        (np.zeros((10, 6)), "10 x 6, but 11 rows"),
        (np.zeros(11), "a float matrix"),
        (np.zeros((11, 0)), "width at least 1"),
    ],
)
def test_an_unfit_matrix_is_one_clear_error(folder, content, message):
    np.save(folder / "given.npy", content)
    with pytest.raises(FeatureError, match=f"item_features_file.*{message}"):
        build_llm_features(config(folder, item_features_file=str(folder / "given.npy")), dataset())


def test_splits_keep_profiles_of_their_own(folder, given):
    keys = config(folder, item_features_file="given.npy")
    shorter = {user: history[:-1] or history for user, history in HISTORIES.items()}
    long = build_llm_features(keys, dataset()).profiles
    short = build_llm_features(keys, dataset(shorter)).profiles
    assert len(list((folder / "features").glob("profiles-given.npy-*.json"))) == 2
    assert not np.array_equal(long, short)
    np.testing.assert_array_equal(build_llm_features(keys, dataset()).profiles, long)
    assert len(list((folder / "features").iterdir())) == 4


def test_profiles_of_another_item_matrix_are_not_taken(folder, given):
    keys = config(folder, item_features_file="given.npy")
    before = build_llm_features(keys, dataset())
    np.save(folder / "given.npy", given[::-1].copy())
    after = build_llm_features(keys, dataset())
    assert not np.array_equal(before.profiles, after.profiles)


def test_damaged_profiles_are_refused(folder, given):
    keys = config(folder, item_features_file="given.npy")
    build_llm_features(keys, dataset())
    [sidecar] = (folder / "features").glob("profiles-*.json")
    content = json.loads(sidecar.read_text())
    for field, value in {
        "texts_sha256": "0" * 64,
        "tokens_sha256": "0" * 64,
        "how": "otherwise",
        "made_by": "an LLM",
    }.items():
        sidecar.write_text(json.dumps(content | {field: value}))
        with pytest.raises(FeatureError, match=f"{sidecar.name} is stale: {field}"):
            build_llm_features(keys, dataset())


def test_permutation_control_moves_text_within_domains_only(folder, given):
    keys = config(folder, item_features_file="given.npy")
    plain = build_llm_features(keys, dataset())
    control = build_llm_features(keys | {"llm_permute_seed": 7}, dataset())
    for begin, end in ((1, 7), (7, 12)):
        ours, theirs = control.items[begin:end], plain.items[begin:end]
        assert not np.array_equal(ours, theirs)
        np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(theirs, axis=0))
        assert {tuple(row) for row in ours} == {tuple(row) for row in theirs}
    assert not control.items[0].any()
    # The profiles are those of the permuted items, in the clusters there were.
    data = dataset()
    histories = data.training_histories()
    row_of_vector = {tuple(row): place for place, row in enumerate(given)}
    labels = cluster_items(given, 3)[[row_of_vector[tuple(row)] for row in control.items[1:]]]
    interests = interest_clusters(control.items, np.append(-1, labels), histories)
    np.testing.assert_array_equal(control.profiles[histories.user_ids], profile_vectors(control.items, interests))
    assert not np.array_equal(control.profiles, plain.profiles)
    assert control.provenance["permute_seed"] == control.provenance["items"]["permute_seed"] == 7
    assert control.provenance["profiles"]["made_of_items"]["permute_seed"] == 7
    assert plain.provenance["permute_seed"] is None
    # The same seed gives every split the same permutation, another seed another.
    other_ids = build_llm_features(keys | {"llm_permute_seed": 7}, dataset(order_seed=3))
    by_token = [
        pd.Series(list(map(tuple, features.items)), index=of.tokens["item_id"]).sort_index().tolist()
        for features, of in ((control, data), (other_ids, dataset(order_seed=3)))
    ]
    assert by_token[0] == by_token[1]
    assert not np.array_equal(build_llm_features(keys | {"llm_permute_seed": 8}, dataset()).items, control.items)


def test_permuted_profile_texts_are_of_the_permuted_titles(encoder, folder):
    keys = config(folder, profile_encoding="text", profile_clusters=1, llm_permute_seed=7)
    features, data = build_llm_features(keys, dataset()), dataset()
    cid = features.profiles[data.tokens["user_id"].index("cid")]
    [title] = [
        title
        for title, vector in zip(TITLES["food"], encoder.encode(TITLES["food"]), strict=True)
        if np.allclose(vector, features.items[data.tokens["item_id"].index("food:3")], atol=1e-5)
    ]
    assert title != "Olive oil"
    np.testing.assert_allclose(cid, encoder.encode([f"Interests: {title}"])[0], atol=1e-5)


@pytest.mark.parametrize("keys", [{"use_profiles": False}, {"profile_generator": "none"}])
def test_profiles_are_left_out_when_not_wanted(folder, given, keys):
    features = build_llm_features(config(folder, item_features_file="given.npy", **keys), dataset())
    assert features.profiles is None
    assert features.provenance["profiles"] is None
    assert not (folder / "features").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"profile_generator": "gpt"}, "profile_generator is 'gpt'; it must be one of extractive, none"),
        ({"profile_encoding": "tokens"}, "profile_encoding is 'tokens'; it must be one of"),
        ({"profile_clusters": 0}, "profile_clusters is 0; it must be a whole number, 1 or more"),
        ({"profile_clusters": True}, "profile_clusters is True; it must be a whole number, 1 or more"),
        ({"llm_batch_size": "big"}, "llm_batch_size is 'big'; it must be a whole number"),
        ({"llm_permute_seed": 1.5}, r"llm_permute_seed is 1\.5; it must be a whole number"),
        ({"item_features_file": 3}, "item_features_file is 3; it must be a name or path"),
    ],
)
def test_values_that_cannot_be_are_config_errors(folder, keys, message):
    with pytest.raises(ConfigError, match=message):
        build_llm_features(config(folder, **keys), dataset())


def test_item_without_features_is_refused(folder, given):
    data = FlatDataset("toy", {"food": ["food:0", "food:77"], "tool": ["tool:1"]}, {"ann": ["food:0"]})
    with pytest.raises(FeatureError, match=r"1 of 3 items have no features .first 'food:77'"):
        build_llm_features(config(folder, item_features_file="given.npy"), data)


def test_unwritable_features_folder_is_said_before_anything_is_encoded(encoder, folder, caplog):
    (folder / "file").write_text("")
    with caplog.at_level(logging.INFO), pytest.raises(FeatureError, match="llm_features_dir"):
        build_llm_features(config(folder, llm_features_dir=str(folder / "file" / "features")), dataset())
    assert "encoding" not in caplog.text


def test_a_recbole_like_config_that_answers_none_will_do(folder, given):
    class AnswersNone(dict):
        def __missing__(self, key: str) -> None:
            return None

    keys = AnswersNone(data_path=str(folder), item_features_file="given.npy", profile_clusters=3)
    expected = build_llm_features(config(folder, item_features_file="given.npy"), dataset())
    np.testing.assert_array_equal(build_llm_features(keys, dataset()).profiles, expected.profiles)


def test_what_two_runs_want_at_once_is_made_by_one_of_them(folder, encoder, caplog):
    caplog.set_level(logging.INFO)
    build_llm_features(config(folder), dataset())
    sets = sorted((folder / "features").glob("*.json"))
    assert [path.name.partition("-")[0] for path in sets] == ["items", "profiles"]
    for path in (folder / "features").iterdir():
        path.unlink()

    caplog.clear()
    locks = [take_lock(path.with_suffix(".lock")) for path in sets]  # a third one is making them
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(build_llm_features, config(folder), dataset()) for _ in range(2)]
        try:
            while sum("another process is at it" in message for message in caplog.messages) < 2:
                assert not any(run.done() for run in runs)
                time.sleep(0.01)
        finally:  # else the pool would wait for a run that waits for ever
            for lock in locks:
                lock.release()
        first, second = (run.result() for run in runs)
    np.testing.assert_array_equal(first.items, second.items)
    np.testing.assert_array_equal(first.profiles, second.profiles)
    for what in ("Item features", "User profiles"):
        told = [message for message in caplog.messages if message.startswith(f"{what}: ")]
        assert [sum(word in message for message in told) for word in ("made in", "reused")] == [1, 1], told
    assert not list((folder / "features").glob("*.lock"))
