"""The files of a converted dataset, put in place together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_cdsr.convert.interactions import Interactions
from recbole_cdsr.data.atomic import text_cells, write_atomic
from recbole_cdsr.data.card import DatasetCard
from recbole_cdsr.data.staged_folder import staged_directory
from recbole_cdsr.errors import DataError
from recbole_cdsr.files import replacing

ITEM_TYPES = {"item_id": "token", "domain": "token"}
_ROWS_AT_ONCE = 200_000


def write_dataset(
    out_dir: Path,
    card: DatasetCard,
    parts: Mapping[str, Interactions],
    items: pd.DataFrame,
    text_types: Mapping[str, str],
    extra: Callable[[Path], None] | None = None,
) -> Path:
    """Write a dataset's folder: `.inter` file(s), `.item` and the card.

    Parameters
    ----------
    out_dir : Path
        The folder of all datasets.
    card : DatasetCard
        Complete; its name is the dataset's.
    parts : Mapping[str, Interactions]
        `{"": rows}` for one `<name>.inter`, or rows for `train`, `valid` and `test`.
    items : pd.DataFrame
        `item_id`, `domain` and the text columns, in the order of `.item`.
    text_types : Mapping[str, str]
        RecBole's type of each text column.
    extra : callable, optional
        Given the folder while it is still beside its place, writes further files of the dataset.

    Returns
    -------
    Path
        `<out_dir>/<name>`.

    Raises
    ------
    DataError
        When something cannot be written; nothing is left then, and an earlier dataset stays.
    """
    name = card.name
    with staged_directory(Path(out_dir) / name) as folder:
        for part, rows in parts.items():
            write_interactions(folder / (f"{name}.{part}.inter" if part else f"{name}.inter"), rows)
        write_atomic(folder / f"{name}.item", items, {**ITEM_TYPES, **text_types})
        card.save(folder)
        if extra is not None:
            extra(folder)
    return Path(out_dir) / name


def write_interactions(path: Path, rows: Interactions) -> None:
    """Write an `.inter` file, as `write_atomic` would, without making a table of strings of it first.

    Parameters
    ----------
    path : Path
        The file.
    rows : Interactions
        In the order to write; `rating` is left out where the source has none.
    """
    users = text_cells(path, pd.Series(rows.user_tokens, name="user_id", dtype=object), "token").to_numpy()
    items = text_cells(path, pd.Series(rows.item_tokens, name="item_id", dtype=object), "token").to_numpy()
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    rated = rows.ratings is not None
    if not rated:
        header = header.replace("rating:float\t", "")
    try:
        with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as stream:
            stream.write(header)
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                some = slice(start, start + _ROWS_AT_ONCE)
                columns = [users[rows.users[some]], items[rows.items[some]]]  # object [n] each
                if rated:
                    columns.append(_rating_cells(rows.ratings[some]))
                columns.append(_time_cells(rows.times[some]))
                stream.write("\n".join(map("\t".join, zip(*columns, strict=True))))
                stream.write("\n")
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: a user or item id holds half a character that UTF-8 cannot write.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}).") from error


def _rating_cells(ratings: np.ndarray) -> np.ndarray:
    """Return object `[n]`: few ratings differ, so each is put into words once; digits are those of float32."""
    values, places = np.unique(ratings, return_inverse=True)
    cells = ["" if np.isnan(value) else f"{value:.0f}" if value == np.floor(value) else str(value) for value in values]
    return np.array(cells, dtype=object)[places]


def _time_cells(times: np.ndarray) -> list[str]:
    # Beyond the range of integers a time is nonsense, but must not become another time.
    if (whole := (np.floor(times) == times) & (np.abs(times) < 2.0**63)).all():
        return list(map(str, times.astype(np.int64).tolist()))
    return [
        str(int(time)) if is_whole else repr(time)
        for time, is_whole in zip(times.tolist(), whole.tolist(), strict=True)
    ]
