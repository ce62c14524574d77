"""From raw files to a dataset: the one path that every source of separate interactions takes.

A source (`Source`) says which files there are and how a block of them parses; everything else is here and the
same for all: counting, filtering, numbering, ordering, item text of what survives, card, writing.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_cdsr import __version__
from recbole_cdsr.convert.interactions import Interactions, RowBatch, RowCollector, Rows
from recbole_cdsr.convert.options import ConvertOptions
from recbole_cdsr.convert.overlap import with_overlap_ratio
from recbole_cdsr.convert.raw_file import RawFile
from recbole_cdsr.convert.recbole_benchmark import write_recbole_benchmark
from recbole_cdsr.convert.selection import FilterLog, StreamFilter, draw_users, select_rows
from recbole_cdsr.convert.text import writable
from recbole_cdsr.convert.token_table import TokenTable
from recbole_cdsr.convert.writer import write_dataset
from recbole_cdsr.data.atomic import readable_users
from recbole_cdsr.data.card import DatasetCard, count_interactions, count_splits
from recbole_cdsr.data.staged_folder import check_replaceable
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.ranges import places_in_ranges, runs


class Source(ABC):
    """How one collection of raw files is read.

    Class attributes: `name` (of the sub-command), `title` (of the collection, for the card), `text_types`
    (RecBole's type of each item text column, in order), `has_times`, `has_ratings`.
    """

    name: str
    title: str
    text_types: Mapping[str, str]
    has_times: bool = True
    has_ratings: bool = True

    @abstractmethod
    def interaction_files(self, domain: str) -> Sequence[RawFile]:
        """Return the files that hold a domain's interactions; `DataError` names one that is missing."""

    @abstractmethod
    def read_interactions(self, file: RawFile) -> Iterator[RowBatch]:
        """Yield the rows of `file` in its order, counting `file.rows` and reporting malformed ones to it."""

    @abstractmethod
    def item_files(self, domain: str) -> Sequence[RawFile]:
        """Return the files that hold a domain's item details."""

    @abstractmethod
    def read_items(self, file: RawFile, wanted: Container[str]) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield (raw item id, its text per column of `text_types`) of the items that are `wanted`."""

    def item_types(self, items: pd.DataFrame) -> Mapping[str, str]:
        """Return the type that each text column of `items` is written as."""
        return self.text_types


def convert(source: Source, options: ConvertOptions) -> Path:
    """Convert raw files to `<out>/<name>/`.

    Parameters
    ----------
    source : Source
        How the files are read.
    options : ConvertOptions
        What is kept and where it goes.

    Returns
    -------
    Path
        The dataset's folder.

    Raises
    ------
    ConfigError
        For options that the source cannot honour, one file for two domains among them.
    DataError
        For files that are missing, broken or too malformed, a selection that leaves nothing (it says which
        filter dropped what), or a folder that cannot be written.
    """
    if not source.has_times and (options.selection.since is not None or options.selection.until is not None):
        raise ConfigError(f"--from and --to: {source.title} has no times; leave them out.")
    if not source.has_ratings and options.selection.min_rating is not None:
        raise ConfigError(f"--min-rating: {source.title} has no ratings; leave it out.")
    check_replaceable(Path(options.out) / options.name)
    # All files are looked for before the first is read: a missing one shows at once, not after an hour.
    every_domain = [*options.domains, *options.counted_domains]
    files = {domain: list(source.interaction_files(domain)) for domain in every_domain}
    item_files = {domain: [] for domain in options.domains}
    if not options.without_text:
        item_files = {domain: list(source.item_files(domain)) for domain in options.domains}
    _refuse_shared_files(files)

    rows, user_ids, item_ids, log = read_rows(source, files, options)
    row_files = [file for some in files.values() for file in some]
    check_malformed(row_files, options.max_malformed)
    log.refuse_empty(len(rows))
    rows = select_rows(rows, options.selection, log, len(options.domains) if options.counted_domains else None)
    log.refuse_empty(len(rows))
    interactions = order_rows(rows, user_ids, item_ids, source, options, log)
    del rows, user_ids, item_ids
    _refuse_empty_domain(interactions, files, log)
    if source.has_times:
        _say_repeats(interactions, log)

    items = read_item_table(source, item_files, interactions)
    details = [file for some in item_files.values() for file in some]
    if any(file.malformed for file in details):
        check_malformed([*row_files, *details], options.max_malformed)
    card = make_card(source, options, row_files, details, log, interactions, items)
    if len(options.domains) > 1 and not card.overlapped_users:
        logging.getLogger().warning(
            "No user has interactions in two domains, so that nothing can be learnt across them; if the files are of "
            "the same people, look whether their ids are written alike (123 and 123.0 are not)."
        )
    parts = {"": interactions}
    if options.overlap_ratio is not None:
        parts = dilute_overlap(card, interactions, options.overlap_ratio, options.selection.seed)
    types = {} if options.without_text else source.item_types(items)
    return write_dataset(
        options.out, card, parts, items, types, benchmark_writer(card, parts, options.recbole_benchmark)
    )


def dilute_overlap(card: DatasetCard, interactions: Interactions, ratio: float, seed: int) -> dict[str, Interactions]:
    """Return train, valid and test files with fewer overlapped training users, and say so on the card.

    The card's counts stay those of the interactions before; `splits` is of the files.
    """
    dilution = with_overlap_ratio({"": interactions}, ratio, seed)
    card.splits = count_splits({part: rows.users for part, rows in dilution.parts.items()})
    card.filters.append(dilution.sentence(ratio, seed))
    return dilution.parts


def benchmark_writer(
    card: DatasetCard, parts: Mapping[str, Interactions], max_length: int | None
) -> Callable[[Path], None] | None:
    """Return what writes the files for RecBole's `benchmark_filename` into a folder, None where none are wanted."""
    if max_length is None:
        return None
    return lambda folder: write_recbole_benchmark(folder, card.name, parts, max_length)


def read_rows(
    source: Source, files: Mapping[str, Sequence[RawFile]], options: ConvertOptions
) -> tuple[Rows, TokenTable, list[TokenTable], FilterLog]:
    """Read all interaction files, dropping at once what a row's own time and rating rule out.

    Returns
    -------
    rows, user_ids, item_ids, log
        The rows in source order, raw ids of users and of each domain's items, and what was dropped.
    """
    stream_filter = StreamFilter(options.selection)
    collector = RowCollector(len(files))
    for index, some in enumerate(files.values()):
        for file in some:
            for batch in source.read_interactions(file):
                collector.add(index, batch, stream_filter.keep(batch))
    return *collector.finish(), stream_filter.log()


def check_malformed(files: Sequence[RawFile], largest_share: float) -> None:
    """Log malformed rows; raise `DataError` when their share of all rows is above `largest_share`."""
    rows, malformed = sum(file.rows for file in files), sum(file.malformed for file in files)
    if not malformed:
        return
    worst = max(files, key=lambda file: file.malformed)
    places = "; ".join(f"line {number}: {fault}" for number, fault in worst.malformed_lines)
    story = (
        f"{malformed:,} of {rows:,} rows ({malformed / rows:.2%}) are malformed, {worst.malformed:,} of them in "
        f"{worst.path} ({places})"
    )
    if malformed > largest_share * rows:
        raise DataError(f"{story}; at most {largest_share:.2%} are accepted, see --max-malformed.")
    logging.getLogger().warning("%s; they are left out.", story)


def order_rows(
    rows: Rows,
    user_ids: TokenTable,
    item_ids: Sequence[TokenTable],
    source: Source,
    options: ConvertOptions,
    log: FilterLog,
) -> Interactions:
    """Number what is left by token, draw users, and sort by user, time and source order.

    Users and items (within a domain) are ordered by their raw id, so that the order of files and rows decides
    nothing but ties in time.
    """
    selection = options.selection
    users, tokens = _ranked(rows.users, user_ids)
    if selection.max_users is not None and selection.max_users < len(tokens):
        drawn = draw_users(users, len(tokens), selection.max_users, selection.seed)
        before = len(rows)
        rows, users = rows.take(drawn), users[drawn]
        used, users = np.unique(users, return_inverse=True)
        users, tokens = users.astype(np.int32), tokens[used]
        log.add(f"--max-users {selection.max_users:,} (seed {selection.seed})", before, len(rows))
    tokens, renamed = readable_users(tokens)
    for sentence in renamed:
        logging.getLogger().warning("%s.", sentence)
    log.remarks += renamed
    order = np.lexsort((rows.times, users)) if source.has_times else np.argsort(users, kind="stable")
    rows, users = rows.take(order), users[order]
    items, kept_tokens, item_domains = _ranked_items(rows, item_ids, list(options.domains))
    times = rows.times
    if not source.has_times:
        starts, stops = runs(users)
        times = places_in_ranges(stops - starts).astype(np.float64)
    return Interactions(
        users=users,
        items=items,
        times=times,
        ratings=rows.ratings if source.has_ratings else None,
        user_tokens=tokens,
        item_tokens=kept_tokens,
        item_domains=item_domains,
        domain_names=tuple(options.domains),
    )


def read_item_table(source: Source, files: Mapping[str, Sequence[RawFile]], interactions: Interactions) -> pd.DataFrame:
    """Return `item_id`, `domain` and the text of the surviving items; text of others is never held.

    Of several rows of one item the first counts. An item without a row has empty text.
    """
    columns = list(source.text_types)
    texts: dict[str, Sequence[str]] = {}
    for domain, some in files.items():
        prefix = f"{domain}:"
        missing = {token[len(prefix) :] for token in interactions.item_tokens if token.startswith(prefix)}
        for file in some:
            for item, cells in source.read_items(file, missing):
                if item in missing:
                    missing.discard(item)
                    texts[prefix + item] = [writable(cell) for cell in cells]
        if some and missing:
            logging.getLogger().warning(
                "%s: %d of the items have no details in %s; their text is empty.",
                domain,
                len(missing),
                " or ".join(file.path.name for file in some),
            )
    names = np.array(interactions.domain_names, dtype=object)
    frame = pd.DataFrame({"item_id": interactions.item_tokens, "domain": names[interactions.item_domains]})
    if any(files.values()):
        empty = ("",) * len(columns)
        rows = [texts.pop(token, empty) for token in interactions.item_tokens]
        for place, column in enumerate(columns):
            frame[column] = np.array([*(row[place] for row in rows), None], dtype=object)[:-1]
    return frame


def make_card(
    source: Source,
    options: ConvertOptions,
    row_files: Sequence[RawFile],
    item_files: Sequence[RawFile],
    log: FilterLog,
    interactions: Interactions,
    items: pd.DataFrame,
) -> DatasetCard:
    """Return the card of a dataset that is about to be written."""
    converter: dict[str, Any] = {"name": source.name}
    if options.preset:
        converter["preset"] = options.preset
    converter["options"] = options.given
    counts = count_interactions(
        {"": (interactions.users, interactions.items)}, interactions.item_domains, interactions.domain_names
    )
    text = items.columns.difference(["item_id", "domain", "id"])
    if len(text):
        empty = (items[text] == "").all(axis=1).groupby(items["domain"]).sum()
        for domain in counts["domains"]:
            if missing := int(empty.get(domain["name"], 0)):
                domain["items_without_text"] = missing
    malformed = sum(file.malformed for file in row_files)
    return DatasetCard(
        name=options.name,
        synthetic=options.synthetic,
        description=options.description or f"{source.title}, {', '.join(options.domains)}",
        source={"title": source.title, "files": [file.describe() for file in (*row_files, *item_files)]},
        package_version=__version__,
        converter=converter,
        split="loo",
        filters=log.sentences(),
        rows={"read": log.read + malformed, "kept": len(interactions), "malformed": malformed},
        **counts,
    )


def _refuse_shared_files(files: Mapping[str, Sequence[RawFile]]) -> None:
    """Domains of one file would have the same interactions at the same times, each giving away the other's."""
    domain_of: dict[Path, str] = {}
    for domain, some in files.items():
        for file in some:
            if (other := domain_of.setdefault(file.path.resolve(), domain)) != domain:
                raise ConfigError(f"{file.path} is the file of both {other!r} and {domain!r}; name one for each.")


def _say_repeats(interactions: Interactions, log: FilterLog) -> None:
    """Published files hold some rows twice. They are data and stay, but a repeated target is an easy one to guess."""
    if repeats := interactions.count_repeats():
        sentence = (
            f"{repeats:,} of {len(interactions):,} interactions repeat another of the same user, item and time, and "
            "are kept (--dedup keeps one interaction of a user with an item)"
        )
        logging.getLogger().warning("%s.", sentence)
        log.remarks.append(sentence)


def _refuse_empty_domain(interactions: Interactions, files: Mapping[str, Sequence[RawFile]], log: FilterLog) -> None:
    left = np.bincount(interactions.item_domains, minlength=len(interactions.domain_names))
    for domain, n_items in zip(interactions.domain_names, left, strict=True):
        if not n_items:
            read = sum(file.rows for file in files[domain])
            names = ", ".join(str(file.path) for file in files[domain])
            story = f" ({'; '.join(log.sentences())})" if log.steps else ""
            raise DataError(f"nothing is left of domain {domain!r}, of which {names} holds {read:,} rows{story}.")


def _ranked(codes: np.ndarray, ids: TokenTable) -> tuple[np.ndarray, np.ndarray]:
    """Renumber the codes that occur by the order of their tokens; return int32 `[N]` and the tokens, sorted."""
    used = np.flatnonzero(np.bincount(codes, minlength=len(ids)))
    tokens = ids.tokens(used)
    order = np.argsort(tokens, kind="stable")
    rank = np.zeros(len(ids), dtype=np.int32)
    rank[used[order]] = np.arange(len(order), dtype=np.int32)
    return rank[codes], tokens[order]


def _ranked_items(
    rows: Rows, ids: Sequence[TokenTable], domains: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for items, domain by domain: int32 `[N]`, tokens `<domain>:<raw id>` and domains of the items kept."""
    items = np.empty(len(rows), dtype=np.int32)
    tokens: list[str] = []
    sizes, first = [], 0
    for place, domain in enumerate(domains):
        of_domain = np.flatnonzero(rows.domains == place)
        ranks, raw_ids = _ranked(rows.items[of_domain] - first, ids[place])
        items[of_domain] = ranks + len(tokens)
        tokens += [f"{domain}:{raw_id}" for raw_id in raw_ids]
        sizes.append(len(raw_ids))
        first += len(ids[place])
    return items, np.array([*tokens, None], dtype=object)[:-1], np.repeat(np.arange(len(sizes)), sizes)
