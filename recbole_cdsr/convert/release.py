"""Releases that come as sequences, split by their authors: what their converters share.

A release has nothing to filter row by row: its lines are users' histories, and its split is taken over. A line that
cannot be understood is counted and left out, as elsewhere, up to `--max-malformed`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_cdsr import __version__
from recbole_cdsr.convert.interactions import Interactions
from recbole_cdsr.convert.overlap import with_overlap_ratio
from recbole_cdsr.convert.pipeline import benchmark_writer
from recbole_cdsr.convert.raw_file import RawFile
from recbole_cdsr.convert.writer import write_dataset
from recbole_cdsr.data.atomic import readable_users
from recbole_cdsr.data.card import DatasetCard, count_interactions, count_splits
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.ranges import places_in_ranges


@dataclass(frozen=True)
class Sequences:
    """The rows of one or several sequence files, flat.

    Parameters
    ----------
    users : np.ndarray
        object `[U]`: user tokens, in file order.
    lengths : np.ndarray
        int64 `[U]`: items of each user.
    items : np.ndarray
        int64 `[lengths.sum()]`: 0-based items over all domains, a user's together and oldest first.
    times : np.ndarray, optional
        float64 `[lengths.sum()]`; None where the release has no times.
    """

    users: np.ndarray
    lengths: np.ndarray
    items: np.ndarray
    times: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Sequences:
        """Return the users at `rows` (bool `[U]`) with their items."""
        flat = np.repeat(rows, self.lengths)
        times = None if self.times is None else self.times[flat]
        return Sequences(self.users[rows], self.lengths[rows], self.items[flat], times)

    @staticmethod
    def joined(parts: Sequence[Sequences]) -> Sequences:
        """Return all users of `parts`, one part after the other."""
        timed = parts[0].times is not None
        return Sequences(
            np.concatenate([part.users for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.items for part in parts]),
            np.concatenate([part.times for part in parts]) if timed else None,
        )


@dataclass
class Release:
    """A release that has been read, on its way to a dataset.

    Parameters
    ----------
    name : str
        Of the dataset.
    converter : str
        Name of the sub-command.
    title, description : str
        Of the release and of the dataset, for the card.
    domains : tuple[str, ...]
        K names.
    parts : dict[str, Sequences]
        `{"": sequences}` to be split by leave-one-out, or `train`, `valid` and `test`; users of the same token are the
        same user.
    items : pd.DataFrame
        `item_id`, `domain` and text columns, by the items' numbers.
    text_types : Mapping[str, str]
        RecBole's type of each text column.
    files : list[dict[str, Any]]
        What the card says of the source's files.
    rows : dict[str, int]
        `read`, `kept` and `malformed` lines.
    options : dict[str, object]
        What the card says was asked for.
    filters : list[str]
        What was left out, one sentence each.
    preset : str
        "" for none.
    synthetic : bool
        Whether a program made the files.
    people : np.ndarray, optional
        object, the person behind each user of all parts, one after the other; None where every token is a person.
    """

    name: str
    converter: str
    title: str
    description: str
    domains: tuple[str, ...]
    parts: dict[str, Sequences]
    items: pd.DataFrame
    text_types: Mapping[str, str]
    files: list[dict[str, Any]]
    rows: dict[str, int]
    options: dict[str, object]
    filters: list[str] = field(default_factory=list)
    preset: str = ""
    synthetic: bool = False
    people: np.ndarray | None = None

    def interactions(self) -> dict[str, Interactions]:
        """Return the rows of each part; users are numbered over all parts as they first appear."""
        numbers, tokens = pd.factorize(np.concatenate([part.users for part in self.parts.values()]))
        item_domains = pd.Index(self.domains).get_indexer(self.items["domain"])
        found, first = {}, 0
        for name, part in self.parts.items():
            users = np.repeat(numbers[first : first + len(part.users)], part.lengths)
            first += len(part.users)
            times = places_in_ranges(part.lengths).astype(np.float64) if part.times is None else part.times
            rows = Interactions(
                users=users.astype(np.int32),
                items=part.items.astype(np.int32),
                times=times,
                ratings=None,
                user_tokens=np.asarray(tokens, dtype=object),
                item_tokens=self.items["item_id"].to_numpy(dtype=object),
                item_domains=item_domains.astype(np.int64),
                domain_names=self.domains,
            )
            # A user of several lines: rows by user and time, lines in their order where times are equal.
            found[name] = rows if part.times is None else rows.take(np.lexsort((times, users)))
        return found

    def write(self, out_dir: Path, overlap_ratio: float | None, seed: int, max_length: int | None) -> Path:
        """Write the dataset's folder and return it.

        Parameters
        ----------
        out_dir : Path
            The folder of all datasets.
        overlap_ratio : float, optional
            See `with_overlap_ratio`.
        seed : int
            Of that draw.
        max_length : int, optional
            See `write_recbole_benchmark`.
        """
        parts = self.interactions()
        tokens, renamed = readable_users(next(iter(parts.values())).user_tokens)
        for sentence in renamed:
            logging.getLogger().warning("%s.", sentence)
        parts = {part: replace(rows, user_tokens=tokens) for part, rows in parts.items()}
        whole = parts.get("")
        filters = [*self.filters, *renamed]
        if overlap_ratio is not None:
            dilution = with_overlap_ratio(parts, overlap_ratio, seed, self._person_of_user())
            parts = dilution.parts
            filters.append(dilution.sentence(overlap_ratio, seed))
        # Flat files of leave-one-out repeat the histories of judged users: counted are the rows they are cut from.
        counted = {"": whole} if whole is not None else parts
        rows = next(iter(counted.values()))
        counts = count_interactions(
            {part: (rows.users, rows.items) for part, rows in counted.items()}, rows.item_domains, rows.domain_names
        )
        if "" not in parts:
            counts["splits"] = count_splits({part: rows.users for part, rows in parts.items()})
        self._count_missing_text(counts["domains"])
        card = DatasetCard(
            name=self.name,
            synthetic=self.synthetic,
            description=self.description,
            source={"title": self.title, "files": self.files},
            package_version=__version__,
            converter={
                "name": self.converter,
                **({"preset": self.preset} if self.preset else {}),
                "options": self.options,
            },
            split="official" if whole is None else "loo",
            filters=filters,
            rows=self.rows,
            **counts,
        )
        return write_dataset(
            out_dir, card, parts, self.items, self.text_types, benchmark_writer(card, parts, max_length)
        )

    def _person_of_user(self) -> np.ndarray | None:
        if self.people is None:
            return None
        users, _ = pd.factorize(np.concatenate([part.users for part in self.parts.values()]))
        people, _ = pd.factorize(self.people)
        person_of_user = np.zeros(users.max(initial=-1) + 1, dtype=np.int64)
        person_of_user[users] = people
        return person_of_user

    def _count_missing_text(self, domains: list[dict[str, Any]]) -> None:
        if not self.text_types:
            return
        empty = (self.items[list(self.text_types)] == "").all(axis=1).groupby(self.items["domain"]).sum()
        for domain in domains:
            if missing := int(empty.get(domain["name"], 0)):
                domain["items_without_text"] = missing


def check_draw(max_users: int | None, seed: int) -> None:
    """Raise `ConfigError` for a draw of users that cannot be made."""
    if max_users is not None and max_users < 1:
        raise ConfigError(f"--max-users: {max_users} leaves nobody; give 1 or more.")
    if seed < 0:
        raise ConfigError(f"--seed: {seed} is negative; give 0 or more.")


def describe_draws(
    max_users: int | None, overlap_ratio: float | None, recbole_benchmark: int | None, seed: int
) -> dict[str, object]:
    """What the card says of options that all releases share: those given, and the seed where something is drawn."""
    given: dict[str, object] = {
        "max_users": max_users,
        "overlap_ratio": overlap_ratio,
        "recbole_benchmark": recbole_benchmark,
        "seed": None if max_users is None and overlap_ratio is None else seed,
    }
    return {key: value for key, value in given.items() if value is not None}


def report_faults(file: RawFile, faults: Mapping[int, str]) -> None:
    """Report the lines at fault to their file, first line first."""
    for number in sorted(faults):
        file.report_malformed(number, faults[number])


def check_faults(files: Sequence[RawFile], largest_share: float) -> int:
    """Return how many lines are malformed, and log them.

    Raises
    ------
    DataError
        When their share of all lines is above `largest_share`, with the first of them.
    """
    rows, malformed = sum(file.rows for file in files), sum(file.malformed for file in files)
    if not malformed:
        return 0
    worst = next(file for file in files if file.malformed)
    number, fault = worst.malformed_lines[0]
    if malformed > largest_share * rows:
        count = (
            f" ({malformed:,} of {rows:,} rows are malformed, at most {largest_share:.2%} are accepted, see "
            "--max-malformed)"
            if malformed > 1
            else ""
        )
        raise DataError(f"{worst.path}, line {number}: {fault.rstrip('.')}{count}.")
    logging.getLogger().warning(
        "%d of %d rows are malformed and left out, the first is %s, line %d: %s",
        malformed,
        rows,
        worst.path,
        number,
        fault,
    )
    return malformed


def draw_users(users: np.ndarray, max_users: int | None, seed: int, whom: str) -> tuple[np.ndarray, list[str]]:
    """Draw people, each with all sequences.

    Parameters
    ----------
    users : np.ndarray
        object `[U]`: who each sequence belongs to.
    max_users : int, optional
        How many to keep; None for all.
    seed : int
        Of the draw.
    whom : str
        What they are called on the card.

    Returns
    -------
    rows, sentences
        bool `[U]`, the sequences kept, and what the card says of it.
    """
    codes, people = pd.factorize(users)
    if max_users is None or max_users >= len(people):
        return np.ones(len(users), dtype=bool), []
    drawn = np.zeros(len(people), dtype=bool)
    drawn[np.random.default_rng(seed).choice(len(people), size=max_users, replace=False)] = True
    return drawn[codes], [f"{max_users:,} of {len(people):,} {whom} drawn at random with seed {seed}"]
