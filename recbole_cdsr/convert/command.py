"""`recbole-cdsr convert`: raw files in, atomic files out."""

from __future__ import annotations

import argparse

from recbole_cdsr.convert import amazon, atomic_merge, c2dsr, csv_files, douban, llmcdsr
from recbole_cdsr.data.card import load_card


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `convert` and its sources to the command line; the parsed arguments go to `run`."""
    parser = subparsers.add_parser("convert", help="convert raw files to RecBole's atomic files")
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    llmcdsr.add_parser(sources)
    amazon.add_parser(sources)
    douban.add_parser(sources)
    c2dsr.add_parser(sources)
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
