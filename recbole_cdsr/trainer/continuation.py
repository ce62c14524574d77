"""What a resumed run needs besides the model: the optimisers of any RecBole trainer, and the same data."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from torch.optim import Optimizer

from recbole_cdsr.data.dataset import CrossDomainDataset
from recbole_cdsr.data.sequences import SequenceLog


def optimizers_of(trainer: Any) -> tuple[dict[str, Optimizer], dict[str, str]]:
    """A trainer's optimisers.

    Parameters
    ----------
    trainer
        Any RecBole trainer; RecVAE's holds three and swaps which of them is `optimizer`.

    Returns
    -------
    (optimizers, chosen)
        Each optimiser once, by the name of an attribute; and for every attribute that holds one, the name under which
        it is listed.
    """
    optimizers: dict[str, Optimizer] = {}
    chosen: dict[str, str] = {}
    attributes = {name: value for name, value in vars(trainer).items() if isinstance(value, Optimizer)}
    for name in sorted(attributes, key=lambda name: (name == "optimizer", name)):
        value = attributes[name]
        chosen[name] = next((known for known, other in optimizers.items() if other is value), name)
        optimizers.setdefault(chosen[name], value)
    return optimizers, chosen


def optimizer_states(trainer: Any) -> dict[str, Any]:
    """Plain data for a checkpoint."""
    optimizers, chosen = optimizers_of(trainer)
    return {"states": {name: optimizer.state_dict() for name, optimizer in optimizers.items()}, "chosen": chosen}


def restore_optimizers(trainer: Any, saved: dict[str, Any]) -> None:
    """Undo `optimizer_states` on a new trainer of the same class; only attributes that hold an optimiser are set."""
    own, _ = optimizers_of(trainer)
    for name, listed in saved["chosen"].items():
        if name in own:
            setattr(trainer, name, own[listed])
    for name, optimizer in optimizers_of(trainer)[0].items():
        optimizer.load_state_dict(saved["states"][name])


def material_of(dataset: CrossDomainDataset) -> dict[str, str | None]:
    """SHA-256 of what a run learns from, as 64 hexadecimal digits by name.

    Returns
    -------
    dict
        `interactions`, in order with their split; `item features` and `user profiles`, None where the model has none.
    """
    features = dataset.features_provenance or {}
    made = {"item features": features.get("items"), "user profiles": features.get("profiles")}
    return {
        "interactions": _interactions_sha256(dataset.log),
        **{name: None if provenance is None else provenance["matrix_sha256"] for name, provenance in made.items()},
    }


def _interactions_sha256(log: SequenceLog) -> str:
    digest = hashlib.sha256()
    for column in (log.users, log.items, log.segment_starts, log.segment_parts):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
