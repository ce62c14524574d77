"""What a claim of difference needs besides a p-value, and why some comparisons support none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recbole_cdsr.benchmark.collect import BASELINE, DONE, NOT_APPLICABLE, Cell
from recbole_cdsr.config_saved import NOT_TRAINING, is_off

FEWEST_SEEDS = 3

# Seeds that were stopped with another patience are not alike, though a run may go on with another one.
_NOT_TRAINING = (NOT_TRAINING | {"seed"}) - {"stopping_step", "stopping_updates"}
# Of a card: what is said of the data, not the data. A dataset made anew from the same files is the same.
_NOT_DATA = frozenset({"name", "description", "features", "package_version"})
# Of features: when and by which release they were made, and what follows from the rest.
_NOT_FEATURES = frozenset({"date", "package", "made_of_items", "format"})


def by_label(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Cells by label, in the order of their first."""
    grouped: dict[str, list[Cell]] = {}
    for cell in cells:
        grouped.setdefault(cell.label, []).append(cell)
    return grouped


def role_of(cells: Sequence[Cell]) -> str:
    """The role of a label: what its finished cells say, else what is planned for it."""
    return next((cell for cell in cells if cell.state == DONE), cells[0]).role


def obstacles(cells: Sequence[Cell]) -> list[str]:
    """Why a label's finished cells support no claim, whatever they are compared with.

    Parameters
    ----------
    cells
        Finished, of one label and dataset.
    """
    found = []
    capped = _capped(cells)
    if capped:
        found.append(f"budget: the cap on epochs ended training of seed {capped}")
    if len({_trained_by(cell) for cell in cells}) > 1:
        found.append("its seeds ran with different settings")
    if len({_data_of(cell) for cell in cells}) > 1:
        found.append("its seeds ran on different data: the dataset was converted anew in between")
    elif len({_features_of(cell) for cell in cells}) > 1:
        found.append("its seeds ran with different LLM features")
    if len(cells) < FEWEST_SEEDS:
        found.append(f"{len(cells)} finished seed{'s'[: len(cells) != 1]}, a claim needs {FEWEST_SEEDS}")
    return found


def obstacles_between(own: Sequence[Cell], others: Sequence[Cell]) -> list[str]:
    """Why finished cells of two labels support no claim of which is better.

    A mean over more seeds has more and smaller values: its signed ranks are ahead of those of a mean over fewer, also
    where the models are the same.
    """
    found = []
    fewest, most = sorted((len(own), len(others)))
    if FEWEST_SEEDS <= fewest < most:  # of fewer, `obstacles` tells
        found.append(f"{len(own)} finished seeds against {len(others)}, a claim needs as many of both")
    if len({_data_of(cell) for cell in (*own, *others)}) > 1:
        found.append("they ran on different data: the dataset was converted anew in between")
    return found


def open_choice(cells: Sequence[Cell], chosen: str) -> list[str]:
    """Why a better baseline than the chosen one may still turn up: planned ones that are not finished, or were capped.

    Parameters
    ----------
    cells
        Of one dataset.
    chosen
        Label of the baseline that the others are compared with; what it lacks itself is told by `obstacles`.
    """
    found = []
    for label, own in by_label(cells).items():
        if label == chosen or role_of(own) != BASELINE or not any(cell.planned for cell in own):
            continue
        done = [cell for cell in own if cell.state == DONE]
        if any(cell.state == NOT_APPLICABLE for cell in own):
            continue
        if _capped(done):
            found.append(f"the cap on epochs ended training of seed {_capped(done)} of {label}")
        elif len(done) < FEWEST_SEEDS:
            found.append(f"{label} has {len(done)} finished seed{'s'[: len(done) != 1]}")
    return found


def _capped(cells: Sequence[Cell]) -> str:
    return ", ".join(str(cell.seed) for cell in cells if cell.budget)


def _trained_by(cell: Cell) -> str:
    """What a cell was trained with, but for its seed: what the grid says of it, and what came of that."""
    return json.dumps([_training(cell.settings), _training(cell.result["config"])], sort_keys=True, default=str)


def _training(settings: Mapping[str, Any]) -> dict[str, Any]:
    # A later release knows more keys, which are off where nobody sets them.
    return {key: value for key, value in settings.items() if key not in _NOT_TRAINING and not is_off(value)}


def _data_of(cell: Cell) -> str:
    card = cell.result.get("card") or {}
    return json.dumps({key: value for key, value in card.items() if key not in _NOT_DATA}, sort_keys=True, default=str)


def _features_of(cell: Cell) -> str:
    features = cell.result.get("features") or {}
    parts = [features.get("items"), features.get("profiles"), cell.result.get("pseudo_items")]
    identities = [_identity(part) if isinstance(part, dict) else None for part in parts]
    return json.dumps([*identities, features.get("permute_seed")], sort_keys=True, default=str)


def _identity(part: Mapping[str, Any]) -> dict[str, Any]:
    """What features were made of. Vectors of the same texts differ in their last places from machine to machine."""
    kept = {key: value for key, value in part.items() if key not in _NOT_FEATURES}
    if "texts_sha256" in kept:
        kept.pop("matrix_sha256", None)
    if isinstance(kept.get("encoder"), dict):
        kept["encoder"] = {key: value for key, value in kept["encoder"].items() if key != "library"}
    return kept
