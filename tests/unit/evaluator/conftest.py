"""Random evaluation rows and configurations for the evaluator's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recbole_cdsr  # isort: skip  # noqa: F401 - makes RecBole importable
from recbole.config import Config

from recbole_cdsr.evaluator import EvaluationRows


@pytest.fixture(scope="session", autouse=True)
def recbole_config() -> Config:
    """RecBole's own configuration; making one also gives NumPy the names that RecBole's metrics use."""
    return Config(
        model="BPR",
        dataset="rows",
        config_dict={
            "metrics": ["Hit", "NDCG", "MRR", "MAP", "Recall", "Precision", "GAUC"],
            "topk": [1, 5, 10],
            "use_gpu": False,
        },
    )


@pytest.fixture
def config() -> Callable[..., dict[str, Any]]:
    """Plain configurations with some keys replaced."""

    def build(**changes: Any) -> dict[str, Any]:
        return {"model": "Random", "metrics": ["NDCG", "Hit", "MRR"], "topk": [1, 5, 10]} | changes

    return build


@pytest.fixture
def random_rows() -> Callable[..., EvaluationRows]:
    """Rows with random histories: some empty, some with repeated items, some in one domain, some with the target."""

    def build(
        domain_sizes: tuple[int, ...] = (40, 25),
        n_rows: int = 60,
        seed: int = 0,
        longest: int = 12,
        split: str = "valid",
    ) -> EvaluationRows:
        generator = np.random.default_rng(seed)
        offsets = np.concatenate([[1], 1 + np.cumsum(domain_sizes)])
        n_items = int(offsets[-1])
        domains = generator.integers(0, len(domain_sizes), n_rows)
        targets = offsets[domains] + generator.integers(0, np.array(domain_sizes)[domains])
        users = generator.permutation(n_rows // 2 + 1)[generator.integers(0, n_rows // 2 + 1, n_rows)] + 1
        lengths = generator.integers(0, longest + 1, n_rows)
        flat_items = generator.integers(1, n_items, 4 * longest)
        starts = generator.integers(0, 3 * longest, n_rows)  # the histories overlap
        counts = np.floor(generator.pareto(0.8, n_items)).astype(np.int64)
        counts[0] = 0
        keys = [users * n_items + targets]
        for row in range(n_rows):
            keys.append(users[row] * n_items + flat_items[starts[row] : starts[row] + lengths[row]])
        return EvaluationRows(
            split=split,
            users=users,
            targets=targets,
            target_domains=domains,
            history_pointers=np.stack([starts, starts + lengths], axis=1),
            flat_items=flat_items,
            user_item_keys=np.unique(np.concatenate(keys)),
            train_item_counts=counts,
            domain_offsets=offsets,
            domain_names=["books", "movies", "music"][: len(domain_sizes)],
            row_keys=np.arange(n_rows) * 3 + 7,
        )

    return build
