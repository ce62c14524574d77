"""`recbole-cdsr convert`: raw files in, atomic files out."""

from __future__ import annotations

import argparse
from pathlib import Path

from recbole_cdsr.convert import amazon, atomic_merge, csv_files, douban
from recbole_cdsr.convert.llmcdsr import SPLITS, convert_llmcdsr
from recbole_cdsr.data.card import load_card


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `convert` and its sources to the command line; the parsed arguments go to `run`."""
    parser = subparsers.add_parser("convert", help="convert raw files to RecBole's atomic files")
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    llmcdsr = sources.add_parser(
        "llmcdsr",
        help="a release of LLMCDSR",
        description="Convert a release of LLMCDSR (num.txt, train_*.txt, valid.txt, test.txt, item_set_*.pkl "
        "and text_*.pkl) to a dataset of atomic files.",
    )
    llmcdsr.add_argument("--raw", type=Path, required=True, metavar="DIR", help="folder of the release")
    llmcdsr.add_argument("--name", required=True, help="name of the dataset to write")
    llmcdsr.add_argument("--domains", required=True, metavar="A,B", help="names of the release's domains A and B")
    llmcdsr.add_argument("--out", type=Path, default=Path("atomic_data"), metavar="DIR", help="folder of datasets")
    llmcdsr.add_argument(
        "--split",
        choices=SPLITS,
        default="official",
        help="keep the release's own split (default), or join all its users for leave-one-out",
    )
    llmcdsr.add_argument(
        "--max-users",
        type=int,
        metavar="N",
        help="keep N users drawn at random: training users of the official split, all users for loo",
    )
    llmcdsr.add_argument("--seed", type=int, default=2026, metavar="S", help="seed of that draw (default 2026)")
    llmcdsr.set_defaults(convert=_convert_llmcdsr)
    amazon.add_parser(sources)
    douban.add_parser(sources)
    csv_files.add_parser(sources)
    atomic_merge.add_parser(sources)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Convert as asked, print the card of the dataset and return the exit code 0."""
    folder = args.convert(args)
    print(load_card(folder, args.name).describe())
    print(f"written to {folder}")
    return 0


def _convert_llmcdsr(args: argparse.Namespace) -> Path:
    return convert_llmcdsr(
        args.raw,
        args.name,
        tuple(args.domains.split(",")),
        args.out,
        split=args.split,
        max_users=args.max_users,
        seed=args.seed,
    )
