"""Loaders: batches, their sizes, and the models that are turned away."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_cdsr.data import loaders
from recbole_cdsr.data.loaders import JudgedRowsLoader, prepare_loaders
from recbole_cdsr.errors import ConfigError, DataError

MIXED = [2, 3, 4, 2, 3, 5, 8, 13, 4, 30, 6]


@pytest.mark.parametrize("model", ["GRU4Rec", "BERT4Rec", "BPR", "Pop", "LLM4CDSR"])
def test_every_judged_row_comes_once_and_in_order(write_dataset, load, random_data, model):
    write_dataset(*random_data(MIXED))
    data = load(model, eval_batch_size=3, MAX_ITEM_LIST_LENGTH=5)
    _, *judged = prepare_loaders(data.config, data)
    for loader, phase in zip(judged, ("valid", "test"), strict=True):
        split = loader._dataset
        rows = split.evaluation_rows()
        assert split.phase == phase
        batches = [batch for batch, *_ in loader]
        assert [len(batch) for batch in batches] == [3] * (len(rows) // 3) + [len(rows) % 3] * (len(rows) % 3 > 0)
        for field, expected in (
            ("row_id", np.arange(len(rows))),
            ("user_id", rows.users),
            ("item_id", rows.targets),
            ("target_domain", rows.target_domains),
        ):
            np.testing.assert_array_equal(torch.cat([batch[field] for batch in batches]), expected)
        again = torch.cat([batch["item_id"] for batch, *_ in loader])
        np.testing.assert_array_equal(again, rows.targets)
        _, history, positive_users, positive_items = next(iter(loader))
        assert history is None
        assert positive_users.tolist() == [0, 1, 2]
        np.testing.assert_array_equal(positive_items, rows.targets[:3])


def test_batches_are_bounded_by_the_scores_they_lead_to(write_dataset, load, random_data, monkeypatch):
    write_dataset(*random_data(MIXED))
    data = load(eval_batch_size=100)
    monkeypatch.setattr(loaders, "SCORES_PER_BATCH_CPU", 4 * data.item_num + 1)
    test = data.build()[2]
    assert [len(batch) for batch, *_ in JudgedRowsLoader(data.config, test)] == [4] * (len(test) // 4) + [len(test) % 4]
    monkeypatch.setattr(loaders, "SCORES_PER_BATCH_CPU", 1)
    assert len(JudgedRowsLoader(data.config, test)) == len(test)


@pytest.mark.parametrize("model", ["GRU4Rec", "LLM4CDSR"])
def test_training_batches_cover_every_row_in_the_seeds_order(write_dataset, load, random_data, model):
    write_dataset(*random_data(MIXED))
    settings = {"train_batch_size": 4, "MAX_ITEM_LIST_LENGTH": 5}
    passes = []
    for seed in (1, 1, 2):
        data = load(model, seed=seed, **settings)
        loader, *_ = prepare_loaders(data.config, data)
        rows = [row for b in loader for row in zip(b["user_id"].tolist(), b["item_id"].tolist(), strict=True)]
        every = loader._dataset[:]
        assert sorted(rows) == sorted(zip(every["user_id"].tolist(), every["item_id"].tolist(), strict=True))
        passes.append(rows)
    assert passes[0] == passes[1] != passes[2]


def test_recboles_negatives_of_general_models_are_unseen_in_training(write_dataset, load, random_data):
    write_dataset(*random_data(MIXED, sizes=(20, 20), alike=False))
    data = load("BPR", train_batch_size=16)
    loader, *_ = prepare_loaders(data.config, data)
    trained = loader._dataset.inter_matrix().toarray()
    for batch in loader:
        assert not trained[batch["user_id"], batch["neg_item_id"]].any()
        assert (batch["neg_item_id"] > 0).all()


def test_a_split_without_rows_gives_an_empty_loader(write_dataset, load):
    """Users of three interactions are tested and not validated."""
    items = {"a1": "a", "a2": "a", "b1": "b", "b2": "b"}
    write_dataset(items, [(user, item, float(n)) for user in ("u", "w") for n, item in enumerate(list(items)[:3])])
    for model in ("GRU4Rec", "BPR", "LLM4CDSR"):
        data = load(model)
        train, valid, test = prepare_loaders(data.config, data)
        assert list(valid) == []
        assert len(valid._dataset.evaluation_rows()) == 0
        assert [len(batch) for batch, *_ in test] == [2]
        assert len(next(iter(train)))


def test_a_user_of_all_items_leaves_recboles_sampler_without_negatives(write_dataset, load):
    items = {"a1": "a", "a2": "a", "b1": "b"}
    write_dataset(items, [("u", item, float(n)) for n, item in enumerate(items)])
    data = load("BPR")
    with pytest.raises(DataError, match="'tiny' leaves BPR without negatives"):
        prepare_loaders(data.config, data)


def test_models_of_other_kinds_are_turned_away(write_dataset, load, random_data):
    write_dataset(*random_data(MIXED))
    data = load("FM")
    with pytest.raises(ConfigError, match="FM is a context model"):
        prepare_loaders(data.config, data)
