"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
        Several processes may write the file at the same time, so each does it under a name of its own. Otherwise the
        name is fixed, and what a killed process left there is overwritten by the next one.

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
    part = path.with_name(f"{path.name}.{os.getpid()}.part" if shared else f"{path.name}.part")
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
