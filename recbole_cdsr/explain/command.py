"""`recbole-cdsr explain`: generated names, their weights, the items they recall, and what came of it."""

from __future__ import annotations

import argparse

from recbole_cdsr.trained_run_options import add_run_options, named_place


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `explain` to the command line; the parsed arguments go to `run`."""
    parser = subparsers.add_parser(
        "explain",
        help="show what LLMCDSR recalls for users, and why",
        description="For users of a trained LLMCDSR: names that were generated, pooling weights, recalled items with "
        "cosine, and whether a recalled item occurs among the user's held-out interactions.",
        allow_abbrev=False,
    )
    add_run_options(parser)
    parser.add_argument(
        "--users", action="extend", nargs="+", default=[], metavar="U,V", help="users as the .inter file names them"
    )
    parser.add_argument("--random", type=int, default=0, metavar="N", help="N users with pseudo items, drawn by --seed")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="draws the users of --random (default 1)")
    parser.add_argument(
        "--history", type=int, default=10, metavar="N", help="latest history items to print (default 10)"
    )
    parser.add_argument("--all", action="store_true", help="also count hits over all users with held-out interactions")
    parser.add_argument("--data_path", metavar="DIR", help="folder of datasets, where it is another one than the run's")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print what was asked for and return the exit code 0."""
    from recbole_cdsr.errors import ConfigError
    from recbole_cdsr.explain.recall_view import RecallView, checkpoint_of_run
    from recbole_cdsr.explain.text import summary_text, user_text

    if not (args.users or args.random or args.all):
        raise ConfigError("explain: name users with --users, draw some with --random N, or count with --all.")
    for option, value in (("--random", args.random), ("--seed", args.seed), ("--history", args.history)):
        if value < 0:
            raise ConfigError(f"explain: {option} is {value}; it must be 0 or more.")
    path = named_place(args)
    if path.is_dir():
        path = checkpoint_of_run(path)
    view = RecallView.from_checkpoint(path, args.data_path)
    print(f"{path}: {view.described()}")
    for user in [*view.users_named(args.users), *view.random_users(args.random, args.seed)]:
        print("\n" + user_text(view.user(user), args.history))
    if args.all:
        print("\n" + summary_text(view.summary()))
    return 0
