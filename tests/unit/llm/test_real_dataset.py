"""The features of a dataset as the run loads it: who is described by what, and what must never leak in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.data.dataset import CrossDomainSequentialDataset
from recbole_cdsr.llm.features import LLMFeatures
from recbole_cdsr.llm.store import align

ITEMS = [f"{domain}:{i}" for domain in ("food", "tool") for i in range(8)]
HISTORIES = {
    "ann": ["food:0", "tool:2", "food:2", "food:5", "tool:7", "food:6"],
    "bob": ["tool:0", "tool:1", "tool:3", "food:4", "tool:5"],
    "cid": ["food:3", "food:1", "tool:4", "tool:6", "food:7"],
}
MATRIX = np.random.default_rng(1).standard_normal((len(ITEMS), 6)).astype(np.float32)


def write_rows(path: Path, histories: dict[str, list[str]]) -> None:
    rows = [f"{user}\t{item}\t1\t{time}\n" for user, history in histories.items() for time, item in enumerate(history)]
    path.write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "".join(rows))


def features_of(folder: Path, files: dict[str, dict[str, list[str]]], **keys) -> tuple[LLMFeatures, object]:
    """Features of a dataset with these interaction files: `{"": ...}` for one, or train, valid and test."""
    data = folder / "toy"
    data.mkdir(parents=True)
    for part, histories in files.items():
        write_rows(data / f"toy.{part}.inter" if part else data / "toy.inter", histories)
    lines = [f"{token}\t{token.split(':')[0]}\tTitle of {token}\n" for token in ITEMS]
    (data / "toy.item").write_text("item_id:token\tdomain:token\ttitle:token_seq\n" + "".join(lines))
    np.save(data / "given.npy", MATRIX)
    settings = {
        "data_path": str(folder),
        "item_features_file": "given.npy",
        "profile_clusters": 3,
        "show_progress": False,
        "use_gpu": False,
    }
    config = CDSRConfig(model="LLM4CDSR", dataset="toy", config_dict=settings | keys)
    dataset = CrossDomainSequentialDataset(config)
    dataset.build()
    return dataset.llm_features, dataset


def profile(features: LLMFeatures, dataset: object, user: str) -> np.ndarray:
    return features.profiles[dataset.token2id(dataset.uid_field, user)]


def test_every_internal_id_has_the_row_of_its_token(tmp_path):
    features, dataset = features_of(tmp_path, {"": HISTORIES})
    tokens = dataset.id2token(dataset.iid_field, np.arange(1, dataset.item_num))
    np.testing.assert_array_equal(features.items[1:], align(MATRIX, ITEMS, tokens))
    assert features.items.shape == (dataset.item_num, 6)
    assert features.profiles.shape == (dataset.user_num, 6)
    assert not features.profiles[0].any()


@pytest.mark.parametrize("places_from_the_end", [1, 2], ids=["test target", "validation target"])
def test_targets_never_reach_a_profile(tmp_path, places_from_the_end):
    other = {user: list(history) for user, history in HISTORIES.items()}
    other["ann"][-places_from_the_end] = "food:1"
    before = features_of(tmp_path / "a", {"": HISTORIES})
    after = features_of(tmp_path / "b", {"": other})
    for user in HISTORIES:
        np.testing.assert_allclose(profile(*before, user), profile(*after, user), atol=1e-6)


def test_the_training_part_does_reach_it(tmp_path):
    other = {user: list(history) for user, history in HISTORIES.items()}
    other["ann"][2] = "food:1"
    before, after = features_of(tmp_path / "a", {"": HISTORIES}), features_of(tmp_path / "b", {"": other})
    assert not np.allclose(profile(*before, "ann"), profile(*after, "ann"), atol=1e-2)
    np.testing.assert_allclose(profile(*before, "bob"), profile(*after, "bob"), atol=1e-6)


def test_a_held_out_user_is_described_by_what_came_before_the_target(tmp_path):
    files = {
        "train": HISTORIES,
        "valid": {"eva": ["food:0", "tool:1", "food:2"]},
        "test": {"fay": ["tool:5", "food:4"]},
    }
    other = files | {"valid": {"eva": ["food:0", "tool:1", "food:6"]}, "test": {"fay": ["tool:5", "food:7"]}}
    before, after = features_of(tmp_path / "a", files), features_of(tmp_path / "b", other)
    for user in ("eva", "fay"):
        assert np.linalg.norm(profile(*before, user)) == pytest.approx(1.0, abs=1e-5)
        np.testing.assert_allclose(profile(*before, user), profile(*after, user), atol=1e-6)
    fay = MATRIX[ITEMS.index("tool:5")]
    np.testing.assert_allclose(profile(*before, "fay"), fay / np.linalg.norm(fay), atol=1e-5)


def test_permutation_is_the_same_for_every_split(tmp_path):
    shorter = {user: history[:-1] for user, history in HISTORIES.items()}
    (full, one), (short, two) = (
        features_of(tmp_path / name, {"": histories}, llm_permute_seed=3)
        for name, histories in (("a", HISTORIES), ("b", shorter))
    )
    for token in ITEMS:
        row, other = one.token2id("item_id", token), two.token2id("item_id", token)
        np.testing.assert_array_equal(full.items[row], short.items[other])
    moved = [
        token
        for token in ITEMS
        if not np.array_equal(full.items[one.token2id("item_id", token)], MATRIX[ITEMS.index(token)])
    ]
    assert len(moved) > 8
