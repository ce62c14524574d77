"""What training changes in a model beside parameters and buffers: counters, histories of losses, shuffled lists.

Some of RecBole's models keep such a thing in a plain attribute: MultiVAE and MacridVAE how far annealing has come,
DiffRec and LDiffRec the losses of former steps, LINE the order in which it draws users. A run that is taken up without
it is another run from there on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# A longer list or array follows from the data rather than from training, and to look through it takes time.
_LONGEST = 1 << 24


class PlainAttributes:
    """Tells which plain attributes of a model have changed since this object was made.

    Plain are numbers, dense tensors that no gradient flows through, NumPy arrays of numbers, lists of numbers, and None
    and empty lists, which any of them may take the place of, under names without a leading underscore.

    Parameters
    ----------
    model : nn.Module
        As it was built.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = {place: _mark(value) for place, value in self._found()}

    def changed(self) -> dict[str, dict[str, Any]]:
        """Names and values that are others now, by the dotted path of their module; a checkpoint can hold them."""
        found: dict[str, dict[str, Any]] = {}
        for (path, name), value in self._found():
            if (path, name) not in self._before:
                continue
            before = self._before[path, name]
            if not _same(before, _mark(value)) and not (before is None and self._is_large(value)):
                found.setdefault(path, {})[name] = value
        return found

    def _is_large(self, value: Any) -> bool:
        """Whether something is the size of scores or of a table, which models that begin without make anew."""
        size = value.numel() if isinstance(value, Tensor) else np.size(value)
        return 4 * size > sum(parameter.numel() for parameter in self._model.parameters())

    def restore(self, kept: dict[str, dict[str, Any]]) -> None:
        """Put back what `changed` returned; a name that the model has no such attribute under is left out."""
        modules = dict(self._model.named_modules())
        for path, values in kept.items():
            for name, value in values.items():
                if (path, name) not in self._before:
                    continue
                present = getattr(modules[path], name)
                if isinstance(value, Tensor):
                    value = value.to(present.device if isinstance(present, Tensor) else self._device())
                setattr(modules[path], name, value)

    def _device(self) -> torch.device:
        return next((parameter.device for parameter in self._model.parameters()), torch.device("cpu"))

    def _found(self) -> Iterator[tuple[tuple[str, str], Any]]:
        for path, module in self._model.named_modules():
            listed = set(module.other_parameter()) if hasattr(module, "other_parameter") else set()
            for name, value in vars(module).items():
                if not name.startswith("_") and name != "training" and name not in listed and _is_plain(value):
                    yield (path, name), value


def _is_plain(value: Any) -> bool:
    if value is None or isinstance(value, bool | int | float):
        return True
    if isinstance(value, Tensor):
        return value.layout == torch.strided and not value.requires_grad
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf" and value.size <= _LONGEST
    if isinstance(value, list) and len(value) <= _LONGEST:
        return {*map(type, value)} <= {int, float} and np.asarray(value).dtype.kind in "iuf"
    return False


def _mark(value: Any) -> Any:
    """What tells a value from a later one, without a copy of it."""
    if isinstance(value, Tensor):
        return value, value._version  # the tensor is held, so that no other can take its place in memory
    if isinstance(value, np.ndarray | list):
        content = np.ascontiguousarray(value)
        return content.shape, content.dtype.str, hashlib.blake2b(content.data, digest_size=16).digest()
    return value


def _same(before: Any, now: Any) -> bool:
    if isinstance(before, tuple) and isinstance(before[0], Tensor):
        return isinstance(now, tuple) and before[0] is now[0] and before[1] == now[1]
    return type(before) is type(now) and before == now
