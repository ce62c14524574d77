"""The rows of a dataset as plain RecBole reads them from `benchmark_filename`: a target with its history in one line.

RecBole loads a split that is not its own only in this form. `<name>.recbole.{train,valid,test}.inter` have the columns
`user_id:token item_id_list:token_seq item_id:token`, one line for each target: in training every interaction that has a
history, in validation and test the judged rows. A list holds the last `max_length` items, oldest first, since RecBole
cuts a longer one at the wrong end. `<name>.recbole.yaml` holds the settings that RecBole needs with these files:

    run_recbole(model="SASRec", dataset=NAME, config_file_list=["atomic_data/NAME/NAME.recbole.yaml"])
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import yaml

from recbole_cdsr.convert.interactions import Interactions
from recbole_cdsr.data.atomic import text_cells
from recbole_cdsr.data.sequences import Rows, SequenceLog, leave_one_out, pre_split
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.files import replacing
from recbole_cdsr.ranges import expand_ranges

MAX_ITEM_LIST_LENGTH = 50  # RecBole's default
PARTS = ("train", "valid", "test")
HEADER = b"user_id:token\titem_id_list:token_seq\titem_id:token\n"
# Items of the lines that are put together at once: some megabytes of text, and an index of eight bytes to each byte.
_CHUNK_ITEMS = 1 << 18


def check_benchmark_length(max_length: int) -> int:
    """Return `max_length` if a list can be that long; else `ConfigError`."""
    if max_length < 1:
        raise ConfigError(f"--recbole-benchmark: lists of {max_length} items hold nothing; give 1 or more.")
    return max_length


def write_recbole_benchmark(
    folder: Path, name: str, parts: Mapping[str, Interactions], max_length: int = MAX_ITEM_LIST_LENGTH
) -> None:
    """Write the three files and the settings that belong to them.

    Parameters
    ----------
    folder : Path
        The dataset's folder.
    name : str
        The dataset's name.
    parts : Mapping[str, Interactions]
        All rows under the key `""`, which are split by leave-one-out, or `train`, `valid` and `test` of pre-split
        data, whose users are numbered together; in the latter two a user's last row is the target.
    max_length : int
        Items of a list at most; RecBole's `MAX_ITEM_LIST_LENGTH` must not be less.

    Raises
    ------
    ConfigError
        For a length below 1.
    DataError
        When an item token holds white space, which separates the items of a list, when there is nothing to train on
        or to judge, or when a file cannot be written.
    """
    check_benchmark_length(max_length)
    if "" in parts:
        rows = parts[""]
        log = leave_one_out(rows.users, rows.items, rows.times)
    else:
        files = [parts[part] for part in PARTS]
        columns = (np.concatenate([getattr(rows, column) for rows in files]) for column in ("users", "items", "times"))
        log = pre_split(*columns, [len(rows) for rows in files])
        rows = files[0]
    tokens = pd.Series(rows.item_tokens, dtype=object)
    if (spaced := tokens.str.contains(r"\s", regex=True)).any():
        raise DataError(
            f"--recbole-benchmark: item {tokens[spaced].iloc[0]!r} holds white space, which separates the items of a "
            "list in RecBole's files; leave the option out."
        )
    users = pd.Series(rows.user_tokens, name="user_id", dtype=object)
    user_cells = text_cells(folder / f"{name}.recbole.train.inter", users, "token")
    lines = _Lines(log, user_cells, tokens, max_length)
    for part, rows in zip(PARTS, (log.prefix_rows(fold_in=False), log.valid, log.test), strict=True):
        path = folder / f"{name}.recbole.{part}.inter"
        if not len(rows):
            raise DataError(f"--recbole-benchmark: {path.name} would be empty, as every user is too short for it.")
        try:
            with replacing(path) as beside, beside.open("wb") as stream:
                stream.write(HEADER)
                lines.write(stream, rows)
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}).") from error
    settings = {
        "benchmark_filename": [f"recbole.{part}" for part in PARTS],
        "load_col": {"inter": ["user_id", "item_id_list", "item_id"], "item": ["item_id", "domain"]},
        "alias_of_item_id": ["item_id_list"],
        "MAX_ITEM_LIST_LENGTH": max_length,
    }
    path = folder / f"{name}.recbole.yaml"
    try:
        with replacing(path) as beside:
            beside.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}).") from error


class _Lines:
    """Lines cut out of one buffer: the user cells, the flat sequences as text, and what stands between them.

    A history is a slice of its user's sequence, in text as in items, so that a line is six ranges of bytes.
    """

    def __init__(self, log: SequenceLog, user_cells: pd.Series, item_tokens: pd.Series, max_length: int) -> None:
        self._log = log
        self._max_length = max_length
        between = b"\t\n"
        cells = [cell.encode("utf-8") for cell in user_cells]
        tokens = [token.encode("utf-8") for token in item_tokens]
        self._cell_lengths = np.fromiter(map(len, cells), dtype=np.int64, count=len(cells))  # [U]
        self._cell_starts = len(between) + np.cumsum(self._cell_lengths) - self._cell_lengths  # [U]
        token_lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))  # [n_items]
        sequence = b" ".join(np.array(tokens, dtype=object)[log.items].tolist())
        head = between + b"".join(cells)
        self._buffer = np.frombuffer(head + sequence, dtype=np.uint8)
        self._token_lengths = token_lengths[log.items]  # [N]
        self._token_starts = len(head) + np.cumsum(self._token_lengths + 1) - (self._token_lengths + 1)  # [N]

    def write(self, stream: BinaryIO, rows: Rows) -> None:
        """Write one line for each row, in the order of the rows."""
        step = max(1, _CHUNK_ITEMS // (self._max_length + 1))
        for first in range(0, len(rows), step):
            starts, lengths = self._ranges(rows.starts[first : first + step], rows.targets[first : first + step])
            _, places = expand_ranges(starts.ravel(), lengths.ravel())
            stream.write(self._buffer[places].tobytes())

    def _ranges(self, firsts: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the six pieces of each line begin in the buffer, and how long they are, int64 `[R, 6]` each."""
        users = self._log.users[targets]
        oldest = self._token_starts[np.maximum(firsts, targets - self._max_length)]
        starts = np.zeros((len(targets), 6), dtype=np.int64)  # user, tab, list, tab, item, line break
        lengths = np.ones_like(starts)
        starts[:, 0], lengths[:, 0] = self._cell_starts[users], self._cell_lengths[users]
        starts[:, 2], lengths[:, 2] = oldest, self._token_starts[targets] - 1 - oldest
        starts[:, 4], lengths[:, 4] = self._token_starts[targets], self._token_lengths[targets]
        starts[:, 5] = 1
        return starts, lengths
