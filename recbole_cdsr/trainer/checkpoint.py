"""Checkpoints that hold tensors and plain data only.

They load with `torch.load(weights_only=True)`: a file from a stranger runs no code. They are written beside and then
renamed, so that a kill in the middle leaves the previous one.
"""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import nn

from recbole_cdsr.errors import CheckpointError
from recbole_cdsr.files import replacing

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any], folder_key: str = "checkpoint_dir") -> None:
    """Write a checkpoint.

    Parameters
    ----------
    path
        Where to; replaced in one step.
    state
        Tensors, arrays, sparse matrices, numbers, strings, None, and dicts, lists and tuples of them.
    folder_key
        The setting that says where it lies, named where it cannot be written.

    Raises
    ------
    CheckpointError
        Something else is in the state, or the disk refuses.
    """
    path = Path(path)
    plain = _to_plain({"format": FORMAT, **state}, path.name)
    try:
        with replacing(path) as part:
            torch.save(plain, part)
    except (OSError, RuntimeError) as error:  # PyTorch's writer reports a full disk as RuntimeError
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} could not be written ({reason}); free space or set {folder_key} to another disk."
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ours; all tensors are on the CPU, wherever they were when it was written.

    Raises
    ------
    CheckpointError
        The file is not there, is broken, holds more than tensors and plain data, or is none of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"Checkpoint {path} is not there; check the path, or train first.")
    try:
        state = read_tensors(path)
    except Exception as error:
        raise CheckpointError(
            f"Checkpoint {path} is broken or holds more than tensors and plain data, and was not read "
            f"({type(error).__name__}); train again, or take a file you trust."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of recbole-cdsr; an official one is read by "
            "`recbole_cdsr.interop.load_official_file`."
        )
    try:
        return _from_plain(state)
    except Exception as error:
        raise CheckpointError(f"Checkpoint {path} is broken ({type(error).__name__}: {error}); train again.") from error


def read_tensors(path: str | PathLike[str]) -> Any:
    """The content of a file of `torch.save` that holds tensors and plain data, on the CPU; nothing in it is run.

    Raises
    ------
    Exception
        Of nearly any kind from inside the unpickler, for a damaged or hostile stream; all of it means the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch thinks of a foreign pickle's protocol
        return torch.load(path, map_location="cpu", weights_only=True)


def model_state(model: nn.Module) -> dict[str, Any]:
    """What a checkpoint keeps of a model: `state_dict`, and RecBole's `other_parameter` without sub-modules.

    Sub-modules that a RecBole model lists there (feature embeddings of FDSA, DIN, …) are in its state dict anyway.
    """
    other = model.other_parameter()
    return {
        "state_dict": dict(model.state_dict()),
        "other_parameter": {name: value for name, value in other.items() if not isinstance(value, nn.Module)},
    }


def restore_model(model: nn.Module, state: dict[str, Any], path: Path | str) -> None:
    """Put what `model_state` kept back into a model.

    Parameters
    ----------
    model
        A RecBole model of the same configuration, on its device.
    state
        What `load_checkpoint` returned.
    path
        Named in errors.

    Raises
    ------
    CheckpointError
        The state is incomplete or does not fit the model.
    """
    try:
        model.load_state_dict(state["state_dict"])
        # Only what the model itself lists: a file must not set other attributes.
        known = model.other_parameter()
        other = {name: value for name, value in state["other_parameter"].items() if name in known}
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        model.load_other_parameter(
            {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in other.items()}
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__} as it is configured here "
            f"({lines[1] if len(lines) > 1 else ' '.join(lines)}); use the settings and the data it was trained with."
        ) from error


def _to_plain(value: Any, where: str) -> Any:
    if value is None or type(value) in (bool, int, float, str) or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.generic):  # before the kinds below: np.float64 is a float, which no safe loader reads
        return value.item()
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"__numpy__": torch.from_numpy(np.ascontiguousarray(value))}
    if scipy.sparse.issparse(value):
        csr = value.tocsr()
        parts = {name: torch.from_numpy(getattr(csr, name)) for name in ("data", "indices", "indptr")}
        return {"__sparse__": value.format, "shape": list(csr.shape), **parts}
    if isinstance(value, dict):
        return {key: _to_plain(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_plain(entry, where) for entry in value)
    raise CheckpointError(f"{where} is a {type(value).__name__}, which a checkpoint cannot hold safely.")


def _from_plain(value: Any) -> Any:
    if isinstance(value, dict):
        if "__numpy__" in value:
            return value["__numpy__"].numpy()
        if "__sparse__" in value:
            parts = (value["data"].numpy(), value["indices"].numpy(), value["indptr"].numpy())
            return scipy.sparse.csr_matrix(parts, shape=tuple(value["shape"])).asformat(value["__sparse__"])
        return {key: _from_plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_from_plain(entry) for entry in value)
    return value
