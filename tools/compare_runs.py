"""Paired tests between two groups of finished runs: `python tools/compare_runs.py A1 A2 A3 --against B1 B2 B3`.

Each is a run directory with its `test_ranks.tsv`; a group holds the seeds of one configuration. NDCG@10 of every test
row is averaged over the seeds of its group, then compared row by row, for each domain and candidate set, as
docs/protocol.md (point 8) says: Wilcoxon's signed-rank test with pratt, and Holm's correction for what a call compares.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_cdsr.benchmark.collect import RANKS_FILE
from recbole_cdsr.benchmark.row_scores import ndcg
from recbole_cdsr.benchmark.significance import holm, mean_over_seeds, wilcoxon
from recbole_cdsr.errors import DataError
from recbole_cdsr.evaluator.rank_table import KEYS, load_rank_table


def ranks_of(run: Path) -> pd.DataFrame:
    """The ranks of a run's test rows: a column for each candidate set, sorted by row."""
    try:
        return load_rank_table(run / RANKS_FILE).set_index(KEYS).sort_index()
    except (OSError, DataError) as error:
        sys.exit(f"{run} is not the directory of a finished run: {error}")


def compare(runs: Sequence[Path], against: Sequence[Path]) -> pd.DataFrame:
    """One row for each candidate set and domain: both means, the p-value, and Holm's."""
    tables = {run: ranks_of(run) for run in (*runs, *against)}
    first = tables[runs[0]]
    for run, table in tables.items():
        if not table.index.equals(first.index) or list(table.columns) != list(first.columns):
            sys.exit(f"{run} judged other rows or candidates than {runs[0]}: they cannot be compared.")
    domains = first.index.get_level_values("domain")
    rows = []
    for candidates in first.columns:
        for domain in sorted(set(domains)):
            here = np.asarray(domains == domain)
            ours, theirs = (
                mean_over_seeds([ndcg(tables[run].loc[here, candidates].to_numpy()) for run in group])
                for group in (runs, against)
            )
            p_value = wilcoxon(ours, theirs).p_value
            rows.append((candidates, domain, len(ours), ours.mean(), theirs.mean(), p_value))
    frame = pd.DataFrame(rows, columns=["candidates", "domain", "rows", "ndcg@10", "against", "p"])
    frame["holm"] = holm(frame["p"].to_numpy())
    return frame


def main() -> None:
    """Print the tests as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--against", nargs="+", type=Path, required=True, metavar="RUN_DIR")
    args = parser.parse_args()
    print(compare(args.runs, args.against).to_string(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()
