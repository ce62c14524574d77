"""Checks of the atomic files, each answered with the file, the line and the remedy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_cdsr.errors import DataError

DOMAIN_NAME = re.compile(r"[a-z0-9_-]+")
PARTS = ("train", "valid", "test")


def interaction_files(dataset_dir: Path, name: str) -> list[Path]:
    """The interaction files of a dataset: `<name>.inter`, or the three files of a pre-split release.

    Raises
    ------
    DataError
        When the folder or the files are not there.
    """
    if not dataset_dir.is_dir():
        raise DataError(
            f"Dataset '{name}' is not there: no folder {dataset_dir}. Convert it first, e.g. "
            f"`recbole-cdsr convert llmcdsr --raw DIR --name {name} --domains a,b --out {dataset_dir.parent}`, "
            "or set data_path to the folder that holds it."
        )
    single = dataset_dir / f"{name}.inter"
    if single.is_file():
        return [single]
    parts = [dataset_dir / f"{name}.{part}.inter" for part in PARTS]
    missing = [path.name for path in parts if not path.is_file()]
    if missing:
        raise DataError(
            f"Dataset '{name}' in {dataset_dir} has neither {single.name} nor all of "
            f"{', '.join(path.name for path in parts)} (missing: {', '.join(missing)}). Convert it again."
        )
    return parts


def line_of(row: int) -> int:
    """Line of a table row in its atomic file: the header is line 1."""
    return int(row) + 2


def check_items(frame: pd.DataFrame | None, path: Path, item_field: str, domain_field: str) -> None:
    """Refuse an item table that does not tell every item's domain.

    Raises
    ------
    DataError
        No table, no domain column, an item twice or without a domain, a malformed domain name, fewer than two domains.
    """
    if frame is None or domain_field not in frame:
        raise DataError(
            f"{path} does not name the domain of its items: a column `{domain_field}:token` is needed beside "
            f"`{item_field}:token`, and load_col.item must list both."
        )
    twice = np.flatnonzero(frame[item_field].duplicated())
    if len(twice):
        token = frame[item_field].iloc[twice[0]]
        raise DataError(
            f"{path}, line {line_of(twice[0])}: item '{token}' stands here a second time; keep one of the rows."
        )
    empty = np.flatnonzero(frame[domain_field].isna())
    if len(empty):
        token = frame[item_field].iloc[empty[0]]
        raise DataError(
            f"{path}, line {line_of(empty[0])}: item '{token}' has no {domain_field} "
            f"({len(empty)} such item(s)); name one, or remove the item and its interactions."
        )
    names = list(frame[domain_field].unique())
    for name in names:
        if not DOMAIN_NAME.fullmatch(name):
            row = int(np.flatnonzero(frame[domain_field] == name)[0])
            raise DataError(
                f"{path}, line {line_of(row)}: domain name '{name}' must consist of a-z, 0-9, '_' and '-' only."
            )
    if len(names) < 2:
        raise DataError(
            f"{path} holds one domain only ('{names[0]}'); cross-domain recommendation needs two or more. "
            "For a single domain, use RecBole itself."
        )


def check_interactions(
    frame: pd.DataFrame, path: Path, user_field: str, item_field: str, time_field: str, items: pd.Series
) -> None:
    """Refuse interactions without user, item or time, or with an item that the item table lacks.

    Raises
    ------
    DataError
        Naming the first such line and how many there are.
    """
    for field in (user_field, item_field, time_field):
        if field not in frame:
            raise DataError(
                f"{path} has no column `{field}`; its header needs user, item and time, and load_col.inter must list them."
            )
        empty = np.flatnonzero(frame[field].isna())
        if len(empty):
            raise DataError(
                f"{path}, line {line_of(empty[0])}: {field} is missing ({len(empty)} such line(s)); fill it in or "
                "remove the line."
            )
    unknown = np.flatnonzero(~frame[item_field].isin(items))
    if len(unknown):
        token = frame[item_field].iloc[unknown[0]]
        raise DataError(
            f"{path}, line {line_of(unknown[0])}: item '{token}' is not in the .item file ({len(unknown)} such line(s)); "
            "add it there with its domain, or remove its interactions."
        )


def check_lengths(frame: pd.DataFrame, path: Path, user_field: str, remedy: str) -> None:
    """Refuse users with a single interaction: nothing is left to predict from.

    Raises
    ------
    DataError
        Naming the first such user and line.
    """
    counts = frame[user_field].map(frame[user_field].value_counts())
    short = np.flatnonzero(counts.to_numpy() < 2)
    if len(short):
        token = frame[user_field].iloc[short[0]]
        raise DataError(
            f"{path}, line {line_of(short[0])}: user '{token}' has one interaction only, too short a history "
            f"({len(short)} such user(s)); {remedy}"
        )
