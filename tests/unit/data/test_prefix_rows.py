"""Training rows of our prefix models: RecBole's rows, with negatives of the target's domain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_cdsr.data.loaders import prepare_loaders
from recbole_cdsr.errors import ConfigError

MIXED = [2, 3, 4, 2, 3, 5, 8, 13, 4, 30, 6]
SETTINGS = {"MAX_ITEM_LIST_LENGTH": 5, "n_negatives": 7}


@pytest.mark.parametrize("sizes", [(9, 7), (5, 6, 4)])
def test_rows_are_those_of_a_baseline_without_its_padding(write_dataset, load, random_data, sizes):
    write_dataset(*random_data(MIXED, sizes=sizes))
    ours, theirs = load("LeCDSR", **SETTINGS).build(), load("GRU4Rec", **SETTINGS).build()
    for our_part, their_part in zip(ours, theirs, strict=True):
        for index in (slice(None), [0], [2, 1]):
            a, b = our_part[index], their_part[index]
            width = int(b["item_length"].max())
            for field in ("user_id", "item_id", "item_length", "target_domain"):
                assert torch.equal(a[field], b[field]), field
            assert torch.equal(a["item_id_list"], b["item_id_list"][:, :width])
            own = {"neg_item_id"} if our_part is ours[0] else {"row_id"}
            assert set(a.interaction) == {
                *("user_id", "item_id", "timestamp", "item_length", "item_id_list", "target_domain"),
                *own,
            }


def test_every_prefix_of_two_interactions_or_more_is_a_row(write_dataset, load):
    items = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "b3": "b"}
    write_dataset(items, [("u", item, float(n)) for n, item in enumerate(items)])
    train, *_ = load("LeCDSR", MAX_ITEM_LIST_LENGTH=15, n_negatives=2).build()
    rows = train[:]
    windows = [train.id2token("item_id", window[window > 0].numpy()).tolist() for window in rows["item_id_list"]]
    targets = train.id2token("item_id", rows["item_id"].numpy()).tolist()
    assert list(zip(windows, targets, strict=True)) == [(["a1"], "a2"), (["a1", "a2"], "b1")]


@pytest.mark.parametrize("shared", [False, True])
def test_negatives_are_of_the_targets_domain_and_not_of_the_users_training_items(
    write_dataset, load, random_data, shared
):
    write_dataset(*random_data(MIXED, sizes=(40, 50), alike=False))
    data = load("LeCDSR", **SETTINGS, shared_negatives=shared, train_batch_size=16)
    loader, *_ = prepare_loaders(data.config, data)
    trained = loader._dataset.inter_matrix().toarray()
    np.random.seed(0)
    for batch in loader:
        negatives, domains = batch["neg_item_id"], batch["target_domain"]
        assert negatives.shape == (len(batch), 7)
        np.testing.assert_array_equal(data.item_domain[negatives], np.repeat(domains[:, None], 7, axis=1))
        assert not trained[batch["user_id"][:, None], negatives].any()
        distinct = {(int(domain), int(item)) for domain, row in zip(domains, negatives, strict=True) for item in row}
        if shared:  # seven of each domain, and replacements of what a user has consumed
            assert len(distinct) < 40
        elif len(batch) == 16:
            assert len(distinct) > 45


def test_the_number_of_negatives_is_checked(write_dataset, load, random_data):
    write_dataset(*random_data(MIXED))
    with pytest.raises(ConfigError, match="n_negatives is 0"):
        load("LeCDSR", n_negatives=0).build()


def test_recboles_own_negatives_are_not_drawn_on_top(write_dataset, load, random_data):
    write_dataset(*random_data(MIXED))
    data = load("LeCDSR", train_neg_sample_args={"distribution": "uniform", "sample_num": 3}, **SETTINGS)
    assert any("LeCDSR draws its negatives itself" in notice for notice in data.config.notices)
    loader, *_ = prepare_loaders(data.config, data)
    assert sum(len(batch) for batch in loader) == len(loader._dataset)
