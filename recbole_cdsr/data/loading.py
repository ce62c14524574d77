"""Checks of the atomic files, each answered with the file, the line and the remedy."""

from __future__ import annotations

import csv
import glob
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_cdsr.data.atomic import DOMAIN_NAME, FIELD_TYPES, MISSING_WORDS
from recbole_cdsr.errors import ConfigError, DataError

ANY_COUNT = "[0,inf)"  # RecBole's default interval: filters nothing
PARTS = ("train", "valid", "test")
MISSING = "empty, or a word that is read as missing, such as NA or null"


@dataclass(frozen=True)
class AtomicFile:
    """One atomic file, for saying where in it something is wrong.

    Parameters
    ----------
    path
        The file.
    separator
        Between its cells (RecBole's `field_separator`).
    encoding
        Of its text.
    """

    path: Path
    separator: str = "\t"
    encoding: str = "utf-8"

    def __str__(self) -> str:
        return str(self.path)

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Every record with the line it begins on, blank lines left out; the header is the first."""
        with self.path.open(encoding=self.encoding, newline="") as stream:
            reader, line = csv.reader(stream, delimiter=self.separator), 1
            for cells in reader:
                if len(cells) > 1 or "".join(cells).strip():
                    yield line, cells
                line = reader.line_num + 1

    def line(self, row: int) -> int:
        """The line that a row of the loaded table (0-based) begins on; quoted line breaks and blank lines count."""
        try:
            for place, (line, _) in enumerate(self._records()):
                if place == row + 1:
                    return line
        except csv.Error:  # a cell longer than Python's csv module takes
            pass
        return int(row) + 2

    def check_header(self, required: Mapping[str, str]) -> None:
        """Refuse a file without a `name:type` header, without the columns that are needed, or without a row.

        Parameters
        ----------
        required
            Type by column.

        Raises
        ------
        DataError
            Naming the cell of the header.
        """
        try:
            with self.path.open(encoding=self.encoding) as stream:
                header, has_rows = stream.readline().rstrip("\n"), any(line.strip() for line in stream)
        except (OSError, UnicodeDecodeError) as error:
            raise self.explain(error) from error
        types: dict[str, str] = {}
        for cell in header.split(self.separator):
            name, _, kind = cell.rpartition(":")
            if not name or ":" in name or kind not in FIELD_TYPES:
                raise DataError(
                    f"{self}, line 1: the column {cell[:80]!r} must be written `name:type` with a type of "
                    f"{', '.join(FIELD_TYPES)}, and columns be separated by {self.separator!r}."
                )
            if name.startswith("\ufeff"):
                raise DataError(
                    f"{self}, line 1: the file begins with a byte-order mark; save it as UTF-8 without one."
                )
            if name in types:
                raise DataError(f"{self}, line 1: the column '{name}' stands there twice; keep one of the two.")
            types[name] = kind
        for name, kind in required.items():
            if name not in types:
                raise DataError(
                    f"{self}, line 1: there is no column `{name}:{kind}` (found: {header[:80]!r}); add it, or name the "
                    "column that takes its place in the configuration."
                )
            if types[name] != kind:
                raise DataError(f"{self}, line 1: the column `{name}:{types[name]}` must be of type {kind}.")
        if not has_rows:
            raise DataError(f"{self} holds a header and no row; there is nothing to read.")

    def explain(self, error: Exception, sequence_separator: str = " ") -> DataError:
        """The error to raise in place of the one that reading the file ended in, with the line where it is found."""
        line = 0
        try:
            with self.path.open("rb") as stream:
                for raw in stream:
                    line += 1
                    raw.decode(self.encoding)
            records = self._records()
            _, header = next(records)
            numeric = [place for place, cell in enumerate(header) if cell.endswith((":float", ":float_seq"))]
            for line, cells in records:
                for place in (place for place in numeric if place < len(cells)):
                    sequence = header[place].endswith("_seq")
                    for text in cells[place].split(sequence_separator) if sequence else [cells[place]]:
                        if not _is_number(text):
                            return DataError(
                                f"{self}, line {line}: {header[place].rpartition(':')[0]} is {text[:80]!r}, which is "
                                "no number; mend or remove the line."
                            )
        except UnicodeDecodeError:
            return DataError(f"{self}, line {line}: the text is not {self.encoding}; convert the file to UTF-8.")
        except (OSError, csv.Error, StopIteration):
            pass
        reason = " ".join(str(error).split())
        return DataError(
            f"{self} cannot be read as an atomic file ({reason}); cells that hold separators, quotes or line breaks "
            "must be quoted as in CSV, with quotes doubled."
        )


def _is_number(text: str) -> bool:
    if not text.strip() or text in MISSING_WORDS:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # 1_000 is a number to Python only


def interaction_files(dataset_dir: Path, name: str) -> list[Path]:
    """The interaction files of a dataset: `<name>.inter`, or the three files of a pre-split release.

    Raises
    ------
    DataError
        When the folder or the files are not there, or both kinds are.
    """
    if not dataset_dir.is_dir():
        if replaced := sorted(dataset_dir.parent.glob(f"{glob.escape(name)}.replaced-*/")):
            raise DataError(
                f"Dataset '{name}' is not there: a conversion was killed while it replaced it. Convert it again, or "
                f"rename {replaced[0]}, the dataset as it was, to {dataset_dir}."
            )
        raise DataError(
            f"Dataset '{name}' is not there: no folder {dataset_dir}. Convert it first, e.g. "
            f"`recbole-cdsr convert douban --raw DIR --name {name} --out {dataset_dir.parent}` (`recbole-cdsr convert "
            "--help` lists the sources), or set data_path to the folder that holds it."
        )
    single = dataset_dir / f"{name}.inter"
    parts = [dataset_dir / f"{name}.{part}.inter" for part in PARTS]
    present = [path.name for path in parts if path.is_file()]
    if single.is_file():
        if present:
            raise DataError(
                f"Dataset '{name}' in {dataset_dir} has both {single.name} and {', '.join(present)}; "
                "keep the one file or the three."
            )
        return [single]
    missing = [path.name for path in parts if not path.is_file()]
    if missing:
        raise DataError(
            f"Dataset '{name}' in {dataset_dir} has neither {single.name} nor all of "
            f"{', '.join(path.name for path in parts)} (missing: {', '.join(missing)}). Convert it again."
        )
    return parts


def check_items(frame: pd.DataFrame | None, file: AtomicFile, item_field: str, domain_field: str) -> None:
    """Refuse an item table that does not tell every item's domain.

    Parameters
    ----------
    frame
        The table as loaded, None when no column of it was.
    file
        Where it comes from.
    item_field, domain_field
        Names of the columns.

    Raises
    ------
    DataError
        No table, no domain column, an item twice or without a domain, a malformed domain name, fewer than two domains.
    """
    if frame is None or not {item_field, domain_field} <= set(frame):
        raise DataError(
            f"{file} does not name the domain of its items: a column `{domain_field}:token` is needed beside "
            f"`{item_field}:token`, and load_col.item must list both."
        )
    _refuse_missing(frame[item_field], file, f"{item_field} is missing ({MISSING})", "give the item a token")
    refuse_repeated_items(frame[item_field], file)
    empty = np.flatnonzero(frame[domain_field].isna())
    if len(empty):
        token = frame[item_field].iloc[empty[0]]
        raise DataError(
            f"{file}, line {file.line(empty[0])}: item '{token}' has no {domain_field} "
            f"({len(empty)} such item(s)); name one, or remove the item and its interactions."
        )
    for name in frame[domain_field].unique():
        if not DOMAIN_NAME.fullmatch(name):
            row = int(np.flatnonzero(frame[domain_field] == name)[0])
            raise DataError(
                f"{file}, line {file.line(row)}: domain name '{name}' must consist of a-z, 0-9, '_' and '-' only."
            )
    check_domain_count(frame, file, domain_field)


def refuse_repeated_items(items: pd.Series, file: AtomicFile) -> None:
    """Raise `DataError` for an item that stands twice in an item table, given the tokens of its rows."""
    twice = np.flatnonzero(items.duplicated())
    if len(twice):
        token = items.iloc[twice[0]]
        raise DataError(
            f"{file}, line {file.line(twice[0])}: item '{token}' stands here a second time; keep one of the rows."
        )


def check_domain_count(frame: pd.DataFrame, file: AtomicFile, domain_field: str, after: str = "") -> None:
    """Refuse an item table of fewer than two domains.

    Parameters
    ----------
    after
        What was done to the table since it was loaded, for the message.
    """
    names = frame[domain_field].unique()
    if len(names) < 2:
        raise DataError(
            f"{file} holds one domain only{after} ('{names[0]}'); cross-domain recommendation needs two or more. "
            "For a single domain, use RecBole itself."
        )


def _refuse_missing(column: pd.Series, file: AtomicFile, what: str, remedy: str) -> None:
    empty = np.flatnonzero(column.isna())
    if len(empty):
        raise DataError(
            f"{file}, line {file.line(empty[0])}: {what}; {len(empty)} such line(s); {remedy}, or remove the line."
        )


def check_loaded(frame: pd.DataFrame | None, file: AtomicFile, fields: Sequence[str]) -> None:
    """Refuse a table of which a column that is needed was left out by load_col or unload_col.

    Parameters
    ----------
    frame
        The table as loaded, None when no column of it was.
    file
        Where it comes from.
    fields
        Names of the columns.

    Raises
    ------
    DataError
        Naming the column.
    """
    for field in fields:
        if frame is None or field not in frame:
            raise DataError(f"{file}: the column `{field}` is not loaded; load_col.inter must list it.")


def check_interactions(
    frame: pd.DataFrame, file: AtomicFile, user_field: str, item_field: str, time_field: str, items: pd.Series
) -> None:
    """Refuse interactions without user, item or time, or with an item that the item table lacks.

    Parameters
    ----------
    frame
        The interactions of one file, as loaded.
    file
        Where they come from.
    user_field, item_field, time_field
        Names of the columns.
    items
        Item tokens of the item table.

    Raises
    ------
    DataError
        Naming the first such line and how many there are.
    """
    for field in (user_field, item_field, time_field):
        _refuse_missing(frame[field], file, f"{field} is missing ({MISSING})", "fill it in")
    infinite = np.flatnonzero(np.isinf(frame[time_field]))
    if len(infinite):
        raise DataError(
            f"{file}, line {file.line(infinite[0])}: {time_field} is infinite; give a number, or remove the line."
        )
    unknown = np.flatnonzero(~frame[item_field].isin(items))
    if len(unknown):
        token = frame[item_field].iloc[unknown[0]]
        raise DataError(
            f"{file}, line {file.line(unknown[0])}: item '{token}' is not in the .item file ({len(unknown)} such "
            "line(s)); add it there with its domain, or remove its interactions."
        )


def check_lengths(frame: pd.DataFrame, file: AtomicFile, user_field: str, remedy: str, rows: np.ndarray) -> None:
    """Refuse users with a single interaction: nothing is left to predict from.

    Parameters
    ----------
    frame
        Interactions, possibly filtered.
    file
        Where they come from.
    user_field
        Name of the column.
    remedy
        End of the sentence.
    rows
        int64 ``[N]``, place of each interaction among the rows of the file.

    Raises
    ------
    DataError
        Naming the first such user and line.
    """
    users, _ = pd.factorize(frame[user_field])
    short = np.flatnonzero(np.bincount(users)[users] < 2)
    if len(short):
        token = frame[user_field].iloc[short[0]]
        raise DataError(
            f"{file}, line {file.line(rows[short[0]])}: user '{token}' has one interaction only, too short a history "
            f"({len(short)} such user(s)); {remedy}"
        )


def warn_of_targets(frame: pd.DataFrame, file: AtomicFile, user_field: str, time_field: str) -> None:
    """Warn where the last row of a user is not among the latest: another one is the target then, the latest.

    Parameters
    ----------
    frame
        Interactions of a validation or test file.
    file
        Where they come from.
    user_field, time_field
        Names of the columns.
    """
    times = frame.groupby(user_field, sort=False)[time_field].transform("max").to_numpy()
    last = ~frame[user_field].duplicated(keep="last").to_numpy()
    early = np.flatnonzero(last & (frame[time_field].to_numpy() < times))
    if len(early):
        logging.getLogger().warning(
            f"{file}, line {file.line(early[0])}: the last row of user '{frame[user_field].iloc[early[0]]}' is not the "
            f"latest ({len(early)} such user(s)). Rows are put in order of {time_field}, and the target is the latest, "
            f"not the last of the file; if that is not meant, mend {time_field}, such as by numbering each user's rows."
        )


def counts_are_filtered(config: Mapping[str, Any]) -> bool:
    """Whether users or items are to be dropped by how many interactions they have."""
    return any(config[f"{of}_inter_num_interval"] not in (None, ANY_COUNT) for of in ("user", "item"))


def check_unfiltered(config: Mapping[str, Any], name: str) -> None:
    """Refuse filters on a pre-split release, whose rows are published.

    Raises
    ------
    ConfigError
        Naming the keys.
    """
    counts = [f"{of}_inter_num_interval" for of in ("user", "item")]
    asked = [key for key in counts if config[key] not in (None, ANY_COUNT)]
    asked += [key for key in ("rm_dup_inter", "val_interval") if config[key] is not None]
    if asked:
        raise ConfigError(
            f"{', '.join(asked)}: '{name}' comes pre-split, and filtering it would change the published rows; remove "
            "the key, or convert the data with the filter and `--split loo`."
        )
