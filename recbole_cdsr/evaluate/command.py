"""`recbole-cdsr evaluate`: the table and the result file of a trained checkpoint under another protocol."""

from __future__ import annotations

import argparse

from recbole_cdsr.trained_run_options import PLACES, add_run_options, named_place

# How rows are judged; nothing of it is read in training.
PROTOCOL = frozenset(
    [
        *("eval_candidates", "eval_seed", "candidate_domains", "exclude_history", "ties"),
        *("topk", "metrics", "metric_decimal_place", "tail_ratio"),
    ]
)
CHANGEABLE = PROTOCOL | PLACES | {"result_file"}


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `evaluate` to the command line; the parsed arguments go to `run`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="judge a trained checkpoint, also under another protocol",
        description="Judge what a run has selected, without training: validation and test rows under the run's own "
        "protocol, or under another one with --eval_candidates, --topk, --metrics, --ties, --exclude_history, ... as "
        "--key=value. --result_file=FILE writes what a run writes, with the ranks of the test rows beside it.",
        allow_abbrev=False,
    )
    add_run_options(parser)
    parser.set_defaults(run=run, takes_settings=True)
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the table of the test rows and return the exit code 0."""
    from recbole_cdsr.evaluate.evaluation import evaluate_run

    evaluate_run(named_place(options), options.settings)
    return 0
