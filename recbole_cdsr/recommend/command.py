"""`recbole-cdsr recommend`: the best items of each domain for users of the data, for all of them, or for new ones."""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.trained_run_options import PLACES, add_run_options, check_changes, named_place

if TYPE_CHECKING:
    import numpy as np

    from recbole_cdsr.recommend.histories import ServedHistories
    from recbole_cdsr.recommend.output import Writer
    from recbole_cdsr.recommend.recommender import DomainLists, Recommender
    from recbole_cdsr.trained_run import TrainedRun

HISTORY_ITEMS = 10


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `recommend` to the command line; the parsed arguments go to `run`."""
    parser = subparsers.add_parser(
        "recommend",
        help="recommend items with a trained model",
        description="For each user the best items of each domain, with titles and scores, and the history that led "
        f"there. Settings may follow as --key=value: {', '.join(sorted(PLACES))}.",
        allow_abbrev=False,
    )
    add_run_options(parser)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--users", action="extend", nargs="+", metavar="U,V", help="users as the .inter file names them")
    who.add_argument("--all-users", action="store_true", help="every user of the dataset")
    who.add_argument(
        "--history", action="append", metavar="A,B", help="items of a new user, oldest first; once for each new user"
    )
    who.add_argument("--histories", type=Path, metavar="FILE", help='new users: lines of {"user": "ann", "items": []}')
    parser.add_argument("--topk", type=int, default=10, metavar="K", help="items of each domain (default 10)")
    parser.add_argument(
        "--domain", action="extend", nargs="+", metavar="A,B", help="domains to recommend from (default: each of them)"
    )
    parser.add_argument("--keep-history", action="store_true", help="do not leave out what a user has already")
    parser.add_argument(
        "--new-items", type=Path, metavar="FILE", help="items unseen in training, by their text: .csv or .tsv"
    )
    parser.add_argument(
        "--new-item-features", type=Path, metavar="FILE", help="their vectors, where the run's were given as a matrix"
    )
    parser.add_argument("--only-new", action="store_true", help="recommend new items alone")
    parser.add_argument(
        "--show-history",
        type=int,
        metavar="N",
        help=f"latest history items to tell (default {HISTORY_ITEMS}; none with --all-users)",
    )
    parser.add_argument("--format", choices=["table", "jsonl", "tsv"], help="default: as --output ends, or table")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="file to write; it is there when it is complete, and an interrupted command goes on with it",
    )
    parser.set_defaults(run=run, takes_settings=True)
    return parser


_FORMAT_BY_SUFFIX = {".jsonl": "jsonl", ".json": "jsonl", ".tsv": "tsv", ".txt": "table", "": "table"}


def format_of(kind: str | None, output: Path | None) -> str:
    """The format asked for, or else the one that the file's name says; a table where there is no file.

    Raises
    ------
    ConfigError
        The file's name says none.
    """
    if kind is not None or output is None:
        return kind or "table"
    found = _FORMAT_BY_SUFFIX.get(output.suffix.lower())
    if found is None:
        raise ConfigError(f"--output {output}: write .jsonl, .tsv or .txt (a table), or say which with --format.")
    return found


def run(options: argparse.Namespace) -> int:
    """Print or write the recommendations and return the exit code 0."""
    check_changes("recommend", options.settings, PLACES)
    _check(options)
    from recbole_cdsr.recommend.histories import check_takes_histories
    from recbole_cdsr.recommend.new_items import check_scores_new_items, read_new_items
    from recbole_cdsr.recommend.new_users import with_profiles
    from recbole_cdsr.recommend.output import ItemNames, writer_of
    from recbole_cdsr.recommend.recommender import Recommender
    from recbole_cdsr.trained_run import SavedRun, TrainedRun

    saved = SavedRun.open(named_place(options))
    if options.output is not None:
        saved.check_not_its_own("--output", options.output)
    kind = format_of(options.format, options.output)
    trained = TrainedRun(saved, saved.config(options.settings))
    domains = _domains(options, trained)
    if options.history or options.histories:
        check_takes_histories(trained.data)
    histories = _histories(options, trained)
    new_items = None
    if options.new_items is not None:
        check_scores_new_items(trained)
        new_items = read_new_items(options.new_items, trained, options.new_item_features)
    recommender = Recommender(trained, domains, options.topk, options.keep_history, new_items, options.only_new)
    if options.history or options.histories:
        histories = with_profiles(trained, recommender.models, histories)
    n_history = options.show_history
    if n_history is None:
        n_history = 0 if options.all_users else HISTORY_ITEMS
    writer = writer_of(kind, ItemNames(trained.data, new_items), n_history)
    card = trained.data.card
    if card is not None and card.synthetic:
        logging.getLogger().warning(f"'{trained.data.dataset_name}' is SYNTHETIC data: none of these users is real.")
    _write(options, histories, recommender, writer, trained.config["show_progress"])
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.topk < 1:
        raise ConfigError(f"--topk is {options.topk}; it must be 1 or more.")
    if options.show_history is not None and options.show_history < 0:
        raise ConfigError(f"--show-history is {options.show_history}; it must be 0 or more.")
    if options.new_items is None and (options.only_new or options.new_item_features is not None):
        raise ConfigError("--only-new and --new-item-features belong to --new-items FILE; name the new items.")
    if options.output is not None:
        if options.output.is_dir():
            raise ConfigError(f"--output {options.output} is a folder; name a file in it.")
        if options.output.exists() and not options.output.is_file():
            raise ConfigError(f"--output {options.output} is no regular file; leave it out and redirect the output.")
        if not options.output.absolute().parent.is_dir():
            raise ConfigError(f"--output {options.output}: its folder is not there; make it first.")


def _domains(options: argparse.Namespace, trained: TrainedRun) -> list[int]:
    from recbole_cdsr.config_names import did_you_mean

    names = trained.data.domain_names
    wanted = [part for text in options.domain or names for part in text.split(",") if part]
    if not wanted:
        raise ConfigError(f"--domain names no domain; there are {', '.join(names)}.")
    for name in wanted:
        if name not in names:
            hint = did_you_mean(name, names)
            hint = f"; there are {', '.join(names)}." if hint == "." else hint
            raise ConfigError(f"--domain: '{trained.data.dataset_name}' has no domain {name!r}{hint}")
    return [names.index(name) for name in dict.fromkeys(wanted)]


def _histories(options: argparse.Namespace, trained: TrainedRun) -> ServedHistories:
    from recbole_cdsr.recommend import histories

    data = trained.data
    if options.history:
        known = data.field2token_id[data.iid_field]
        tokens = [histories.split_tokens([text], known) for text in options.history]
        given = [(f"new-{place}", items) for place, items in enumerate(tokens, start=1)]
        return histories.given_histories(data, given, [f"--history {text!r}" for text in options.history])
    if options.histories:
        return histories.given_histories(data, *histories.read_histories(options.histories))
    ids = None
    if options.users:
        tokens = histories.split_tokens(options.users, data.field2token_id[data.uid_field])
        if not tokens:
            raise ConfigError("--users names no user; give tokens as the .inter file has them, or --all-users.")
        ids = histories.users_named(data, tokens)
    return histories.for_the_model(data, histories.known_histories(data, ids), named=bool(options.users))


def _write(
    options: argparse.Namespace, histories: ServedHistories, recommender: Recommender, writer: Writer, progress: bool
) -> None:
    progress = progress and not (options.users or options.history) and (options.output is not None)
    with _loaded_objects_left_alone():
        if options.output is None:
            sys.stdout.write(writer.header)
            _tell(histories, recommender, writer, lambda text, _: sys.stdout.write(text), 0, progress)
            return
        from recbole_cdsr.recommend.continued_file import ContinuedFile

        file = ContinuedFile(options.output, _fingerprint(recommender, histories, writer))
        try:
            with file.opened():
                if file.done:
                    logging.getLogger().warning(
                        f"{options.output} was begun by this command: {file.done:,} of {len(histories):,} users are in "
                        "it, and it goes on behind them."
                    )
                else:
                    file.write(writer.header, 0)
                _tell(histories, recommender, writer, file.write, file.done, progress)
        except OSError as error:
            raise ConfigError(
                f"--output {options.output} could not be written ({error.strerror}); make room, and the same command "
                "goes on with it, or name a file elsewhere."
            ) from error


def _tell(
    histories: ServedHistories,
    recommender: Recommender,
    writer: Writer,
    write: Callable[[str, int], object],
    begin: int,
    progress: bool,
) -> None:
    """Write the lists of users from place `begin` on: each time a text, and how many users are told with it."""
    from tqdm import tqdm

    with (
        tqdm(
            total=len(histories), initial=begin, ncols=100, unit=" users", desc="Recommend", disable=not progress
        ) as bar,
        ThreadPoolExecutor(1) as writing,
    ):

        def tell(rows: np.ndarray, lists: list[DomainLists]) -> None:
            write(writer.text(histories, rows, lists), int(rows[-1]) + 1)
            bar.update(len(rows))

        told = None
        for rows, lists in recommender.lists(histories, begin):
            if told is not None:
                told.result()
            # Lists become text while the next ones are computed, one batch at most behind.
            told = writing.submit(tell, rows, lists)
        if told is not None:
            told.result()


def _fingerprint(recommender: Recommender, histories: ServedHistories, writer: Writer) -> str:
    """Stands for all that the written file depends on, so that no other command goes on with it."""
    from recbole_cdsr import __version__
    from recbole_cdsr.llm.store import hash_strings

    names, new_items = writer.names, recommender.new_items
    said = {
        "version": __version__,
        "recommender": recommender.described(),
        "writer": [type(writer).__name__, writer.n_history],
        "items": [hash_strings(texts) for texts in (names.tokens, names.titles, names.domains)],
        "new items": None if new_items is None else hashlib.sha256(new_items.features.tobytes()).hexdigest(),
        "users": hash_strings(list(map(str, histories.names))),
        "histories": [
            hashlib.sha256(numbers.tobytes()).hexdigest()
            for numbers in (histories.user_ids, histories.pointers, histories.items)
        ],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@contextmanager
def _loaded_objects_left_alone() -> Iterator[None]:
    """Have the garbage collector pass over all that is there already: texts are millions of objects, and it would look
    through the loaded libraries again and again, an eighth of the time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
