"""Tiny cross-domain datasets written as atomic files, and the ways to run a model on them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from recbole_cdsr.cli import main
from recbole_cdsr.data.atomic import write_atomic

from .small_models import SMALL

REPOSITORY = Path(__file__).parents[2]
DOMAINS = ("books", "movies")
INTER_TYPES = {"user_id": "token", "item_id": "token", "timestamp": "float"}
TOPICS = ("sea", "war", "love", "crime", "space")

# What makes a run quiet and short; every test starts from it. No key of a model's own YAML is among them.
TINY = {
    "show_progress": False,
    "use_gpu": False,
    "topk": [5, 10],
    "epochs": 2,
    "train_batch_size": 32,
    "eval_batch_size": 64,
    "MAX_ITEM_LIST_LENGTH": 10,
}


@dataclass(frozen=True)
class TinyDataset:
    """A dataset's folder of folders, its name and its interactions in file order."""

    root: Path
    name: str
    interactions: pd.DataFrame

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def settings(self) -> dict[str, Any]:
        """`TINY` with this dataset's place."""
        return TINY | {"data_path": str(self.root), "dataset": self.name}


def _interactions(n_users: int, n_items: int, n_per_user: int, seed: int) -> pd.DataFrame:
    """Each user likes one topic of each domain; item i of a domain is of topic i % 5. Times are whole and distinct."""
    random = np.random.default_rng(seed)
    topics = np.arange(n_items) % len(TOPICS)
    rows = []
    for user in range(n_users):
        liked = user % len(TOPICS)
        weights = np.where(topics == liked, 8.0, 1.0)
        chosen = [
            (domain, item)
            for domain in DOMAINS
            for item in random.choice(n_items, n_per_user, replace=False, p=weights / weights.sum())
        ]
        random.shuffle(chosen)
        start = int(random.integers(1, 5000))
        rows += [
            (f"u{user}", f"{domain}:{item}", (start + k) * 16 + user % 16) for k, (domain, item) in enumerate(chosen)
        ]
    frame = pd.DataFrame(rows, columns=list(INTER_TYPES))
    # First every interaction of the first domain: RecBole numbers items as they first appear in the file.
    return frame.sort_values("item_id", key=lambda ids: ids.str.split(":").str[0], kind="stable").reset_index(drop=True)


def _items(n_items: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": [f"{domain}:{item}" for domain in DOMAINS for item in range(n_items)],
            "domain": np.repeat(DOMAINS, n_items),
            "title": [f"A {domain} tale of {TOPICS[i % 5]}, part {i}" for domain in DOMAINS for i in range(n_items)],
        }
    )


def write_dataset(
    root: Path, name: str = "tiny", *, n_users: int = 60, n_items: int = 20, n_per_user: int = 4, seed: int = 0
) -> TinyDataset:
    """Users with `n_per_user` items of each of two domains, leave-one-out."""
    frame = _interactions(n_users, n_items, n_per_user, seed)
    (root / name).mkdir(parents=True)
    write_atomic(root / name / f"{name}.inter", frame, INTER_TYPES)
    write_atomic(
        root / name / f"{name}.item", _items(n_items), {"item_id": "token", "domain": "token", "title": "token_seq"}
    )
    return TinyDataset(root, name, frame)


def write_pre_split(root: Path, name: str = "held-out", n_held_out: int = 8) -> TinyDataset:
    """The same users in three flat files; those of validation and test are not in the training file."""
    whole = write_dataset(root, name)
    (whole.folder / f"{name}.inter").unlink()
    users = whole.interactions["user_id"].unique()
    parts = {
        "train": users[: -2 * n_held_out],
        "valid": users[-2 * n_held_out : -n_held_out],
        "test": users[-n_held_out:],
    }
    ordered = whole.interactions.sort_values(["user_id", "timestamp"])
    for part, members in parts.items():
        write_atomic(whole.folder / f"{name}.{part}.inter", ordered[ordered["user_id"].isin(members)], INTER_TYPES)
    return whole


def write_item_features(dataset: TinyDataset, path: Path, width: int = 24, seed: int = 0) -> Path:
    """An `.npy` matrix in the order of `.item`: a direction per topic, the same in both domains, and some noise."""
    items = pd.read_csv(dataset.folder / f"{dataset.name}.item", sep="\t")
    random = np.random.default_rng(seed)
    topic = items["item_id:token"].str.split(":").str[1].astype(int) % len(TOPICS)
    directions = random.normal(size=(len(TOPICS), width))
    matrix = directions[topic] + 0.3 * random.normal(size=(len(items), width))
    np.save(path, matrix.astype(np.float32))
    return path


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to run in (RecBole writes `log/` and `log_tensorboard/` where it stands), one thread."""
    folder = tmp_path / "workplace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    # RecBole's table of the environment watches the processor for a whole second.
    measure = psutil.cpu_percent
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: measure())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    level = logging.getLogger().level
    yield folder
    logging.getLogger().setLevel(level)
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(tmp_path: Path) -> TinyDataset:
    return write_dataset(tmp_path / "data")


@pytest.fixture
def held_out(tmp_path: Path) -> TinyDataset:
    return write_pre_split(tmp_path / "data")


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., TinyDataset]:
    """`write_dataset` below the test's own folder."""
    return lambda **options: write_dataset(tmp_path / "data", **options)


@pytest.fixture
def keep_one_domain() -> Callable[..., None]:
    """Of every `of` users, one keeps books alone and one movies alone (by the remainder of their number)."""

    def keep(dataset: TinyDataset, books_only: int, movies_only: int, of: int = 3) -> None:
        frame = dataset.interactions
        remainder = frame["user_id"].str[1:].astype(int) % of
        is_book = frame["item_id"].str.startswith("books")
        kept = frame[~((remainder == books_only) & ~is_book) & ~((remainder == movies_only) & is_book)]
        write_atomic(dataset.folder / f"{dataset.name}.inter", kept, INTER_TYPES)

    return keep


@pytest.fixture
def item_features(tmp_path: Path) -> Callable[[TinyDataset], Path]:
    """`write_item_features` into the test's own folder."""
    return lambda dataset, **options: write_item_features(dataset, tmp_path / "items.npy", **options)


@pytest.fixture
def small() -> dict[str, Any]:
    """Settings that make our models small."""
    return dict(SMALL)


@pytest.fixture
def run() -> Callable[..., dict[str, Any]]:
    """`run(model, dataset, key=value, …)`: our whole job on a tiny dataset, in this process."""
    from recbole_cdsr.quick_start import run_recbole_cdsr

    def run(model: str, dataset: TinyDataset, saved: bool = True, **settings: Any) -> dict[str, Any]:
        return run_recbole_cdsr(
            model, dataset.name, config_dict=dataset.settings | settings, saved=saved, command_line=[]
        )

    return run


@pytest.fixture
def arguments() -> Callable[..., list[str]]:
    """`arguments(model, dataset, key=value, …)`: the same as a command line."""

    def arguments(model: str, dataset: TinyDataset, **settings: Any) -> list[str]:
        values = dataset.settings | settings
        return [f"--model={model}", *(f"--{key}={value}" for key, value in values.items())]

    return arguments


@pytest.fixture
def start() -> Iterator[Callable[[list[str]], subprocess.Popen]]:
    """Start `run_recbole_cdsr.py` as a process of its own; whatever still runs at the end is killed."""
    processes: list[subprocess.Popen] = []

    def start(arguments: list[str]) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "run_recbole_cdsr.py"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def read_json() -> Callable[[Path], Any]:
    """Strict JSON: NaN and Infinity are refused."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return lambda path: json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def module_dataset(tmp_path_factory: pytest.TempPathFactory) -> TinyDataset:
    """One dataset for all tests of a module that only read it."""
    return write_dataset(tmp_path_factory.mktemp("module-data"), n_users=40)


@pytest.fixture(scope="module")
def trained(module_dataset: TinyDataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """`trained(model, key=value, …)`: the result of a run on `module_dataset`; the same run is trained once a module.

    Windows are shorter than histories.
    """
    from recbole_cdsr.quick_start import run_recbole_cdsr

    place = tmp_path_factory.mktemp("module-runs")
    features = write_item_features(module_dataset, place / "items.npy")
    results: dict[str, dict[str, Any]] = {}

    def trained(model: str, **settings: Any) -> dict[str, Any]:
        key = json.dumps([model, settings], sort_keys=True)
        if key not in results:
            defaults = {"epochs": 1, "MAX_ITEM_LIST_LENGTH": 6, "checkpoint_dir": str(place / "saved")}
            given = defaults | {"item_features_file": str(features)} | settings
            results[key] = run_recbole_cdsr(
                model, module_dataset.name, config_dict=module_dataset.settings | given, command_line=[]
            )
        return results[key]

    return trained


@pytest.fixture
def recommend(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """`recommend(place, *arguments)`: the users' objects that the command writes."""

    def recommend(place: str | Path, *arguments: str) -> list[dict[str, Any]]:
        output = tmp_path / "recommended.jsonl"
        assert main(["recommend", "--run", str(place), "--output", str(output), *arguments]) == 0
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]

    return recommend
