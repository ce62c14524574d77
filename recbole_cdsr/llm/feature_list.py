"""What `recbole-cdsr features list` prints: the feature sets there are, and who made them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm import store
from recbole_cdsr.llm.settings import FeatureSettings


def list_sets(config: Any) -> str:
    """A table of the feature sets in a dataset's folder."""
    folder = _folder(config)
    return sets_in(folder) or f"There are no feature sets in {folder}."


def list_all_sets(configs: Iterable[Any], root: Path) -> str:
    """The tables of all datasets that have feature sets, each below the folder they lie in.

    Parameters
    ----------
    configs : iterable
        The configuration of each dataset.
    root : Path
        Where datasets were looked for, named when there are no sets.
    """
    folders = dict.fromkeys(map(_folder, configs))
    tables = [f"{folder}\n{table}" for folder in folders if (table := sets_in(folder))]
    return "\n\n".join(tables) or f"There are no feature sets of any dataset in {root}."


def text_table(rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table, each column as wide as its widest cell."""
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def sets_in(folder: Path) -> str:
    """A table of the feature sets in a folder; empty where there are none."""
    rows = [("kind", "made by", "encoder", "size", "date", "file")]
    for path in sorted(folder.glob("*.json")):
        kind = path.name.partition("-")[0]
        if kind not in store.KINDS:
            continue
        try:
            sidecar = store.read_sidecar(path)
            size = " x ".join(f"{number:,}" for number in sidecar.get("shape", []))
            if kind == "pseudo":
                size = f"{sidecar['pairs']:,} pairs, {sidecar['names']:,} names"
            rows.append((kind, sidecar["made_by"], sidecar["encoder"]["name"], size, sidecar["date"], path.name))
        except (FeatureError, KeyError, TypeError):
            rows.append((kind, "damaged", "", "", "", path.name))
    return "\n".join(text_table(rows)) if len(rows) > 1 else ""


def _folder(config: Any) -> Path:
    return FeatureSettings(config, config["dataset"]).features_dir
