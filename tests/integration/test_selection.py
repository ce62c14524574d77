"""Which epoch is kept and judged, with a model whose quality in each domain and epoch is known beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType

from recbole_cdsr.data.atomic import write_atomic
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.trainer.checkpoint import load_checkpoint

ONE_BATCH = {"train_batch_size": 100_000}


class Scripted(GeneralRecommender):
    """Ranks items of the topic a user likes first in the epochs named for a domain, and last in the others.

    Its only state is the number of batches it has learnt from; with `ONE_BATCH` that is the number of epochs.
    """

    input_type = InputType.POINTWISE
    good_epochs: ClassVar[dict[str, set[int]]] = {}

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        users = dataset.id2token(dataset.uid_field, np.arange(1, dataset.user_num))
        items = dataset.id2token(dataset.iid_field, np.arange(1, dataset.item_num))
        liked = torch.tensor([-1, *(int(token[1:]) % 5 for token in users)])  # [n_users]
        topics = torch.tensor([-2, *(int(token.split(":")[1]) % 5 for token in items)])  # [n_items]
        self.fits = (liked[:, None] == topics).float()  # [n_users, n_items]
        # Among equals an item's number decides, so that no rank is shared.
        self.fits += torch.arange(dataset.item_num) / (10 * dataset.item_num)
        self.domain_names = dataset.domain_names
        self.item_domain = torch.as_tensor(dataset.item_domain)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def calculate_loss(self, interaction):
        self.batches += 1
        return (self.weight**2).sum()

    def full_sort_predict(self, interaction):
        epoch = int(self.batches) - 1
        signs = torch.tensor([1.0 if epoch in self.good_epochs[name] else -1.0 for name in self.domain_names] + [1.0])
        return self.fits[interaction[self.USER_ID]] * signs[self.item_domain]  # item 0: domain -1, the last

    def predict(self, interaction):
        return self.fits[interaction[self.USER_ID], interaction[self.ITEM_ID]]


@pytest.fixture
def scripted():
    """`scripted({"books": {1}, "movies": {3}})`: the model with that script."""

    def scripted(good_epochs):
        return type("Scripted", (Scripted,), {"good_epochs": good_epochs, "__module__": __name__})

    return scripted


def test_per_domain_keeps_and_judges_by_an_epoch_for_each_domain(tiny, run, scripted):
    model = scripted({"books": {1}, "movies": {3}})
    result = run(model, tiny, **ONE_BATCH, epochs=50, select="per_domain", stopping_step=2)
    folder = Path(result["run_dir"])

    assert result["best_epoch"] == {"books": 1, "movies": 3}
    assert load_checkpoint(folder / "best_books.pth")["epoch"] == 1
    assert load_checkpoint(folder / "best_movies.pth")["epoch"] == 3
    assert not (folder / "best.pth").exists()
    # Epochs 4, 5 and 6 improve in no domain; more than stopping_step of them end it.
    assert result["epochs"] == 7

    # Judged like a model that is good in both domains at once, in validation too.
    always = run(scripted({"books": {0}, "movies": {0}}), tiny, **ONE_BATCH, epochs=1)
    assert result["test"] == always["test"]
    assert result["best_valid"] == always["best_valid"]
    one_epoch = run(model, tiny, **ONE_BATCH, epochs=7)
    assert result["test"]["overall"]["ndcg@10"] > one_epoch["test"]["overall"]["ndcg@10"]


def test_a_domain_that_improves_late_keeps_training_going(tiny, run, scripted):
    model = scripted({"books": {0}, "movies": {2, 5, 8}})  # drawing level counts, as in RecBole
    result = run(model, tiny, **ONE_BATCH, epochs=50, select="per_domain", stopping_step=2)
    assert result["best_epoch"] == {"books": 0, "movies": 8}
    assert result["epochs"] == 12


@pytest.mark.parametrize(("metric", "epoch"), [("NDCG@10_books", 1), ("NDCG@10_movies", 3), ("ndcg@5_MOVIES", 3)])
def test_one_domain_selects_for_all(tiny, run, scripted, metric, epoch):
    result = run(scripted({"books": {1}, "movies": {3}}), tiny, **ONE_BATCH, epochs=5, valid_metric=metric)
    assert result["best_epoch"] == epoch
    assert load_checkpoint(Path(result["run_dir"]) / "best.pth")["epoch"] == epoch
    domain = metric.lower().partition("_")[2]
    assert result["best_valid_score"] == result["best_valid"][f"{metric.lower().partition('_')[0]}_{domain}"]
    good, bad = (
        result["test"]["domains"][domain],
        result["test"]["domains"][{"books": "movies", "movies": "books"}[domain]],
    )
    assert good["ndcg@10"] > bad["ndcg@10"]


def test_overall_selects_the_epoch_that_is_best_over_all_rows(tiny, run, scripted):
    result = run(scripted({"books": {1, 2}, "movies": {2, 3}}), tiny, **ONE_BATCH, epochs=5)
    assert result["best_epoch"] == 2


@pytest.mark.parametrize("model", ["BPR", "LLM4CDSR"])
def test_an_unknown_domain_is_refused_before_anything_is_made(tiny, run, model):
    with pytest.raises(ConfigError, match="there is no domain 'music'; the dataset has books, movies"):
        run(model, tiny, valid_metric="NDCG@10_music", result_file="result.json")
    assert not Path("saved").exists()
    assert not Path("result.json").exists()
    assert not (tiny.folder / "features").exists()


@pytest.fixture
def books_validate(tiny):
    """Every validation target is a book; test targets are of both domains."""
    frame = tiny.interactions.sort_values(["user_id", "timestamp"], kind="stable").reset_index(drop=True)
    place = frame.groupby("user_id").cumcount(ascending=False).to_numpy()  # 0: the last of the user
    books = frame["item_id"].str.startswith("books").to_numpy()
    first_book = frame[books & (place > 0)].groupby("user_id").head(1).index.to_numpy()
    swapped = frame["item_id"].to_numpy(dtype=object, copy=True)
    last_but_one = np.flatnonzero(place == 1)
    swapped[first_book], swapped[last_but_one] = swapped[last_but_one], swapped[first_book].copy()
    frame["item_id"] = swapped
    types = {"user_id": "token", "item_id": "token", "timestamp": "float"}
    write_atomic(tiny.folder / "tiny.inter", pd.DataFrame(frame), types)
    return tiny


def test_a_domain_without_validation_rows_is_judged_by_the_epoch_best_over_all(books_validate, run, scripted):
    model = scripted({"books": {2}, "movies": {2}})
    result = run(model, books_validate, **ONE_BATCH, epochs=5, select="per_domain")
    assert result["best_epoch"] == {"books": 2}
    assert load_checkpoint(Path(result["run_dir"]) / "best.pth")["epoch"] == 2
    assert result["test"]["domains"]["movies"]["count"] > 0
    always = run(scripted({"books": {0}, "movies": {0}}), books_validate, **ONE_BATCH, epochs=1)
    assert result["test"] == always["test"]

    again = run(model, books_validate, **ONE_BATCH, epochs=5, select="per_domain", resume=True)
    assert again["run_dir"] == result["run_dir"]
    assert (again["test"], again["best_valid"]) == (result["test"], result["best_valid"])

    with pytest.raises(ConfigError, match="no validation row has its target in 'movies'"):
        run(model, books_validate, valid_metric="NDCG@10_movies")


@pytest.mark.parametrize("select", ["overall", "per_domain"])
def test_without_validation_rows_the_last_epoch_is_judged(make_dataset, run, read_json, select):
    """Users with three interactions have a test row only (RecBole's rule)."""
    dataset = make_dataset(n_per_user=2)
    three = dataset.interactions.sort_values(["user_id", "timestamp"]).groupby("user_id").head(3)
    write_atomic(dataset.folder / "tiny.inter", three, {"user_id": "token", "item_id": "token", "timestamp": "float"})
    result = run("BPR", dataset, epochs=3, select=select, result_file="result.json")
    assert read_json("result.json")["best_valid"] == {}
    assert result["best_valid_score"] is None
    assert result["epochs"] == 3
    assert result["test"]["overall"]["count"] == 60
    assert load_checkpoint(Path(result["run_dir"]) / "best.pth")["epoch"] == 2
    again = run("BPR", dataset, epochs=5, select=select, resume=True)
    assert again["train_losses"][:3] == result["train_losses"]
    assert load_checkpoint(Path(result["run_dir"]) / "best.pth")["epoch"] == 4


def test_without_test_rows_the_table_counts_none(make_dataset, run):
    dataset = make_dataset(n_per_user=2)
    two = dataset.interactions.sort_values(["user_id", "timestamp"]).groupby("user_id").head(2)
    write_atomic(dataset.folder / "tiny.inter", two, {"user_id": "token", "item_id": "token", "timestamp": "float"})
    result = run("BPR", dataset, epochs=1)
    assert result["test"]["overall"] == {"count": 0}
    assert result["test"]["domains"] == {"books": {"count": 0}, "movies": {"count": 0}}


def test_stopping_updates_lengthen_the_wait_and_a_given_number_of_validations_does_not(tiny, run, scripted):
    model = scripted({"books": {1}, "movies": {1}})
    settings = ONE_BATCH | {"epochs": 50, "run_dir": "run"}  # a step an epoch
    waited = run(model, tiny, **settings, stopping_step=2, stopping_updates=5)
    assert waited["epochs"] == 1 + 1 + 5 + 1  # epochs 0 and 1, five without a better one, and the one that ends it
    again = run(model, tiny, **settings, stopping_step=2, stopping_updates=5, resume=True)
    assert again["epochs"] == waited["epochs"]
    assert run(model, tiny, **settings | {"run_dir": "other"}, stopping_step=2)["epochs"] == 1 + 1 + 2 + 1
