"""Float matrices on disk: mapped, not read, and checked before anyone computes with them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from recbole_cdsr.errors import FeatureError

_BLOCK_ROWS = 8192
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def check_finite(matrix: np.ndarray, subject: str, remedy: str) -> None:
    """Refuse NaN and infinity in a float matrix `[n, D]`; reads it block by block.

    Raises
    ------
    FeatureError
        Beginning with `subject` ("The encoder x gave", "features.npy holds"), ending with `remedy`.
    """
    for start in range(0, len(matrix), _BLOCK_ROWS):
        finite = np.isfinite(matrix[start : start + _BLOCK_ROWS]).all(axis=1)  # [block]
        if not finite.all():
            first = start + int(np.argmin(finite))
            raise FeatureError(f"{subject} NaN or infinite numbers (first in row {first}, counted from 0); {remedy}.")


def read_safetensors_header(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str], int]:
    """Header of a safetensors file: tensors by name, metadata, and where the data begin (bytes).

    Raises
    ------
    FeatureError
        When the file is not a complete safetensors file.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= size - 8:
                raise ValueError("no header")
            tensors = json.loads(stream.read(length))
        metadata = tensors.pop("__metadata__", {})
        for entry in tensors.values():
            begin, end = entry["data_offsets"]
            if not 0 <= begin <= end <= size - 8 - length:
                raise ValueError("cut short")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FeatureError(f"{path} is not a complete safetensors file; delete it or write it anew.") from None
    return tensors, metadata, 8 + length


def map_safetensors(path: Path, tensor: str | None = None) -> np.ndarray:
    """Map a 2-D float tensor of a safetensors file into memory, read-only.

    Parameters
    ----------
    path : Path
        The file.
    tensor : str, optional
        The tensor's name; when omitted the file must hold exactly one, or one named `matrix`.

    Returns
    -------
    np.ndarray
        `[n, D]`, float64, float32 or float16 as stored (bfloat16 is read as float32).

    Raises
    ------
    FeatureError
        When the file is damaged, lacks the tensor, or it is not a 2-D float tensor.
    """
    tensors, _, data_start = read_safetensors_header(path)
    name = tensor or ("matrix" if "matrix" in tensors else next(iter(tensors), None))
    if name not in tensors or (tensor is None and len(tensors) > 1 and name != "matrix"):
        held = ", ".join(sorted(tensors)) or "none"
        raise FeatureError(f"{path} must hold a tensor named {tensor or 'matrix'}; it holds {held}.")
    entry = tensors[name]
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None or len(shape) != 2:
        raise FeatureError(f"{path}: {name} is {entry['dtype']} {list(shape)}, a float matrix [rows, width] is needed.")
    if math.prod(shape) * np.dtype(dtype).itemsize != end - begin:
        raise FeatureError(f"{path} is not a complete safetensors file; delete it or write it anew.")
    if not math.prod(shape):
        return np.zeros(shape, dtype=np.float32)  # nothing can be mapped of an empty file part
    mapped = np.memmap(path, dtype=dtype, mode="r", offset=data_start + begin, shape=shape)
    if entry["dtype"] != "BF16":
        return mapped
    return (mapped.astype(np.uint32) << 16).view(np.float32)  # bfloat16 is the upper half of a float32


def load_matrix(
    path: Path, rows: int, width: int | None = None, key: str = "item_features_file", of: str = ".item"
) -> np.ndarray:
    """Load a matrix that the user made, `.npy` or `.safetensors`.

    Parameters
    ----------
    path : Path
        The file; nothing in it is unpickled.
    rows : int
        How many rows it must have.
    width : int, optional
        How wide it must be; any width when omitted.
    key : str
        The config key that named it, for messages.
    of : str
        The table that its rows belong to, for messages.

    Returns
    -------
    np.ndarray
        float32 `[rows, D]`, mapped read-only where the file is float32 already.

    Raises
    ------
    FeatureError
        When it is missing, no float matrix, of another shape, or not finite.
    """
    if not path.is_file():
        raise FeatureError(f"{key}: there is no file {path}.")
    if path.suffix == ".safetensors":
        matrix = map_safetensors(path)
    elif path.suffix == ".npy":
        try:
            matrix = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError):
            raise FeatureError(f"{key}: {path} is not a complete .npy file of numbers.") from None
    else:
        raise FeatureError(f"{key}: {path} must be a .npy or .safetensors file.")
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise FeatureError(
            f"{key}: {path} holds {matrix.dtype} {list(matrix.shape)}, a float matrix [rows, width] is needed."
        )
    if matrix.shape[0] != rows or matrix.shape[1] < 1 or (width is not None and matrix.shape[1] != width):
        raise FeatureError(
            f"{key}: {path} is {matrix.shape[0]} x {matrix.shape[1]}, but {rows} rows (one per row of {of}, "
            f"in its order) of width {width if width is not None else 'at least 1'} are needed."
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused below
        matrix = np.asarray(matrix) if matrix.dtype == np.float32 else matrix.astype(np.float32)
    check_finite(matrix, f"{key}: {path} holds", "write it anew without them")
    return matrix
