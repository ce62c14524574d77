"""Locks on files and folders that end with the processes that hold them, however those end."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None


class HeldLock:
    """A lock that this process holds; a child that was given `descriptor` goes on holding it when this one dies.

    Attributes
    ----------
    descriptor : int
        Of the lock's file, for `subprocess.Popen(pass_fds=…)`.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self.descriptor = descriptor

    def release(self) -> None:
        """Give the lock up and remove its file. No child may hold it any more."""
        with suppress(OSError):
            self._path.unlink()  # while it is held: whoever waits for this file sees that it is gone
        os.close(self.descriptor)


def take_lock(path: Path, wait: bool = False) -> HeldLock | None:
    """Take the lock of a file, which is made when it is missing; its folder must be there.

    Parameters
    ----------
    path
        The lock's file; nothing is written into it.
    wait
        Wait until it is free.

    Returns
    -------
    HeldLock or None
        None when another process holds it and `wait` is not set.

    Raises
    ------
    OSError
        The file cannot be made, or files cannot be locked here.
    """
    if fcntl is None:
        raise OSError("files cannot be locked on this system")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return HeldLock(path, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed the file meanwhile; the lock is that of a new one


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock of a file at this moment; nothing is made."""
    if fcntl is None or not path.is_file():
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def one_at_a_time(path: Path, what: str) -> Iterator[None]:
    """Let one process at a time do what the block does; the others wait and say for what.

    Where files cannot be locked nobody waits, so the block must be one that several processes may do at once, if only
    at a higher cost.

    Parameters
    ----------
    path
        The lock's file, in a folder that can be written.
    what
        What is waited for, for the log.
    """
    try:
        lock = take_lock(path)
        if lock is None:
            logging.getLogger().info(f"{what}: another process is at it; waiting for what it makes.")
            lock = take_lock(path, wait=True)
    except OSError:
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def hold(folder: Path) -> int | None:
    """Lock a folder for this process, until the descriptor is closed or the process ends, whatever it dies of.

    Parameters
    ----------
    folder
        The lock follows it when it is renamed.

    Returns
    -------
    int or None
        Descriptor that holds it; None if another one does, or the folder is gone.

    Raises
    ------
    OSError
        Where folders cannot be locked.
    """
    if fcntl is None:
        raise OSError("folders cannot be locked on this system")
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def abandoned(paths: Iterable[Path]) -> Iterator[Path]:
    """What killed processes left: those of the paths that no process holds.

    Parameters
    ----------
    paths
        Files or folders whose makers `hold` them while they are at work.

    Yields
    ------
    Path
        Held by this process until the next is asked for; none where paths cannot be locked.
    """
    for path in paths:
        try:
            lock = hold(path)
        except OSError:
            continue
        if lock is None:
            continue
        try:
            yield path
        finally:
            os.close(lock)
