"""Writing and reading RecBole's atomic files so that text survives both ways.

A cell is quoted as CSV does (tab delimiter, quotes doubled), and only where it must be: plain
`pandas.read_csv` as RecBole calls it and `read_item_text` then see the same strings. Everything is written
beside its place and moved there when complete.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_cdsr.errors import CDSRError, ConfigError, DataError
from recbole_cdsr.files import replacing

FIELD_TYPES = ("token", "token_seq", "float", "float_seq")
DOMAIN_NAME = re.compile(r"[a-z0-9_-]+")
DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What pandas, and so RecBole, takes for a missing cell in any column, in quotes or not.
MISSING_WORDS = frozenset(
    [
        *("#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "NA", "n/a", "NULL", "null", "None"),
        *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    ]
)
COLUMN_NAME = re.compile(r"[^\s:\"]+")
# RecBole reads with Python's csv module, which refuses longer cells.
LONGEST_CELL = 131_072
# Up to here every integer is a float64 of its own.
_EXACT_INTEGERS = 2.0**53
# Cells are made of so many rows at a time: memory for strings does not grow with the file.
_ROWS_AT_ONCE = 100_000


def check_domain_name(name: str, where: str = "--domains", error: type[CDSRError] = ConfigError) -> str:
    """Return `name` if it can name a domain (`[a-z0-9_-]+`, so that it can stand in a metric's name).

    Parameters
    ----------
    name : str
        The candidate.
    where : str
        The option or file it comes from, named in the error.
    error : type[CDSRError]
        `ConfigError` for an option, `DataError` for a file.
    """
    if not isinstance(name, str) or not DOMAIN_NAME.fullmatch(name):
        raise error(f"{where}: {name!r} cannot name a domain; use lower-case letters, digits, '_' and '-'.")
    if name in MISSING_WORDS:
        raise error(f"{where}: {name!r} cannot name a domain, as RecBole reads it as a missing cell; choose another.")
    return name


def check_dataset_name(name: str, where: str = "--name") -> str:
    """Return `name` if it can name a dataset, that is a folder and the files in it; else `ConfigError`."""
    if not isinstance(name, str) or not DATASET_NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: {name!r} cannot name a dataset; use letters, digits, '.', '_' and '-', "
            "starting with a letter or digit."
        )
    return name


def readable_users(tokens: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return user tokens that RecBole reads as such: a user called `null` or `NA` would be a missing cell.

    Parameters
    ----------
    tokens : np.ndarray
        object `[U]`.

    Returns
    -------
    tokens, sentences
        object `[U]`, each such user with `_` behind the name (as many as make it a name of its own), and a sentence on
        each for the dataset's card.
    """
    if not (words := sorted(MISSING_WORDS.intersection(tokens.tolist()))):
        return tokens, []
    taken, names = set(tokens.tolist()), {}
    for word in words:
        name = f"{word}_"
        while name in taken:
            name += "_"
        names[word] = name
        taken.add(name)
    sentences = [
        f"user {word!r} is written {name!r}, as RecBole reads {word} as missing" for word, name in names.items()
    ]
    return np.array([names.get(token, token) for token in tokens.tolist()], dtype=object), sentences


def write_atomic(path: Path, frame: pd.DataFrame, types: Mapping[str, str]) -> None:
    """Write one atomic file: a `name:type` header, tab-separated rows, UTF-8, `\\n`.

    Parameters
    ----------
    path : Path
        The file.
    frame : pd.DataFrame
        Rows in the order to write.
    types : Mapping[str, str]
        RecBole's type of each column to write, in column order. `token` cells must not be empty; a missing
        `token_seq`, `float_seq` (strings, already joined) or `float` cell is written empty. A whole-numbered
        float is written as an integer, any other with the fewest digits that read back the same.

    Raises
    ------
    DataError
        For a cell that no reader could give back (empty token, infinite float, NUL, lone surrogate, too long)
        or a file that cannot be written.
    """
    for name, kind in types.items():
        if kind not in FIELD_TYPES:
            raise ValueError(f"column {name!r} has unknown type {kind!r}; RecBole knows {', '.join(FIELD_TYPES)}")
        if not COLUMN_NAME.fullmatch(name):
            raise DataError(f"{path}: column {name!r} cannot be named so; leave out ':', quotes and spaces.")
    header = "\t".join(f"{name}:{kind}" for name, kind in types.items())
    try:
        with replacing(path) as part, part.open("wb") as stream:
            stream.write(f"{header}\n".encode())
            for start in range(0, len(frame), _ROWS_AT_ONCE):
                stream.write(_encoded_rows(path, frame.iloc[start : start + _ROWS_AT_ONCE], types, start))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}).") from error


def _encoded_rows(path: Path, frame: pd.DataFrame, types: Mapping[str, str], first_row: int) -> bytes:
    columns = [
        _float_cells(path, frame[name], first_row)
        if kind == "float"
        else text_cells(path, frame[name], kind, first_row)
        for name, kind in types.items()
    ]
    rows = columns[0].str.cat(columns[1:], sep="\t") if len(columns) > 1 else columns[0]
    try:
        return ("\n".join(rows) + "\n").encode("utf-8")
    except UnicodeEncodeError as error:
        bad = error.object[max(0, error.start - 20) : error.end + 20]
        raise DataError(f"{path}: the text {bad!r} holds half a character that UTF-8 cannot write.") from error


def _float_cells(path: Path, column: pd.Series, first_row: int) -> pd.Series:
    values = pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)  # [N]
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise DataError(
            f"{path}: {column.name} of row {first_row + row + 1} is infinite; give a number or leave it out."
        )
    # Integers beyond 2**53 would lose digits on the detour over float64.
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
        return pd.Series(column.to_numpy().astype(str), dtype=object)
    whole = (np.abs(values) < _EXACT_INTEGERS) & (np.floor(values) == values)  # [N]; NaN is not whole
    cells = np.where(whole, np.where(whole, values, 0.0).astype(np.int64).astype(str), values.astype(str))
    return pd.Series(np.where(np.isnan(values), "", cells), dtype=object)


def text_cells(path: Path, column: pd.Series, kind: str, first_row: int = 0) -> pd.Series:
    """Return text as the cells of an atomic file, quoted where they must be.

    Parameters
    ----------
    path : Path
        The file they are for, named in errors.
    column : pd.Series
        `[n]` of strings; missing ones become empty cells.
    kind : str
        RecBole's type; a `token` must not be empty.
    first_row : int
        Row of the file that the column begins at, for errors.

    Raises
    ------
    DataError
        For a cell that no reader could give back.
    """
    if column.dtype == object and _needs_nothing(column.to_numpy(), kind):
        return column.reset_index(drop=True)
    missing = column.isna()
    text = column.astype(object).where(~missing, "").astype(str).astype(object).reset_index(drop=True)
    if kind == "token" and (empty := text == "").any():
        row = int(np.flatnonzero(empty.to_numpy())[0])
        raise DataError(f"{path}: {column.name} of row {first_row + row + 1} is empty; every row needs one.")
    if (nul := text.str.contains("\0", regex=False)).any():
        row = int(np.flatnonzero(nul.to_numpy())[0])
        raise DataError(
            f"{path}: {column.name} of row {first_row + row + 1} holds a NUL character, which no reader gives back."
        )
    if (long := text.str.len() > LONGEST_CELL).any():
        row = int(np.flatnonzero(long.to_numpy())[0])
        raise DataError(
            f"{path}: {column.name} of row {first_row + row + 1} is longer than {LONGEST_CELL:,} characters, "
            "more than RecBole's reader takes; shorten it."
        )
    quoted = text.str.contains('["\t\n\r]', regex=True).to_numpy(dtype=bool)  # [N]
    text[quoted] = '"' + text[quoted].str.replace('"', '""', regex=False) + '"'
    return text


def _needs_nothing(cells: np.ndarray, kind: str) -> bool:
    """Whether cells can be written as they are: one look at their text together, as nearly all ids pass."""
    try:
        joined = "".join(cells)
    except TypeError:  # something is missing, or no string
        return False
    lengths = [*map(len, cells)]
    return (
        not any(sign in joined for sign in '"\t\n\r\0')
        and max(lengths, default=0) <= LONGEST_CELL
        and (kind != "token" or min(lengths, default=1) > 0)
    )


def read_header(path: Path) -> dict[str, str]:
    """Return `{column: type}` of an atomic file, in column order; `DataError` if it has no such header."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            line = stream.readline().rstrip("\r\n")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    columns = dict(cell.rpartition(":")[::2] for cell in line.split("\t"))
    if not all(COLUMN_NAME.fullmatch(name) and kind in FIELD_TYPES for name, kind in columns.items()):
        raise DataError(
            f"{path}, line 1: expected tab-separated `name:type` with a type of {', '.join(FIELD_TYPES)}, "
            f"found {line[:80]!r}."
        )
    return columns


def read_item_text(dataset_dir: Path, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read `<name>.item` as text, exactly as written (RecBole's own columns split text at spaces).

    Parameters
    ----------
    dataset_dir : Path
        The dataset's folder.
    name : str
        The dataset's name.
    columns : Sequence[str], optional
        Columns wanted besides `item_id` and `domain`; default all.

    Returns
    -------
    pd.DataFrame
        One row per item in file order; columns without their type, every cell a `str`, "" where missing.

    Raises
    ------
    DataError
        For a file that is missing, broken or names an item twice, or a column it does not have.
    """
    path = Path(dataset_dir) / f"{name}.item"
    types = read_header(path)
    if "item_id" not in types:
        raise DataError(f"{path}, line 1: there is no column `item_id:token`.")
    unknown = [column for column in columns or () if column not in types]
    if unknown:
        raise DataError(f"{path}: there is no column {unknown[0]!r}; it has {', '.join(types)}.")
    try:
        frame = pd.read_csv(path, sep="\t", dtype=str, na_filter=False, encoding="utf-8", index_col=False)
    except (ValueError, OSError) as error:  # pandas' ParserError and UnicodeDecodeError are ValueErrors
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: cannot be read as tab-separated text ({reason}); cells that hold tabs, "
            "quotes or newlines must be quoted as in CSV, with quotes doubled."
        ) from error
    frame.columns = list(types)
    frame = frame.fillna("").astype(object)  # a row cut short leaves NaN even without the NA filter
    if (twice := frame["item_id"].duplicated()).any():
        raise DataError(f"{path}: item {frame.loc[twice, 'item_id'].iloc[0]!r} stands there twice; keep one row.")
    if columns is None:
        return frame
    return frame[list(dict.fromkeys([key for key in ("item_id", "domain") if key in types] + list(columns)))]
