"""Vectors that an encoder of this machine has given, kept until the feature set that they are for is stored."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from recbole_cdsr.llm import store
from recbole_cdsr.locks import abandoned, hold

_SUFFIX = ".vectors.part"
_HEADER = struct.Struct("<II")  # rows of a record and the CRC-32 of their bytes
_ABANDONED_DAYS = 30


class KeptVectors:
    """What is encoded inside the block is not encoded again should the process end before the block does.

    ::

        with KeptVectors(features_dir) as kept:
            matrix = encoder.encode(texts, show_progress, kept)
            store.save_feature_set(...)

    Parameters
    ----------
    folder : Path
        Of the features. A file ``encoding-<encoder>-<hash>.vectors.part`` in it belongs to one encoder and one list of
        texts, and is gone when the block has ended well.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[VectorFile] = []

    def __enter__(self) -> KeptVectors:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for file in self._files:
            file.close(remove=kind is None)

    def of(self, encoder: Mapping[str, Any], texts: Sequence[str], width: int) -> VectorFile | None:
        """The file of an encoder and its texts; None where nothing can be kept or another process does it.

        Parameters
        ----------
        encoder
            Its provenance.
        texts
            In the order in which they are encoded.
        width
            D.
        """
        identity = json.dumps(encoder, sort_keys=True, default=str) + store.hash_strings(texts)
        name = f"{store.slug(str(encoder['name']))}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
        self._remove_abandoned()
        try:
            file = VectorFile.opened(self._folder / f"encoding-{name}{_SUFFIX}", width)
        except OSError as error:
            _say_not_kept(self._folder, error)
            return None
        if file is not None:
            self._files.append(file)
        return file

    def _remove_abandoned(self) -> None:
        for path in abandoned(filter(_is_old, self._folder.glob(f"encoding-*{_SUFFIX}"))):
            with suppress(OSError):
                path.unlink()


def _is_old(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime >= _ABANDONED_DAYS * 86400
    return False


class VectorFile:
    """Records of float32 rows, each whole or not there: what follows the first that was cut short is left out.

    Parameters
    ----------
    path : Path
        The file.
    stream : BinaryIO
        It, open for reading and writing.
    lock : int
        Descriptor that holds it.
    width : int
        D.
    """

    def __init__(self, path: Path, stream: BinaryIO, lock: int, width: int) -> None:
        self._path, self._stream, self._lock, self._width = path, stream, lock, width
        self._fails = False

    @classmethod
    def opened(cls, path: Path, width: int) -> VectorFile | None:
        """The file, made where it is missing; None when another process writes it.

        Raises
        ------
        OSError
            It cannot be made, or files cannot be locked here.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
        lock = hold(path)
        return None if lock is None else cls(path, path.open("r+b"), lock, width)

    def read_into(self, vectors: np.ndarray, order: np.ndarray) -> int:
        """Put the rows that are there into ``vectors[order[i]]``, i counted from 0; returns how many there are.

        Parameters
        ----------
        vectors
            float32 ``[u, D]``.
        order
            int64 ``[u]``, the row of `vectors` that is encoded as the i-th.
        """
        done = 0
        while len(header := self._stream.read(_HEADER.size)) == _HEADER.size:
            n_rows, checksum = _HEADER.unpack(header)
            if n_rows > len(order) - done:
                break
            content = self._stream.read(n_rows * self._width * 4)
            if len(content) < n_rows * self._width * 4 or zlib.crc32(content) != checksum:
                break
            vectors[order[done : done + n_rows]] = np.frombuffer(content, dtype="<f4").reshape(n_rows, self._width)
            done += n_rows
            end = self._stream.tell()
        self._stream.seek(end if done else 0)
        self._stream.truncate()
        return done

    def append(self, vectors: np.ndarray) -> None:
        """Keep the rows that come next, float32 ``[b, D]``. A full disk ends the keeping, and not the encoding."""
        if self._fails:
            return
        content = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
        try:
            self._stream.write(_HEADER.pack(len(vectors), zlib.crc32(content)) + content)
            self._stream.flush()
        except OSError as error:
            self._fails = True
            _say_not_kept(self._path.parent, error)
            with suppress(OSError):
                os.truncate(self._path, 0)  # the set itself needs the room

    def close(self, remove: bool) -> None:
        """Let go of the file, and remove it where it has served its end."""
        if remove or self._fails:
            with suppress(OSError):
                self._path.unlink()
        with suppress(OSError):
            self._stream.close()
        os.close(self._lock)


def _say_not_kept(folder: Path, error: OSError) -> None:
    logging.getLogger().warning(
        f"What is being encoded cannot be kept in {folder} ({error.strerror or error}): an interrupted encoding will "
        "begin anew."
    )
