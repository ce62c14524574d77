"""Checkpoints that hold tensors and plain data only.

They load with `torch.load(weights_only=True)`: a file from a stranger runs no code. They are written beside and then
renamed, so that a kill in the middle leaves the previous one.
"""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from recbole_cdsr.errors import CheckpointError

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint.

    Parameters
    ----------
    path
        Where to; replaced in one step.
    state
        Tensors, arrays, sparse matrices, numbers, strings, None, and dicts, lists and tuples of them.

    Raises
    ------
    CheckpointError
        Something else is in the state, or the disk refuses.
    """
    beside = path.with_name(path.name + ".part")
    try:
        torch.save(_to_plain({"format": FORMAT, **state}, path.name), beside)
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path} could not be written ({error.strerror}); free space or set checkpoint_dir."
        ) from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint of ours.

    Raises
    ------
    CheckpointError
        The file is not there, is broken, holds more than tensors and plain data, or is none of ours.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"Checkpoint {path} is not there; check the path, or train first.")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"Checkpoint {path} is broken or holds more than tensors and plain data, and was not read: "
            f"{str(error).splitlines()[0]}"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of recbole-cdsr; for an official one use `recbole_cdsr.interop.load_official_file`."
        )
    return _from_plain(state)


def _to_plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str, torch.Tensor)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return {"__numpy__": torch.from_numpy(np.ascontiguousarray(value)), "dtype": str(value.dtype)}
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
            return value["__numpy__"].cpu().numpy()
        if "__sparse__" in value:
            parts = (value["data"].numpy(), value["indices"].numpy(), value["indptr"].numpy())
            return scipy.sparse.csr_matrix(parts, shape=tuple(value["shape"])).asformat(value["__sparse__"])
        return {key: _from_plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_from_plain(entry) for entry in value)
    return value


def random_states() -> dict[str, Any]:
    """The state of every global source of randomness: Python, NumPy, PyTorch on CPU and on every GPU."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, next_gauss = random.getstate()
    return {
        "python": {"version": version, "internal": list(internal), "gauss": next_gauss},
        "numpy": {
            "name": name,
            "keys": torch.from_numpy(keys.astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "gauss": float(gauss),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo `random_states`."""
    python, numpy = states["python"], states["numpy"]
    random.setstate((python["version"], tuple(python["internal"]), python["gauss"]))
    keys = numpy["keys"].cpu().numpy().astype(np.uint32)
    np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
