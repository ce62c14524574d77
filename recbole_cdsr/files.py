"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from recbole_cdsr.locks import abandoned, hold


@contextmanager
def replacing(path: Path, shared: bool = False) -> Iterator[Path]:
    """Write a file beside its place and move it there when it is complete.

    Whoever opens `path`, whenever the writer is killed, finds its former content or the new one. On an exception the
    former content stays and nothing is left beside it. A symbolic link stays one, and the file it names is written;
    pipes and devices are refused.

    Parameters
    ----------
    path
        The file; its folder must be there.
    shared
        Several processes may write the file at the same time, so each does it in a folder of its own, and what killed
        ones left is removed. Otherwise the name is fixed, and what a killed process left there is overwritten.

    Yields
    ------
    Path
        The file to write, empty and there already.

    Raises
    ------
    OSError
        It cannot be written; to be worded by the caller, who knows what to do about it.
    """
    path = path.resolve()  # a link goes on pointing at what it names
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with _own_folder(path) if shared else nullcontext(path.parent) as folder:
        part = folder / f"{path.name}.part"
        try:
            part.write_bytes(b"")
            mode = part.stat().st_mode  # as the user's umask has it; some writers would let nobody else read the file
            yield part
            part.chmod(mode)
            with part.open("rb") as stream:
                os.fsync(stream.fileno())  # the content is on the disk before the name is
            os.replace(part, path)
        finally:
            with suppress(OSError):
                part.unlink()


@contextmanager
def _own_folder(path: Path) -> Iterator[Path]:
    """A folder `<name>.*.part` beside a file, locked and so told from those that killed processes left."""
    for left in abandoned(filter(Path.is_dir, path.parent.glob(f"{glob.escape(path.name)}.*.part"))):
        shutil.rmtree(left, ignore_errors=True)
    own, lock = Path(), None
    while lock is None:
        own = Path(tempfile.mkdtemp(".part", f"{path.name}.", path.parent))
        try:
            lock = hold(own)  # None: another process removed it before it was locked
        except OSError:  # a file system without locks
            break
    try:
        yield own
    finally:
        with suppress(OSError):
            own.rmdir()
        if lock is not None:
            os.close(lock)
