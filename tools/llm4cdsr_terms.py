"""What each term of LLM4CDSR's score is worth: a trained run judged by both, by the global and by the local one alone.

    python tools/llm4cdsr_terms.py saved/<run>

s(v) = h·g(v) + h^k·l_k(v). The first term comes from the mixed thread and the items' texts, the second from the thread
of the target's domain and rows learnt for its items. Nothing is trained; the terms were trained together, so that one
alone says what it holds in this model, not what a model of it alone would reach. Validation and test rows, every
candidate set of the run.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from torch import Tensor

import recbole_cdsr  # noqa: F401 - makes RecBole importable
from recbole_cdsr.errors import CDSRError
from recbole_cdsr.evaluate.evaluation import judge
from recbole_cdsr.evaluator.report import EvaluationReport
from recbole_cdsr.model.in_domain import DomainQuery
from recbole_cdsr.trained_run import SavedRun, TrainedRun

METRICS = ("ndcg@10", "hit@10")


def main() -> int:
    """Print a table for each split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="directory of a run, or a checkpoint")
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    try:
        saved = SavedRun.open(options.run)
        run = TrainedRun(saved, saved.config(["--show_progress=False"]))
        if run.config["model"] != "LLM4CDSR":
            raise CDSRError(f"{options.run} is a run of {run.config['model']}; name one of LLM4CDSR.")
        if not (run.config["use_global"] and run.config["use_local"]):
            raise CDSRError(f"{options.run} has one term only (use_global, use_local); name a run with both.")
        models = {id(run.model_of(name)): run.model_of(name) for name in run.data.domain_names}
    except CDSRError as error:
        print(error, file=sys.stderr)
        return 2
    for split, rows in (("validation", run.valid), ("test", run.test)):
        for kept in ("both terms", "global term", "local term"):
            queries = [(model, model._query) for model in models.values()]
            for model, query in queries:
                model._query = _only(query, kept, model.hidden_size)
            _say(split, kept, judge(run, rows))
            for model, query in queries:
                model._query = query
    return 0


def _only(query, kept: str, width: int):
    """The model's queries with the part of the other term zero."""

    def wrapped(interaction) -> DomainQuery:
        of_domain = query(interaction)

        def masked(domain: int, rows: Tensor) -> Tensor:
            vectors = of_domain(domain, rows).clone()  # [r, 2d], [h, h^k]
            if kept == "global term":
                vectors[:, width:] = 0
            elif kept == "local term":
                vectors[:, :width] = 0
            return vectors

        return masked

    return wrapped


def _say(split: str, kept: str, report: EvaluationReport) -> None:
    for candidates, judged in report.results.items():
        places = {"overall": judged.overall, **judged.domains}
        figures = "   ".join(
            f"{place} {' '.join(f'{metric} {values[metric]:.4f}' for metric in METRICS)}"
            for place, values in places.items()
        )
        print(f"{split:10s} {candidates:7s} {kept:12s} {figures}")


if __name__ == "__main__":
    sys.exit(main())
