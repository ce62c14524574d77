"""The rank of every judged row as a table, so that two models can be compared row by row without running them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from recbole_cdsr.errors import DataError
from recbole_cdsr.evaluator.report import EvaluationReport
from recbole_cdsr.evaluator.rows import EvaluationRows
from recbole_cdsr.files import replacing

KEYS = ["row", "user_id", "item_id", "domain"]


def rank_table(report: EvaluationReport, rows: EvaluationRows, dataset: Any) -> pd.DataFrame:
    """Ranks by row.

    Parameters
    ----------
    report
        Of S rows of a split.
    rows
        That split.
    dataset : CrossDomainDataset
        Names users and items: `id2token`, `uid_field`, `iid_field`.

    Returns
    -------
    pd.DataFrame
        S rows in the order of the split. `row` (int64) is the row's identity, the same for every model; `user_id`,
        `item_id` and `domain` (str) are the user, the target and its domain; then per candidate set one column of
        ranks, int64 from 1 (with RecBole's ties 0 = beyond the largest of `topk`).
    """
    places = report.row_indices
    table = pd.DataFrame(
        {
            "row": report.row_keys,
            "user_id": dataset.id2token(dataset.uid_field, rows.users[places]),
            "item_id": dataset.id2token(dataset.iid_field, rows.targets[places]),
            "domain": pd.Categorical.from_codes(rows.target_domains[places], rows.domain_names).astype(str),
        }
    )
    return table.assign(**report.ranks)


def save_rank_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table of ranks as tab-separated text, complete or not at all.

    Raises
    ------
    DataError
        It cannot be written.
    """
    try:
        with replacing(path) as part:
            table.to_csv(part, sep="\t", index=False, lineterminator="\n")
    except OSError as error:
        raise DataError(f"The ranks could not be written to {path} ({error.strerror}); make room and go on.") from error


def load_rank_table(path: Path) -> pd.DataFrame:
    """Read what `save_rank_table` wrote; user and item tokens come back exactly.

    Raises
    ------
    DataError
        The file is missing or is no table of ranks.
    """
    tokens = dict.fromkeys(KEYS[1:], str)
    try:
        table = pd.read_csv(path, sep="\t", dtype=tokens, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table of ranks ({' '.join(str(error).split())}).") from error
    ranks = [name for name in table.columns if name not in KEYS]
    if list(table.columns[: len(KEYS)]) != KEYS or not ranks:
        raise DataError(f"{path}, line 1: a table of ranks begins with the columns {', '.join(KEYS)}, then ranks.")
    wrong = [name for name in ["row", *ranks] if table[name].dtype.kind != "i"]
    if wrong:
        raise DataError(f"{path}: column {wrong[0]!r} holds something other than whole numbers; run the model again.")
    return table
