"""Reading the dictionaries of strangers' pickles without running anything they hold.

A pickle is a program: its `GLOBAL` and `REDUCE` opcodes may name and call any function. The releases we
convert hold nothing but dictionaries of strings and integers, which need neither, so every global is refused.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from recbole_cdsr.errors import DataError

Value = TypeVar("Value", str, int)


class PlainUnpickler(pickle.Unpickler):
    """An unpickler for plain containers, strings and numbers; any class or function is refused.

    Parameters
    ----------
    stream : BinaryIO
        The open pickle.
    path : Path
        Its file, named in errors.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        super().__init__(stream)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        raise DataError(
            f"{self._path}: the pickle asks for {module}.{name}, but only a plain dictionary of strings and "
            "integers is read here; do not trust this file, or rewrite it as a plain dict."
        )

    def persistent_load(self, pid: Any) -> Any:
        raise DataError(f"{self._path}: the pickle refers to an outside object; only a plain dictionary is read.")


def load_plain_dict(path: Path, value_type: type[Value]) -> dict[str, Value]:
    """Read a pickled `{str: value_type}` dictionary; nothing in the file is ever called.

    Parameters
    ----------
    path : Path
        The pickle.
    value_type : type
        `str` or `int`: the exact type of every value (`bool` is not `int` here).

    Returns
    -------
    dict[str, Value]
        In the file's order.

    Raises
    ------
    DataError
        For a file that cannot be read, names a class or function, or holds anything but such a dictionary.
    """
    try:
        with path.open("rb") as stream:
            content = PlainUnpickler(stream, path).load()
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    # A damaged or hostile stream can raise nearly anything from inside the unpickler (IndexError, TypeError,
    # MemoryError for a forged length, ...): all of it means the same to the user.
    except Exception as error:
        raise DataError(
            f"{path}: not a readable pickle ({type(error).__name__}: {error}); copy it anew from the release."
        ) from error
    if type(content) is not dict:
        raise DataError(f"{path}: holds a {type(content).__name__}, expected a dictionary.")
    if not set(map(type, content)) <= {str}:
        odd = next(key for key in content if type(key) is not str)
        raise DataError(f"{path}: key {odd!r} is a {type(odd).__name__}, expected only strings as keys.")
    if not set(map(type, content.values())) <= {value_type}:
        key, odd = next((key, value) for key, value in content.items() if type(value) is not value_type)
        raise DataError(f"{path}: the value of {key!r} is a {type(odd).__name__}, expected {value_type.__name__}.")
    return content
