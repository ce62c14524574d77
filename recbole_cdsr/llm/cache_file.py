"""The SQLite file of a response cache: how it is opened, written and closed; `response_cache` says what it holds."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm import request_claims

FORMAT = 1
_BUSY_SECONDS = 60.0
# What is committed stands in a file beside this one (`-wal`) until a checkpoint brings it over: soon, for copies are
# made of one file, and not with every commit, for it waits for the disk.
_CHECKPOINT_SECONDS = 2.0
_CHECKPOINT_COMMITS = 50
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, backend TEXT NOT NULL, model TEXT NOT NULL, parameters TEXT NOT NULL,
    prompt_version TEXT NOT NULL, request TEXT NOT NULL, text TEXT, vector BLOB,
    prompt_tokens INTEGER, completion_tokens INTEGER, finish_reason TEXT, date TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS former (
    key TEXT PRIMARY KEY, backend TEXT NOT NULL, model TEXT NOT NULL, parameters TEXT NOT NULL,
    prompt_version TEXT NOT NULL, request TEXT NOT NULL, text TEXT, vector BLOB,
    prompt_tokens INTEGER, completion_tokens INTEGER, finish_reason TEXT, date TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS given_up (
    key TEXT PRIMARY KEY, label TEXT NOT NULL, reason TEXT NOT NULL, times INTEGER NOT NULL, date TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS unanswerable (key TEXT PRIMARY KEY, reason TEXT NOT NULL, date TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS exported (
    key TEXT PRIMARY KEY, backend TEXT NOT NULL, model TEXT NOT NULL, parameters TEXT NOT NULL,
    prompt_version TEXT NOT NULL, request TEXT NOT NULL, label TEXT NOT NULL, file TEXT NOT NULL, date TEXT NOT NULL);
""" + request_claims.SCHEMA.lstrip()


class CacheFile:
    """The file, open.

    Parameters
    ----------
    path, read_only
        As `ResponseCache` takes them.

    Attributes
    ----------
    database : sqlite3.Connection
        For reading; whoever writes does it in `writing`.

    Raises
    ------
    FeatureError
        As `ResponseCache`.
    """

    def __init__(self, path: str | os.PathLike[str], read_only: bool = False) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self._commits = 0
        self._checkpointed = 0.0  # time.monotonic(): the first commit is brought over at once
        with self.worded("opened" if read_only else "written"):
            if read_only:
                there = self.path.is_file()
                self.database = self._connect(f"{self.path.absolute().as_uri()}?mode=ro" if there else ":memory:")
                if not there:
                    self.database.executescript(_SCHEMA)
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.database = self._connect(f"{self.path.absolute().as_uri()}?mode=rwc")
                self._prepare()
            self._check_format()

    def _connect(self, uri: str) -> sqlite3.Connection:
        # Transactions are begun by hand (isolation_level None); requests are made by threads, the cache by one only.
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)

    def _prepare(self) -> None:
        self._keep_a_write_ahead_log()
        # A commit is the operating system's at once, which a killed process cannot undo; the disk's with checkpoints.
        self.database.execute("PRAGMA synchronous=NORMAL")
        with self.writing():
            for statement in _SCHEMA.strip().split(";\n"):
                self.database.execute(statement)
            self.database.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (str(FORMAT),))
            self.database.execute("INSERT OR REPLACE INTO meta VALUES ('opened', ?)", (now(),))

    def _keep_a_write_ahead_log(self) -> None:
        """Readers and a writer at the same time; where the file system cannot, SQLite keeps its older journal.

        While another process does the same to a new file, SQLite answers at once that it is locked instead of waiting.
        """
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self.database.execute("PRAGMA journal_mode=WAL").fetchone()
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def _check_format(self) -> None:
        tables = {row[0] for row in self.database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if self.read_only and not {"meta", "answers"} <= tables:
            raise FeatureError(
                f"{self.path} holds no answers of a response cache (it lacks tables): a copy of one whose run was "
                f"killed or is going on needs {self.path.name}-wal beside it as well; copy both under the same name, "
                "or open the original once with any `features` command before it is copied."
            )
        found = self.database.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
        if self.read_only and found is None and not self.path.is_file():
            return
        if found is None or found[0] != str(FORMAT):
            raise FeatureError(
                f"The response cache {self.path} has format {found[0] if found else 'unknown'}, and this version reads "
                f"{FORMAT}; set llm_cache_file to another file."
            )

    def close(self) -> None:
        """Bring over what was committed, and close it."""
        self.checkpoint()
        self.database.close()

    def checkpoint(self) -> None:
        """Bring what was committed into the file itself, as far as other processes that read it allow."""
        if self.read_only:
            return
        self._commits, self._checkpointed = 0, time.monotonic()
        with suppress(sqlite3.Error):  # committed it is all the same, and a full disk is said with the next commit
            self.database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction, committed at its end and undone by an error."""
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self.database.execute("ROLLBACK")
            raise
        self._commits += 1
        late = time.monotonic() - self._checkpointed >= _CHECKPOINT_SECONDS
        if late or self._commits >= _CHECKPOINT_COMMITS:
            self.checkpoint()

    @contextmanager
    def worded(self, verb: str) -> Iterator[None]:
        """One sentence for whatever SQLite and the file system say; `verb` is `opened`, `read` or `written`."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            remedy = "make its folder writable, or set llm_cache_file to another file"
            if verb == "read":
                remedy = "it may have been copied while a run was writing: copy it again"
            raise FeatureError(f"The response cache {self.path} cannot be {verb} ({reason}); {remedy}.") from None


def now() -> str:
    """The date and time of a row."""
    return datetime.now(UTC).isoformat(timespec="seconds")
