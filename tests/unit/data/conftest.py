"""Tiny atomic datasets in a temporary folder, and configurations that read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recbole_cdsr  # isort: skip  # noqa: F401 - makes RecBole importable

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.data.dataset import CrossDomainGeneralDataset, CrossDomainSequentialDataset
from recbole_cdsr.quick_start import create_dataset

Interactions = Sequence[tuple[str, str, float]]
AnyDataset = CrossDomainSequentialDataset | CrossDomainGeneralDataset


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write `.item` and one `.inter`, or three, as they are given; nothing is checked or quoted."""

    def write(
        items: Mapping[str, str],
        interactions: Interactions | Mapping[str, Interactions],
        name: str = "tiny",
        item_columns: Mapping[str, Sequence[str]] | None = None,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        header, columns = ["item_id:token", "domain:token"], [list(items), list(items.values())]
        for column, cells in (item_columns or {}).items():
            header.append(column)
            columns.append(list(cells))
        lines = ["\t".join(header), *("\t".join(cells) for cells in zip(*columns, strict=True))]
        (folder / f"{name}.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
        parts = interactions if isinstance(interactions, Mapping) else {"": interactions}
        for part, rows in parts.items():
            lines = ["user_id:token\titem_id:token\ttimestamp:float"]
            lines += [f"{user}\t{item}\t{time!r}" for user, item, time in rows]
            file = f"{name}.{part}.inter" if part else f"{name}.inter"
            (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder

    return write


@pytest.fixture
def config_of(tmp_path: Path) -> Callable[..., CDSRConfig]:
    """A configuration for a dataset of `write_dataset`."""

    def build(model: str = "GRU4Rec", name: str = "tiny", **settings: Any) -> CDSRConfig:
        shared = {"data_path": str(tmp_path), "use_gpu": False, "checkpoint_dir": str(tmp_path / "saved")}
        if model == "GRU4Rec":
            shared["train_neg_sample_args"] = None
        return CDSRConfig(model, name, config_dict=shared | settings, command_line=[])

    return build


@pytest.fixture
def load(config_of: Callable[..., CDSRConfig]) -> Callable[..., AnyDataset]:
    """The dataset that a model takes, loaded and not yet built."""

    def build(model: str = "GRU4Rec", name: str = "tiny", **settings: Any) -> AnyDataset:
        return create_dataset(config_of(model, name, **settings))

    return build


@pytest.fixture
def random_data() -> Callable[..., tuple[dict[str, str], list[tuple[str, str, float]]]]:
    """Random items and interactions with repeated items and tied times.

    Parameters of the function
    --------------------------
    lengths
        Interactions of each user.
    sizes
        Items of each domain.
    times
        How many distinct times there are; few of them make ties.
    alike
        Let the file hold all interactions of a domain before those of the next, so that RecBole, which numbers items
        as they appear, numbers them as we do.
    """

    def build(
        lengths: Sequence[int],
        sizes: Sequence[int] = (9, 7),
        times: int = 20,
        seed: int = 0,
        alike: bool = True,
    ) -> tuple[dict[str, str], list[tuple[str, str, float]]]:
        random = np.random.default_rng(seed)
        items = [(f"d{k}:{i}", f"d{k}") for k, size in enumerate(sizes) for i in range(size)]
        users = random.permutation(np.repeat(np.arange(len(lengths)), lengths))
        chosen = random.integers(0, len(items), size=len(users))
        if alike:
            chosen[: len(items)] = np.arange(len(items))  # RecBole numbers items that never appear last
            chosen = chosen[np.argsort(np.array([items[i][1] for i in chosen]), kind="stable")]
        stamps = random.integers(0, times, size=len(users)).astype(float)
        rows = [(f"u{u}", items[i][0], float(t)) for u, i, t in zip(users, chosen, stamps, strict=True)]
        return dict(items), rows

    return build


@pytest.fixture
def token_cases() -> Callable[[AnyDataset], list[tuple[str, str]]]:
    """User and target of every row of a split, as tokens."""

    def cases(part: AnyDataset) -> list[tuple[str, str]]:
        rows = part[:]
        users, items = (part.id2token(field, rows[field].numpy()) for field in ("user_id", "item_id"))
        return list(zip(users.tolist(), items.tolist(), strict=True))

    return cases
