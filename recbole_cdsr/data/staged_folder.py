"""A whole dataset folder that appears complete or not at all, whatever ends its writer and when."""

from __future__ import annotations

import glob
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recbole_cdsr.data.card import card_lock_path
from recbole_cdsr.errors import DataError
from recbole_cdsr.locks import abandoned, hold

# What follows a dataset's name in the files that are made anew from its raw files or its features, and in what killed
# writers of them leave.
_MADE = re.compile(
    r"\.(inter|(recbole\.)?(train|valid|test)\.inter|item|card\.yaml|recbole\.yaml|itememb|useremb)"
    r"((\.[a-z0-9_]{8})?\.part)?"
)


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """Build a whole dataset folder beside its place; it appears there complete, or not at all.

    Yields an empty folder `<target>.part-<pid>` to write into; what killed processes left of theirs is removed, and a
    dataset that one of them had moved out of the way, but not replaced yet, is put back first. On success it takes the
    place of `target`, and the `features/` of a dataset it replaces move over (the feature store judges whether they are
    stale). On any exception, an interrupt included, it is removed and an existing `target` is left as it was.

    Raises
    ------
    DataError
        When the folder cannot be written, or when `target` exists and holds anything but a dataset of that
        name: replacing it would delete somebody's files.
    """
    target = _real(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _put_back_replaced(target)
        _refuse_foreign(target)
        _remove_unfinished(target)
        part, lock = _part_of(target)
    except OSError as error:
        raise _not_writable(target, error.strerror) from error
    try:
        yield part
        _move_into_place(part, target)
    finally:
        if not (part / "features").exists():  # which are the old dataset's, and could not be handed back
            shutil.rmtree(part, ignore_errors=True)  # nothing left of it after a successful move
        if lock is not None:
            os.close(lock)


def check_replaceable(target: Path) -> None:
    """Refuse what `staged_directory` would refuse, before the hours that it takes to read what goes in; makes nothing.

    Raises
    ------
    DataError
        As there.
    """
    target = _real(target)
    try:
        _refuse_foreign(target)
        place = next((folder for folder in target.parents if folder.exists()), None)
    except OSError as error:
        raise _not_writable(target, error.strerror) from error
    if place is None:
        raise _not_writable(target, "there is no such drive")
    if not place.is_dir():
        raise _not_writable(target, f"{place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise _not_writable(target, f"nothing may be written into {place}")


def _real(target: Path) -> Path:
    return Path(os.path.realpath(target))  # a linked folder is replaced where it lives, and stays linked


def _not_writable(target: Path, reason: str | None) -> DataError:
    return DataError(f"{target}: cannot be written ({reason}); choose another --out.")


def _part_of(target: Path) -> tuple[Path, int | None]:
    """Make a folder beside `target` and lock it: a lock ends with its process, whatever it dies of."""
    for name in itertools.chain([f"{os.getpid()}"], (f"{os.getpid()}-{turn}" for turn in itertools.count(2))):
        part = target.with_name(f"{target.name}.part-{name}")
        try:
            part.mkdir()
        except FileExistsError:  # of a process with this number in another container
            continue
        try:
            if (lock := hold(part)) is not None:
                return part, lock
        except OSError:  # a file system without locks
            return part, None
    raise AssertionError("names never end")


def _remove_unfinished(target: Path) -> None:
    for left in abandoned(_left_of(target, "part")):
        if target.exists():
            _hand_over_features(left, target)
        shutil.rmtree(left, ignore_errors=True)


def _put_back_replaced(target: Path) -> None:
    """Finish what was killed between moving an old dataset away and deleting it."""
    for left in abandoned(_left_of(target, "replaced")):
        if not target.exists():
            for part in abandoned(_left_of(target, "part")):  # its features may have moved on already
                _hand_over_features(part, left)
            os.rename(left, target)
        else:
            _hand_over_features(left, target)
            shutil.rmtree(left, ignore_errors=True)


def _left_of(target: Path, kind: str) -> Iterator[Path]:
    """Folders `<target>.<kind>-*` beside a dataset's."""
    for left in sorted(target.parent.glob(f"{glob.escape(target.name)}.{kind}-*")):
        # A dataset may be called so itself, and then has files of that name.
        if left.is_dir() and not left.is_symlink() and not any(left.glob(f"{glob.escape(left.name)}.*")):
            yield left


def _refuse_foreign(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise DataError(f"{target}: is a file; choose another --name or --out.")
    ours = {"features", card_lock_path(target, target.name).name}
    for name in sorted(entry.name for entry in target.iterdir()):
        if name not in ours and not (name.startswith(f"{target.name}.") and _MADE.fullmatch(name, len(target.name))):
            raise DataError(
                f"{target}: holds {name!r}, which no converter writes for a dataset {target.name!r}, so the folder "
                "is not replaced; move it away or choose another --name or --out."
            )


def _move_into_place(part: Path, target: Path) -> None:
    replaced = target.with_name(f"{target.name}.replaced-{os.getpid()}")
    lock = None
    try:
        try:
            if target.exists():
                with suppress(OSError):  # a file system without locks
                    lock = hold(target)
                os.rename(target, replaced)
                _hand_over_features(replaced, part)
            os.rename(part, target)
        except BaseException:
            if replaced.exists() and not target.exists():
                try:
                    _hand_over_features(part, replaced)
                finally:
                    os.rename(replaced, target)
            raise
    except OSError as error:
        raise DataError(f"{target}: cannot be put in place ({error.strerror}).") from error
    finally:
        if lock is not None:
            os.close(lock)
    shutil.rmtree(replaced, ignore_errors=True)


def _hand_over_features(source: Path, destination: Path) -> None:
    """Features move while no dataset is in its place: one that is there without them would have them made again."""
    if (source / "features").is_dir() and not (destination / "features").exists():
        os.rename(source / "features", destination / "features")
