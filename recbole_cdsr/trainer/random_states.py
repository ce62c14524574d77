"""Every global source of randomness that training draws from, as plain data."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_states(device: torch.device) -> dict[str, Any]:
    """The state of Python's, NumPy's and PyTorch's generators.

    Those of GPUs are among them where the run, or anything before it in this process, may draw from one: reading them
    takes memory on every GPU, which a run on the CPU has no use for.

    Parameters
    ----------
    device
        What the run computes on. A GPU's generators are read even if nothing has been computed there yet.
    """
    draws_on_gpus = device.type == "cuda" or torch.cuda.is_initialized()
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
        "cuda": torch.cuda.get_rng_state_all() if draws_on_gpus else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo `random_states`; the states of GPUs that this machine does not have are left out."""
    python, numpy = states["python"], states["numpy"]
    random.setstate((python["version"], tuple(python["internal"]), python["gauss"]))
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():  # where nothing has been computed on a GPU, PyTorch remembers the state until then
        for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
