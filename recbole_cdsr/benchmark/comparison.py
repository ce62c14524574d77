"""Is a model better than the best baseline? (protocol, point 8)

Per dataset and candidate set: a row's NDCG@10 is averaged over a model's seeds; every model of this package and every
injected variant is compared with the baseline that was best *on validation*, in each domain, by a two-sided Wilcoxon
signed-rank test (rows without a difference as Pratt has it); Holm corrects over all these model × domain tests, which
are the family. The difference over all rows is given with an interval and without a test: it is no part of the family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from recbole_cdsr.benchmark.claims import by_label, obstacles, obstacles_between, open_choice, role_of
from recbole_cdsr.benchmark.collect import BASELINE, DONE, Cell
from recbole_cdsr.benchmark.row_scores import RowScores
from recbole_cdsr.benchmark.significance import bootstrap_intervals, holm, wilcoxon

METRIC = "ndcg@10"
LEVEL = 0.05
BETTER, WORSE = "*", "†"
OVERALL = "all rows"  # with a blank, which the name of a domain never has

# What must be equal for two models to have ranked the same candidates, and for two validation scores to compare.
_JUDGED_BY = ("eval_seed", "exclude_history", "candidate_domains", "ties")
_SELECTED_BY = ("valid_metric", "select")


@dataclass(frozen=True)
class Reference:
    """The baseline that the others are compared with.

    Attributes
    ----------
    label : str or None
        None where no baseline can be chosen, for the reason in `problem`.
    counted : dict[str, float]
        Every baseline that took part in the choice, with its mean `best_valid_score` over seeds, best first.
    left_out : dict[str, str]
        Baselines that did not, and why.
    problem : str
        Why there is none; empty where there is one.
    """

    label: str | None
    counted: dict[str, float]
    left_out: dict[str, str]
    problem: str = ""


@dataclass(frozen=True)
class Comparison:
    """All contenders of one dataset and candidate set against its reference.

    Attributes
    ----------
    dataset, candidates : str
        What was compared on.
    reference : Reference
        The baseline.
    tests : pd.DataFrame
        A row per contender and domain, and one with the domain `all rows`: `label`, `domain`, `mean`, `reference_mean`,
        `difference`, `low` and `high` (95 % bootstrap interval of the difference), `rows`, `differing`, `p_value` and
        `adjusted` (NaN for `all rows`), and `mark`: `*` significantly better, `†` significantly worse, else empty.
    family : int
        Tests that Holm corrected over.
    no_claim : dict[str, str]
        Contenders whose tests, whatever they say, support no claim, and why: their marks are empty.
    not_compared : dict[str, str]
        Contenders without tests, and why.
    """

    dataset: str
    candidates: str
    reference: Reference
    tests: pd.DataFrame
    family: int = 0
    no_claim: dict[str, str] = field(default_factory=dict)
    not_compared: dict[str, str] = field(default_factory=dict)

    def mark(self, label: str, domain: str) -> str:
        """`*`, `†` or nothing."""
        found = self.tests.loc[(self.tests["label"] == label) & (self.tests["domain"] == domain), "mark"]
        return "" if found.empty else str(found.iloc[0])


def choose_reference(cells: Sequence[Cell]) -> Reference:
    """The baseline with the highest mean `best_valid_score`; of equal ones the first in the grid's order.

    Parameters
    ----------
    cells
        Of one dataset, in the grid's order.
    """
    counted: dict[str, float] = {}
    left_out: dict[str, str] = {}
    ways = {}
    for label, own in by_label(cells).items():
        if role_of(own) != BASELINE:
            continue
        done = [cell for cell in own if cell.state == DONE]
        scores = [cell.result.get("best_valid_score") for cell in done]
        if not done:
            left_out[label] = f"no finished cell ({own[0].state})"
        elif None in scores:
            left_out[label] = "nothing was validated"
        else:
            counted[label] = float(np.mean(scores))
            ways[label] = {_way_of_selection(cell) for cell in done}
    counted = dict(sorted(counted.items(), key=lambda entry: -entry[1]))
    if not counted:
        return Reference(None, counted, left_out, "there is no baseline with a validation score")
    if len(set().union(*ways.values())) > 1:
        return Reference(None, counted, left_out, "the baselines were selected by different validation scores")
    return Reference(next(iter(counted)), counted, left_out)


def compare(
    cells: Sequence[Cell], scores: Mapping[str, RowScores | str], candidates: str, domains: Sequence[str]
) -> Comparison:
    """Compare every contender of a dataset with the best baseline.

    Parameters
    ----------
    cells
        Of one dataset, in the grid's order.
    scores
        By label the rows of its finished cells, or why there are none.
    candidates
        The candidate set.
    domains
        Names of the domains.
    """
    reference = choose_reference(cells)
    finished = by_label(cell for cell in cells if cell.state == DONE)
    contenders = {label: own for label, own in finished.items() if role_of(own) != BASELINE}
    empty = Comparison(cells[0].dataset, candidates, reference, _frame([]))
    if reference.label is None:
        return replace(empty, not_compared=dict.fromkeys(contenders, reference.problem))
    against = scores[reference.label]
    if isinstance(against, str):
        return replace(empty, not_compared=dict.fromkeys(contenders, f"the reference {reference.label}: {against}"))

    compared: dict[str, RowScores] = {}
    not_compared, no_claim = {}, {}
    referred = finished[reference.label]
    of_reference = [f"the reference {reference.label}: {each}" for each in obstacles(referred)]
    of_reference += [f"the reference may change: {each}" for each in open_choice(cells, reference.label)]
    for label, own in contenders.items():
        problem = _incomparable(own, scores[label], referred, against, candidates)
        if problem:
            not_compared[label] = problem
            continue
        reasons = [*obstacles(own), *of_reference, *obstacles_between(own, referred)]
        if reasons:
            no_claim[label] = "; ".join(reasons)
        compared[label] = scores[label]
    frame = _frame(_tests(compared, against, candidates, domains))
    tested = frame["domain"] != OVERALL
    frame.loc[tested, "adjusted"] = holm(frame.loc[tested, "p_value"].to_numpy())
    agrees = np.sign(frame["difference"]) == frame["favours"]
    claimed = (frame["adjusted"] <= LEVEL) & agrees & ~frame["label"].isin(no_claim)
    frame["mark"] = np.where(claimed, np.where(frame["difference"] > 0, BETTER, WORSE), "")
    return replace(empty, tests=frame, family=int(tested.sum()), no_claim=no_claim, not_compared=not_compared)


def judged_by(cell: Cell) -> dict[str, str]:
    """How a cell's targets were ranked: the values of `_JUDGED_BY` as text."""
    values = {key: cell.result["config"].get(key) for key in _JUDGED_BY}
    # `recbole` means one thing for a general model and another for a sequential one.
    values["exclude_history"] = cell.result.get("excludes_history", values["exclude_history"])
    return {key: str(value) for key, value in values.items()}


def _way_of_selection(cell: Cell) -> tuple[str, ...]:
    config = cell.result["config"]
    selected_by = (str(config.get(key)).lower() for key in _SELECTED_BY)
    return (*selected_by, *judged_by(cell).values(), cell.candidates[0])


def _incomparable(
    own: Sequence[Cell], scores: RowScores | str, others: Sequence[Cell], against: RowScores, candidates: str
) -> str:
    """Why a contender cannot be compared with the reference, or nothing."""
    if isinstance(scores, str):
        return scores
    if any((candidates, METRIC) not in each.values for each in (scores, against)):
        return f"not judged among {candidates}"
    if not scores.judges_the_same(against):
        return "judged on other test rows than the reference"
    ways = [judged_by(cell) for cell in (*own, *others)]
    differing = [key for key in _JUDGED_BY if len({way[key] for way in ways}) > 1]
    return f"judged with another {', '.join(differing)} than the reference" if differing else ""


def _tests(
    scores: Mapping[str, RowScores], against: RowScores, candidates: str, domains: Sequence[str]
) -> list[dict[str, object]]:
    """The rows of `Comparison.tests` without what follows from all of them."""
    if not scores:
        return []
    values = np.stack([each.values[candidates, METRIC] for each in scores.values()], axis=1)  # [R, M]
    reference = against.values[candidates, METRIC]  # [R]
    found: dict[tuple[str, str], dict[str, object]] = {}
    for domain in (*domains, OVERALL):
        chosen = np.ones(len(reference), dtype=bool) if domain == OVERALL else against.domains == domain
        if not chosen.any():
            continue
        bounds = bootstrap_intervals(values[chosen] - reference[chosen, None])
        for label, own, (low, high) in zip(scores, values[chosen].T, bounds, strict=True):
            test = wilcoxon(own, reference[chosen])
            found[label, domain] = {
                "label": label,
                "domain": domain,
                "mean": own.mean(),
                "reference_mean": reference[chosen].mean(),
                "difference": test.difference,
                "low": low,
                "high": high,
                "rows": test.rows,
                "differing": test.differing,
                "favours": test.favours,
                "p_value": np.nan if domain == OVERALL else test.p_value,
            }
    return [found[label, domain] for label in scores for domain in (*domains, OVERALL) if (label, domain) in found]


_COLUMNS = (
    *("label", "domain", "mean", "reference_mean", "difference", "low", "high", "rows", "differing", "favours"),
    *("p_value", "adjusted", "mark"),
)


def _frame(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    texts = {"label": "object", "domain": "object", "mark": "object"}
    kinds = {name: texts.get(name, "float64") for name in _COLUMNS}
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(kinds)
