"""Pseudo items of a dataset: which users, from which rows, kept how."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.llm.pseudo_features import build_pseudo_items
from recbole_cdsr.llm.pseudo_items import PseudoItems
from recbole_cdsr.llm.pseudo_retrieval import RETRIEVAL_GENERATOR

from .flat_dataset import FlatDataset

ITEMS = {domain: [f"{domain}:{i}" for i in range(6)] for domain in ("food", "tool", "book")}
HISTORIES = {
    "ann": ["food:0", "tool:0", "food:1", "tool:1", "tool:2", "tool:3"],  # overlapped, near to eve
    "bob": ["food:4", "food:5", "tool:4", "tool:5", "tool:0"],
    "cid": ["tool:1", "tool:2", "tool:3"],
    "dan": ["food:5", "food:4"],
    "eve": ["food:0", "food:1"],
    "fay": ["book:1", "book:2"],  # nobody has books and anything else
}


def write_toy(folder: Path, seed: int = 1) -> dict[str, object]:
    """The `.item` file and item vectors of the toy dataset; the settings to build with."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [token for of in ITEMS.values() for token in of]
    frame = pd.DataFrame(
        {"item_id:token": tokens, "domain:token": [token.split(":")[0] for token in tokens]}
        | {"title:token_seq": [f"Title of {token}" for token in tokens]}
    )
    frame.to_csv(folder / "toy.item", sep="\t", index=False)
    np.save(folder / "given.npy", np.random.default_rng(seed).standard_normal((len(tokens), 6)).astype(np.float32))
    return {"data_path": str(folder), "item_features_file": "given.npy", "show_progress": False}


def build(folder: Path, histories=HISTORIES, held_out=(), seed: int = 1, **keys) -> tuple[PseudoItems, FlatDataset]:
    dataset = FlatDataset("toy", ITEMS, histories, held_out_users=held_out)
    return build_pseudo_items(write_toy(folder, seed) | keys, dataset), dataset


def named(found: tuple[PseudoItems, FlatDataset]) -> dict[tuple[str, str], list[str]]:
    pseudo, dataset = found
    return {
        (str(dataset.id2token("user_id", user)), dataset.domain_names[into]): pseudo.names_of(pair)
        for pair, (user, into) in enumerate(zip(pseudo.user_ids, pseudo.into_domain, strict=True))
    }


def test_single_domain_users_get_names_of_the_other_domains(tmp_path):
    found = build(tmp_path)
    assert named(found)["eve", "tool"] == ["Title of tool:3", "Title of tool:2", "Title of tool:1", "Title of tool:0"]
    assert {user for user, _ in named(found)} == {"dan", "eve"}  # cid's donors have two food items, not three


def test_a_vector_is_the_item_row_of_its_name(tmp_path):
    pseudo, _ = build(tmp_path)
    matrix = np.load(tmp_path / "given.npy")
    tokens = [token for of in ITEMS.values() for token in of]
    assert pseudo.vectors.dtype == np.float32
    for name, vector in zip(pseudo.names, pseudo.vectors, strict=True):
        np.testing.assert_array_equal(vector, matrix[tokens.index(name.removeprefix("Title of "))])


def test_who_has_too_few_names_is_reported(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        pseudo, _ = build(tmp_path)
    short = pseudo.provenance["too_few"]
    # cid into food; cid, dan, eve into book; fay into food and tool.
    assert short == {
        "pairs": 6,
        "by_domain": {"food": 2, "tool": 1, "book": 3},
        "first_users": ["cid", "dan", "eve", "fay"],
    }
    assert "6 of 8 have fewer than 3 different names" in caplog.text
    assert "cid, dan, eve" in caplog.text
    assert pseudo.provenance["made_by"] == RETRIEVAL_GENERATOR
    assert "no LLM" in RETRIEVAL_GENERATOR


def test_fewer_names_suffice_when_told_so(tmp_path):
    assert named(build(tmp_path, pseudo_min_names=2))["cid", "food"] == ["Title of food:1", "Title of food:0"]


def test_the_second_time_nothing_is_made(tmp_path, caplog):
    first, _ = build(tmp_path)
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()}
    with caplog.at_level(logging.INFO):
        second, _ = build(tmp_path)
    assert "reused" in caplog.text
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()} == files
    for field in ("user_ids", "into_domain", "pointers", "name_ids", "vectors"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    assert (first.names, first.provenance) == (second.names, second.provenance)
    assert sorted(Path(name).suffixes[-1] for name in files) == [".json", ".safetensors", ".txt"]


def test_held_out_users_neither_get_nor_give(tmp_path):
    everybody = named(build(tmp_path / "a"))
    without = named(build(tmp_path / "b", held_out=["ann", "dan"]))
    assert ("dan", "tool") in everybody
    assert ("dan", "tool") not in without
    assert without["eve", "tool"] == ["Title of tool:0", "Title of tool:5", "Title of tool:4"]  # bob's, not ann's


def test_other_histories_or_vectors_make_another_set(tmp_path):
    build(tmp_path)
    other = HISTORIES | {"eve": ["food:5", "food:4"]}
    assert named(build(tmp_path, other))["eve", "tool"] == ["Title of tool:0", "Title of tool:5", "Title of tool:4"]
    build(tmp_path, seed=2)
    assert len(list((tmp_path / "features").glob("pseudo-*.json"))) == 3


@pytest.mark.parametrize("damage", ["names", "cut", "pointers", "stale"])
def test_a_damaged_set_is_refused_in_one_line(tmp_path, damage):
    build(tmp_path)
    (sidecar,) = (tmp_path / "features").glob("pseudo-*.json")
    tensors, names = sidecar.with_suffix(".safetensors"), sidecar.with_suffix(".names.txt")
    if damage == "names":
        names.write_text(names.read_text().replace("tool:3", "tool:9"))
    elif damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-8])
    elif damage == "pointers":
        from safetensors import safe_open
        from safetensors.numpy import load_file, save_file

        content = load_file(tensors)
        with safe_open(tensors, framework="numpy") as stream:
            metadata = stream.metadata()
        content["name_ids"][0] = 10_000
        save_file(content, tensors, metadata)
    else:
        content = json.loads(sidecar.read_text())
        sidecar.write_text(json.dumps(content | {"min_names": 1}))
    with pytest.raises(FeatureError) as error:
        build(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_impossible_limits_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="pseudo_min_names is 5; it must be at most pseudo_max_names, 4"):
        build(tmp_path, pseudo_min_names=5, pseudo_max_names=4)
    with pytest.raises(ConfigError, match="pseudo_generator"):
        build(tmp_path, pseudo_generator="magic")
