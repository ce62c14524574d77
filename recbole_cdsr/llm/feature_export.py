"""What `recbole-cdsr features export` does: features as RecBole's own `preload_weight` reads them.

RecBole takes vectors from an additional atomic file beside `.inter`, one row per token: `.itememb` of items, `.useremb`
of users. Its `alias_of_item_id` gives the file's tokens the ids of the items, `dataset.get_preload_weight` the matrix.
"""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from recbole_cdsr.data.atomic import LONGEST_CELL, text_cells
from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.files import replacing
from recbole_cdsr.llm.build import build_llm_features
from recbole_cdsr.llm.item_table import item_table
from recbole_cdsr.llm.settings import FeatureSettings

EXPORTED = ("items", "profiles")
_NUMBERS_AT_ONCE = 250_000
# Up to here powers of ten are float64 numbers, so that dividing by one rounds once.
_POWERS_OF_TEN = np.array([float(f"1e{power}") for power in range(23)])
_FEWEST_DIGITS, _MOST_DIGITS = 6, 9  # of a decimal: what any float32 keeps, what no float32 needs more of


@dataclass(frozen=True)
class _Table:
    """Vectors of some tokens, and what RecBole's configuration calls them."""

    suffix: str
    id_field: str
    value_field: str
    alias: str
    tokens: Sequence[str]
    matrix: np.ndarray  # float32 [n, D]
    made_by: str


def export_for_recbole(
    config: Any, dataset: Any, wanted: Sequence[str], folder: Path | None = None, overwrite: bool = False
) -> list[str]:
    """Write `<name>.itememb` and `<name>.useremb`, each whole or not at all; what is missing is built as a run does.

    Parameters
    ----------
    config, dataset
        As `build_llm_features`.
    wanted : sequence of str
        Of `EXPORTED`.
    folder : Path, optional
        Where to; beside the dataset's other files, where RecBole looks for them, when omitted.
    overwrite : bool
        Whether to replace a file of that name with another content.

    Returns
    -------
    list of str
        Lines of YAML that RecBole reads the files by; what was written are comments in it.

    Raises
    ------
    ConfigError
        Profiles are wanted and `profile_generator` is `none`.
    FeatureError
        As `build_llm_features`; or a file cannot be written, is there with another content, or would hold vectors
        that RecBole cannot read.
    """
    settings = FeatureSettings(config, dataset.dataset_name)
    if "profiles" in wanted and not settings.use_profiles:
        raise ConfigError(
            "There are no profiles to export, for profile_generator is none; set it to extractive or llm."
        )
    folder = settings.dataset_dir if folder is None else folder
    lines, tables = [], []
    for table in _tables(config, settings, dataset, wanted):
        path = folder / f"{dataset.dataset_name}.{table.suffix}"
        done = (
            "written"
            if write_embeddings(path, (table.id_field, table.value_field), table.tokens, table.matrix, overwrite)
            else "there already"
        )
        lines.append(f"# {path}: {len(table.matrix):,} x {table.matrix.shape[1]:,}, {done}; made by {table.made_by}")
        tables.append(table)
    fields = " and ".join(f'dataset.get_preload_weight("{table.id_field}")' for table in tables)
    return [*lines, f"# For RecBole's configuration; then a model reads {fields}.", *_settings_for(config, tables)]


def _tables(config: Any, settings: FeatureSettings, dataset: Any, wanted: Sequence[str]) -> Iterator[_Table]:
    items = item_table(settings, dataset)
    if "items" in wanted:
        tokens = dataset.id2token(dataset.iid_field, np.arange(1, dataset.item_num))
        made_by = f"{items.provenance['made_by']}, {items.provenance['encoder']['name']}"
        yield _Table(
            "itememb",
            _free_name(dataset, "iid"),
            _free_name(dataset, "item_emb"),
            "alias_of_item_id",
            list(map(str, tokens)),
            items.vectors[1:],
            made_by,
        )
    if "profiles" in wanted:
        features = build_llm_features(config, dataset, items)
        users = dataset.training_histories().user_ids  # the others' rows are zero, here as in RecBole
        yield _Table(
            "useremb",
            _free_name(dataset, "uid"),
            _free_name(dataset, "user_emb"),
            "alias_of_user_id",
            list(map(str, dataset.id2token(dataset.uid_field, users))),
            features.profiles[users],
            features.provenance["profiles"]["made_by"],
        )


def _free_name(dataset: Any, name: str) -> str:
    """RecBole's documentation's name of a column; another where the dataset has a column of that name."""
    columns = {name for names in (dataset.config["load_col"] or {}).values() for name in names}
    return f"llm_{name}" if name in columns | set(dataset.field2type) else name


def _settings_for(config: Any, tables: Sequence[_Table]) -> list[str]:
    """The configuration that has RecBole load the files, beside what the dataset is loaded with already."""
    settings: dict[str, Any] = {
        "additional_feat_suffix": _with(config["additional_feat_suffix"], [table.suffix for table in tables])
    }
    columns = {table.suffix: [table.id_field, table.value_field] for table in tables}
    if config["load_col"] is not None:  # else RecBole loads whatever is there
        settings["load_col"] = dict(config["load_col"]) | columns
    for table in tables:
        settings[table.alias] = _with(config[table.alias], [table.id_field])
    weights = {table.id_field: table.value_field for table in tables}
    settings["preload_weight"] = dict(config["preload_weight"] or {}) | weights
    return yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=1000).splitlines()


def _with(given: Sequence[str] | str | None, more: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*([given] if isinstance(given, str) else given or []), *more]))


def write_embeddings(
    path: Path, fields: tuple[str, str], tokens: Sequence[str], matrix: np.ndarray, overwrite: bool = False
) -> bool:
    """Write an atomic file of vectors, beside its place and then renamed; memory follows a slice of it.

    Parameters
    ----------
    path : Path
        The file.
    fields : (str, str)
        Names of its columns: `token` and `float_seq`.
    tokens : sequence of str
        `[n]`, none empty.
    matrix : np.ndarray
        float32 `[n, D]`, finite; written with the fewest digits that give the same float32.
    overwrite : bool
        Whether to replace a file with another content.

    Returns
    -------
    bool
        False when the very same file was there.

    Raises
    ------
    FeatureError
        The file cannot be written, is there with another content, or a row would be longer than RecBole reads.
    DataError
        A token that no reader could give back.
    """
    cells = text_cells(path, pd.Series(list(tokens), name=fields[0], dtype=object), "token")
    try:
        with replacing(path) as part:
            with part.open("w", encoding="utf-8", newline="\n") as stream:
                stream.write(f"{fields[0]}:token\t{fields[1]}:float_seq\n")
                step = max(_NUMBERS_AT_ONCE // max(matrix.shape[1], 1), 1)
                for start in range(0, len(matrix), step):
                    rows = float32_texts(matrix[start : start + step])
                    longest = max(map(len, rows))
                    if longest > LONGEST_CELL:
                        raise FeatureError(
                            f"{path} would have rows of {longest:,} characters, for vectors have {matrix.shape[1]:,} "
                            f"numbers, and RecBole's reader takes {LONGEST_CELL:,}; choose an encoder with narrower "
                            "vectors."
                        )
                    stream.writelines(
                        f"{token}\t{row}\n" for token, row in zip(cells[start : start + step], rows, strict=True)
                    )
            if path.is_file():
                if filecmp.cmp(part, path, shallow=False):
                    return False
                if not overwrite:
                    raise FeatureError(
                        f"{path} is there with another content; replace it with --overwrite, or name another folder "
                        "with --out."
                    )
    except OSError as error:
        raise FeatureError(
            f"{path} cannot be written ({error.strerror}); name a folder that can be with --out."
        ) from None
    return True


def float32_texts(matrix: np.ndarray) -> list[str]:
    """Rows of float32 `[n, D]` as numbers between blanks, with the fewest digits that read back the same.

    A reader may take them for float64, as RecBole does: rounded to float32 then they are the same too.
    """
    exact = matrix.astype(np.float64)  # [n, D]
    size = np.abs(exact)
    magnitude = np.floor(np.log10(size, where=size > 0, out=np.zeros_like(size))).astype(np.int64)  # [n, D]
    decimals = np.zeros_like(exact)  # [n, D], the float64 next to the shortest decimal of each number
    open_still = exact != 0
    decimals[~open_still] = exact[~open_still]  # keeps the sign of a zero
    for digits in range(_FEWEST_DIGITS, _MOST_DIGITS + 1):
        places = digits - 1 - magnitude  # [n, D] behind the point; negative before it
        power = _POWERS_OF_TEN[np.clip(np.abs(places), 0, 22)]
        rounded = np.where(places >= 0, np.rint(exact * power) / power, np.rint(exact / power) * power)
        with np.errstate(over="ignore"):  # the largest float32, rounded up
            found = open_still & (np.abs(places) <= 22) & (rounded.astype(np.float32) == matrix)
        decimals[found] = rounded[found]
        open_still &= ~found
        if not open_still.any():
            break
    if open_still.any():  # beyond the powers above
        rare = matrix[open_still]
        shortest = rare.astype(str).astype(np.float64)
        decimals[open_still] = np.where(shortest.astype(np.float32) == rare, shortest, exact[open_still])
        return [" ".join(map(repr, row)) for row in decimals.tolist()]
    row_format = " ".join([f"%.{_MOST_DIGITS}g"] * matrix.shape[1])
    return [row_format % tuple(row) for row in decimals.tolist()]
