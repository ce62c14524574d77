"""RecBole itself on this stack: every mend does what it is for, and nothing else is touched."""

from __future__ import annotations

import sys
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import Dataset
from recbole.data.dataset import dataset as recbole_dataset
from recbole.evaluator.metrics import NDCG
from recbole.model.general_recommender import BPR, LightGCN
from recbole.quick_start import run_recbole
from recbole.trainer import Trainer
from recbole.utils import init_seed
from scipy.sparse import dok_matrix

from recbole_cdsr import compat

N_USERS, N_ITEMS = 12, 15
# Item 3 has no title, item 4 no price, item 5 no colour, item 6 no tags and no weights.
TITLES = ["" if i == 3 else f"title of {i}" for i in range(N_ITEMS)]
PRICES = ["" if i == 4 else f"{1.5 * i + 0.1}" for i in range(N_ITEMS)]
COLOURS = ["" if i == 5 else "red blue"[4 * (i % 2) :].split()[0] for i in range(N_ITEMS)]
WEIGHTS = ["" if i == 6 else f"{i}.25 0.5" for i in range(N_ITEMS)]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that makes RecBole's own Config for a small data set with missing values."""
    monkeypatch.setattr(sys, "argv", ["test"])  # RecBole reads the command line
    folder = tmp_path / "data" / "tiny"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(5)
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(N_USERS):
        for time, item in enumerate(generator.permutation(N_ITEMS)[:8]):
            rows.append(f"u{user}\ti{item}\t{1.6e9 + 1000 * user + time + 0.123457}")
    (folder / "tiny.inter").write_text("\n".join(rows) + "\n", encoding="utf-8")
    rows = ["item_id:token\ttitle:token_seq\tprice:float\tcolour:token\tweights:float_seq"]
    rows += [
        f'i{i}\t"{TITLES[i]} ""quoted"""\t{PRICES[i]}\t{COLOURS[i]}\t{WEIGHTS[i]}'
        if i == 7
        else f"i{i}\t{TITLES[i]}\t{PRICES[i]}\t{COLOURS[i]}\t{WEIGHTS[i]}"
        for i in range(N_ITEMS)
    ]
    (folder / "tiny.item").write_text("\n".join(rows) + "\n", encoding="utf-8")

    def settings(**changes: object) -> dict[str, object]:
        return {
            "data_path": str(tmp_path / "data"),
            "checkpoint_dir": str(tmp_path / "saved"),
            "epochs": 1,
            "train_batch_size": 32,
            "embedding_size": 8,
            "use_gpu": False,
            "show_progress": False,
            "normalize_all": False,
            "topk": [5],
            "metrics": ["Hit", "NDCG"],
            "valid_metric": "NDCG@5",
            **changes,
        }

    return settings


@pytest.fixture
def tiny_with_text(tiny) -> Config:
    columns = {
        "inter": ["user_id", "item_id", "timestamp"],
        "item": ["item_id", "title", "price", "colour", "weights"],
    }
    return Config(model="BPR", dataset="tiny", config_dict=tiny(load_col=columns))


# -- NumPy ------------------------------------------------------------------------------------------------------


def test_numpy_names_that_recbole_uses_are_back():
    assert np.float_ is np.float64
    assert np.complex_ is np.complex128
    assert np.unicode_ is np.str_


def test_recbole_metrics_compute_with_them(tiny):
    metric = NDCG(Config(model="BPR", dataset="tiny", config_dict=tiny()))
    hits = np.array([[True, False, False], [False, True, True]])  # [2, k]
    ndcg = metric.metric_info(hits, np.array([1, 2]))  # [2, k]
    second = (1 / np.log2(3) + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(ndcg[:, 2], [1.0, second])


# -- pandas -----------------------------------------------------------------------------------------------------


def test_missing_values_of_items_are_filled(tiny_with_text):
    dataset = create_dataset(tiny_with_text)
    dataset.build()
    items = dataset.get_item_feature()
    row = {token: dataset.token2id("item_id", token) for token in ("i2", "i3", "i4", "i5", "i6", "i7")}

    words = [dataset.id2token("title", ids[ids > 0].numpy()).tolist() for ids in items["title"]]
    assert words[row["i3"]] == []
    assert words[row["i2"]] == ["title", "of", "2"]
    assert words[row["i7"]] == ["title", "of", "7", '"quoted"']

    known = [float(price) for price in PRICES if price]
    assert items["price"][row["i4"]].item() == pytest.approx(np.mean(known))
    assert items["price"][row["i2"]].item() == pytest.approx(3.1)
    assert not torch.isnan(items["price"]).any()

    assert items["colour"][row["i5"]].item() == 0
    assert dataset.id2token("colour", items["colour"][row["i2"]].item()) == "red"
    assert dataset.num("colour") == 3  # padding, red, blue: a missing colour is none of its own

    assert items["weights"].shape == (N_ITEMS + 1, 2)
    assert items["weights"][row["i6"]].tolist() == [0, 0]
    assert items["weights"][row["i2"]].tolist() == [2.25, 0.5]


def test_series_keep_their_aggregation(tiny_with_text):
    before = pd.Series.agg
    create_dataset(tiny_with_text)
    assert pd.Series.agg is before
    assert pd.Series([1, 2]).agg("sum") == 3


def tables(config: Config) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Interactions and items of a data set as RecBole's loader reads them, before it makes ids of them."""
    loaded: list[pd.DataFrame] = []

    class Loading(Dataset):
        def _data_processing(self) -> None:
            loaded.extend([self.inter_feat.copy(), self.item_feat.copy()])
            super()._data_processing()

    Loading(config)
    return loaded[0], loaded[1]


def test_the_c_parser_gives_the_frames_of_recboles_parser(tiny_with_text):
    ordinary = tables(tiny_with_text)
    with compat.c_parser():
        sooner = tables(tiny_with_text)
    for expected, found in zip(ordinary, sooner, strict=True):
        assert list(found.columns) == list(expected.columns)
        for column in expected:
            assert found[column].dtype == expected[column].dtype
            pairs = zip(expected[column], found[column], strict=True)
            if expected[column].dtype == object:  # sequences
                assert all(list(one) == list(other) and one.dtype == other.dtype for one, other in pairs)
            else:
                pd.testing.assert_series_equal(found[column], expected[column], check_exact=True)


def test_recboles_own_reading_keeps_its_parser(tiny_with_text, monkeypatch):
    engines = []
    read_csv = pd.read_csv

    def watched(*args: object, **kwargs: object) -> pd.DataFrame:
        engines.append(kwargs["engine"])
        return read_csv(*args, **kwargs)

    monkeypatch.setattr(pd, "read_csv", watched)
    create_dataset(tiny_with_text)
    assert engines == ["python", "python"]
    with pytest.raises(FileNotFoundError), compat.c_parser():
        recbole_dataset.pd.read_csv("not there", engine="python")
    assert engines.pop() == "c"
    create_dataset(tiny_with_text)
    assert engines == ["python"] * 4


# -- SciPy ------------------------------------------------------------------------------------------------------


def test_dok_matrices_take_entries():
    matrix = dok_matrix((2, 3), dtype=np.float32)
    matrix._update({(0, 2): 1.5, (1, 0): 2.0})
    matrix._update({(0, 2): 3.0})
    assert matrix.toarray().tolist() == [[0, 0, 3], [2, 0, 0]]


def test_lightgcn_builds_its_graph(tiny):
    config = Config(model="LightGCN", dataset="tiny", config_dict=tiny())
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    found = LightGCN(config, train._dataset).norm_adj_matrix.to_dense().numpy()

    users, items = dataset.user_num, dataset.item_num
    adjacency = np.zeros((users + items, users + items))
    for user, item in zip(train._dataset.inter_feat["user_id"], train._dataset.inter_feat["item_id"], strict=True):
        adjacency[user, users + item] = adjacency[users + item, user] = 1
    degree = adjacency.sum(axis=1) + 1e-7
    np.testing.assert_allclose(found, adjacency / np.sqrt(degree[:, None] * degree[None, :]), rtol=1e-5, atol=1e-7)


# -- PyTorch ----------------------------------------------------------------------------------------------------


def test_recbole_trains_and_reads_its_own_checkpoint(tiny, tmp_path):
    result = run_recbole(model="BPR", dataset="tiny", config_dict=tiny(epochs=2))
    (checkpoint,) = (tmp_path / "saved").glob("BPR-*.pth")

    config = Config(model="BPR", dataset="tiny", config_dict=tiny(epochs=2))
    init_seed(config["seed"], config["reproducibility"])
    train, _, test = data_preparation(config, create_dataset(config))
    trainer = Trainer(config, BPR(config, train._dataset))
    assert trainer.evaluate(test, model_file=str(checkpoint)) == result["test_result"]
    parameters = {name: value.clone() for name, value in trainer.model.state_dict().items()}

    resumed = Trainer(config, BPR(config, train._dataset))
    resumed.resume_checkpoint(str(checkpoint))
    assert resumed.start_epoch > 0
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, parameters[name])


class Trap:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_a_checkpoint_with_foreign_code_is_not_run(tiny, tmp_path):
    config = Config(model="BPR", dataset="tiny", config_dict=tiny())
    train, _, test = data_preparation(config, create_dataset(config))
    trainer = Trainer(config, BPR(config, train._dataset))
    sprung, checkpoint = tmp_path / "sprung", tmp_path / "checkpoint.pth"
    state = {"state_dict": trainer.model.state_dict(), "config": config, "other_parameter": Trap(sprung)}
    torch.save(state, checkpoint)
    with pytest.raises(UnpicklingError):
        trainer.evaluate(test, model_file=str(checkpoint))
    with pytest.raises(UnpicklingError):
        trainer.resume_checkpoint(str(checkpoint))
    assert not sprung.exists()
    torch.load(checkpoint, weights_only=False)  # it would have: the trap works
    assert sprung.exists()


def test_classes_are_admitted_only_while_recbole_loads(tiny):
    before = set(torch.serialization.get_safe_globals())
    run_recbole(model="BPR", dataset="tiny", config_dict=tiny())
    assert Config not in torch.serialization.get_safe_globals()
    assert set(torch.serialization.get_safe_globals()) == before
