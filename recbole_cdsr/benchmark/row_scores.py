"""What each test row got from a model, averaged over its seeds: what paired tests and intervals are made of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recbole_cdsr.benchmark.collect import RANKS_FILE, Cell
from recbole_cdsr.benchmark.significance import mean_over_seeds
from recbole_cdsr.errors import DataError
from recbole_cdsr.evaluator.rank_table import load_rank_table

CUT_OFF = 10
_IDENTITY = ["row", "item_id", "domain"]


def ndcg(ranks: np.ndarray) -> np.ndarray:
    """NDCG@10 of rows with one target each: 1 / log2(rank + 1) up to rank 10, else 0.

    Parameters
    ----------
    ranks
        int64 ``[R]``, from 1; 0 = beyond what was looked at.
    """
    hit = (ranks >= 1) & (ranks <= CUT_OFF)
    return np.where(hit, 1.0 / np.log2(np.where(hit, ranks, 1) + 1.0), 0.0)


def hit(ranks: np.ndarray) -> np.ndarray:
    """Hit@10 of rows: 1 up to rank 10, else 0."""
    return ((ranks >= 1) & (ranks <= CUT_OFF)).astype(np.float64)


ROW_METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"ndcg@10": ndcg, "hit@10": hit}


@dataclass(frozen=True)
class RowScores:
    """A model's test rows on one dataset.

    Attributes
    ----------
    rows : np.ndarray
        int64 ``[R]``, identities of the rows, ascending.
    targets, domains : np.ndarray
        object ``[R]`` of str, target item and its domain.
    values : dict[tuple[str, str], np.ndarray]
        By candidate set and metric (`ndcg@10`, `hit@10`) float64 ``[R]``, the mean over seeds.
    """

    rows: np.ndarray
    targets: np.ndarray
    domains: np.ndarray
    values: dict[tuple[str, str], np.ndarray]

    def judges_the_same(self, other: RowScores) -> bool:
        """Whether two models were asked for the same targets."""
        return np.array_equal(self.rows, other.rows) and np.array_equal(self.targets, other.targets)


def load_row_scores(cells: Sequence[Cell]) -> RowScores:
    """Read the ranks of a model's finished cells on one dataset and average over seeds, row by row.

    Raises
    ------
    DataError
        A table is missing or broken, a row stands in it twice, seeds judged other rows, or ranks end before the tenth.
    """
    tables = [_load(cell) for cell in cells]
    first = tables[0]
    for cell, table in zip(cells, tables, strict=True):
        if not first[_IDENTITY].equals(table[_IDENTITY]):
            raise DataError(f"seed {cell.seed} judged other test rows than seed {cells[0].seed}")
    sets = [name for name in cells[0].candidates if all(name in table for table in tables)]
    values = {
        (candidates, metric): mean_over_seeds([of_ranks(table[candidates].to_numpy()) for table in tables])
        for candidates in sets
        for metric, of_ranks in ROW_METRICS.items()
    }
    return RowScores(first["row"].to_numpy(), _shared(first["item_id"]), _shared(first["domain"]), values)


def _shared(tokens: pd.Series) -> np.ndarray:
    """Object ``[R]``: NumPy's own strings are all as wide as the longest, and these are shared between models."""
    return np.array([*map(sys.intern, tokens), None], dtype=object)[:-1]


def _load(cell: Cell) -> pd.DataFrame:
    config = cell.result["config"]
    if config.get("ties") == "recbole" and max(config["topk"]) < CUT_OFF:
        raise DataError(f"seed {cell.seed} has ranks up to {max(config['topk'])} only (ties: recbole)")
    path = cell.folder / RANKS_FILE
    if not path.is_file():
        raise DataError(f"seed {cell.seed} has no {RANKS_FILE}")
    table = load_rank_table(path).sort_values("row", ignore_index=True)
    if table["row"].duplicated().any():
        raise DataError(f"seed {cell.seed} has a row twice in {RANKS_FILE}")
    return table
