"""Paired tests between two groups of finished runs: `python tools/compare_runs.py A1 A2 A3 --against B1 B2 B3`.

Each is a run directory with its `result.json` and `test_ranks.tsv`; a group holds the seeds of one configuration.
NDCG@10 of every test row is averaged over the seeds of its group, then compared row by row, for each domain and
candidate set, as docs/protocol.md (point 8) says: Wilcoxon's signed-rank test with pratt, and Holm's correction for
what a call compares. Runs that a cap ended and synthetic data are named: they support no claim.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_cdsr.benchmark.claims import obstacles_between
from recbole_cdsr.benchmark.collect import DONE, RESULT_FILE, Cell
from recbole_cdsr.benchmark.comparison import METRIC, judged_by
from recbole_cdsr.benchmark.row_scores import RowScores, load_row_scores
from recbole_cdsr.benchmark.significance import holm, wilcoxon
from recbole_cdsr.errors import DataError


def run_of(folder: Path) -> Cell:
    """A finished run."""
    try:
        result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        cell = Cell(result["dataset"], folder.name, result["model"], result["seed"], DONE, folder=folder, result=result)
        _ = cell.budget, cell.result["config"]["topk"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{folder} is not the directory of a finished run: {error!r}")
    return cell


def scores_of(group: Sequence[Cell]) -> RowScores:
    """What each test row got, averaged over the seeds of a group."""
    if len({cell.seed for cell in group}) < len(group):
        sys.exit(f"A seed is there twice among {', '.join(str(cell.folder) for cell in group)}; name each run once.")
    try:
        return load_row_scores(group)
    except DataError as error:
        sys.exit(f"The runs {', '.join(str(cell.folder) for cell in group)} cannot be compared: {error}.")


def check_judged_alike(cells: Sequence[Cell]) -> None:
    """Refuse runs that ranked other candidates or broke ties in another way."""
    first = cells[0]
    for cell in cells:
        ours, theirs = judged_by(first), judged_by(cell)
        differing = [key for key in ours if ours[key] != theirs[key]]
        if cell.dataset != first.dataset or cell.candidates != first.candidates:
            differing += ["dataset or candidates"]
        if differing:
            sys.exit(f"{cell.folder} was judged by other {', '.join(differing)} than {first.folder}.")


def warnings_of(runs: Sequence[Cell], against: Sequence[Cell]) -> Iterator[str]:
    """Why what is printed supports no claim."""
    cells = [*runs, *against]
    yield from (f"{each}; no claim rests on them." for each in obstacles_between(runs, against))
    capped = [str(cell.folder) for cell in cells if cell.budget]
    if capped:
        yield f"budget: the cap on epochs ended {', '.join(capped)}; no claim rests on them."
    if any(cell.result.get("synthetic") for cell in cells):
        yield "SYNTHETIC DATA: figures on them say nothing of reality."


def compare(runs: Sequence[Cell], against: Sequence[Cell]) -> pd.DataFrame:
    """One row for each candidate set and domain: both means, the p-value, and Holm's."""
    check_judged_alike([*runs, *against])
    ours, theirs = scores_of(runs), scores_of(against)
    if not ours.judges_the_same(theirs):
        sys.exit(f"{against[0].folder} judged other rows than {runs[0].folder}: they cannot be compared.")
    rows = []
    for candidates in runs[0].candidates:
        for domain in np.unique(ours.domains):
            here = ours.domains == domain
            one, other = (scores.values[candidates, METRIC][here] for scores in (ours, theirs))
            rows.append((candidates, domain, len(one), one.mean(), other.mean(), wilcoxon(one, other).p_value))
    frame = pd.DataFrame(rows, columns=["candidates", "domain", "rows", METRIC, "against", "p"])
    frame["holm"] = holm(frame["p"].to_numpy())
    return frame


def main() -> None:
    """Print the tests as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--against", nargs="+", type=Path, required=True, metavar="RUN_DIR")
    args = parser.parse_args()
    runs, against = ([run_of(folder) for folder in group] for group in (args.runs, args.against))
    print(compare(runs, against).to_string(index=False, float_format="%.4f"))
    for warning in warnings_of(runs, against):
        print(warning)


if __name__ == "__main__":
    main()
