"""A file that is written in pieces, there when it is complete, and gone on with when its writer was stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.files import replacing
from recbole_cdsr.locks import HeldLock, take_lock


class ContinuedFile:
    """The pieces written so far, for the command that `fingerprint` stands for.

    They lie in `<name>.part`, and `.<name>.part.json` says of which command they are and how much of the file is whole:
    what a killed process wrote beyond that is cut off. A part of another command is begun anew.

    Parameters
    ----------
    path
        The file; its folder must be there.
    fingerprint
        Stands for everything that the content depends on.

    Attributes
    ----------
    done : int
        Rows that are in the part.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        path = path.resolve()  # a link goes on pointing at what it names
        self._path, self._fingerprint = path, fingerprint
        self._part = path.with_name(f"{path.name}.part")
        self._record = path.with_name(f".{path.name}.part.json")
        self._stream: IO[bytes] | None = None
        self.done = 0

    @contextmanager
    def opened(self) -> Iterator[ContinuedFile]:
        """Write in this block; it ends with the complete file, or on an exception with a part to go on with.

        Raises
        ------
        ConfigError
            Another process writes the file.
        OSError
            It cannot be written.
        """
        lock = self._lock()
        try:
            self.done, whole = self._written()
            with self._part.open("r+b" if whole else "wb") as self._stream:
                self._stream.truncate(whole)
                self._stream.seek(whole)
                try:
                    yield self
                    self._to_disk()
                except BaseException:
                    if not self.done:  # nothing that would save time
                        self._remove()
                    raise
            os.replace(self._part, self._path)
            self._record.unlink(missing_ok=True)
        finally:
            if lock is not None:
                lock.release()

    def write(self, text: str, done: int) -> None:
        """Add a piece; after it `done` rows are in the file. Nothing before it is lost from here on."""
        self._stream.write(text.encode("utf-8"))
        self._to_disk()
        content = {"of": self._fingerprint, "done": done, "bytes": self._stream.tell()}
        with replacing(self._record) as part:
            part.write_text(json.dumps(content) + "\n", encoding="utf-8")
        self.done = done

    def _to_disk(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _written(self) -> tuple[int, int]:
        """Rows and bytes of the part that can be gone on with."""
        try:
            content = json.loads(self._record.read_text(encoding="utf-8"))
            done, whole = int(content["done"]), int(content["bytes"])
            if content["of"] == self._fingerprint and done > 0 and 0 < whole <= self._part.stat().st_size:
                return done, whole
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self._record.unlink(missing_ok=True)
        return 0, 0

    def _remove(self) -> None:
        for path in (self._part, self._record):
            with suppress(OSError):
                path.unlink()

    def _lock(self) -> HeldLock | None:
        try:
            lock = take_lock(self._path.with_name(f".{self._path.name}.lock"))
        except OSError:  # files cannot be locked here
            return None
        if lock is None:
            raise ConfigError(f"Another process is writing {self._path}; wait for it, or name another file.")
        return lock
