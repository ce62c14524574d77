"""The response cache: every answer that was paid for, in one SQLite file per dataset.

An answer is committed when it arrives, so that a killed process loses nothing but what it was waiting for. Several
processes may use one file: who asks something claims it first (`request_claims`).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm import request_claims
from recbole_cdsr.llm.cache_file import CacheFile, now
from recbole_cdsr.llm.generator import Answer, spoken

_CHUNK = 500  # keys in one query; SQLite takes 999 variables in its oldest builds


@dataclass(frozen=True)
class CacheEntry:
    """One request as it is filed: its key, and everything the key was made from.

    Attributes
    ----------
    key : str
        See `recbole_cdsr.llm.generator.content_key`.
    backend, model, prompt_version : str
        As in the key.
    parameters : mapping
        As in the key.
    content : Any
        Plain data, what was asked: a list of messages, or the text to be encoded.
    label : str
        Whom it is about, for reports.
    """

    key: str
    backend: str
    model: str
    parameters: Mapping[str, Any]
    prompt_version: str
    content: Any
    label: str = ""


@dataclass(frozen=True)
class GivenUp:
    """A request without an answer: the next run asks it again.

    Attributes
    ----------
    key, label
        As of its `CacheEntry`.
    reason : str
        Part of a sentence.
    refused : bool
        The backend will never answer it: it is too long, malformed, ... What is made of answers need not wait for it.
    """

    key: str
    label: str
    reason: str
    refused: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class CacheContent:
    """What the cache holds of one model and prompt."""

    backend: str
    model: str
    prompt_version: str
    answers: int
    prompt_tokens: int
    completion_tokens: int


class ResponseCache:
    """Answers by key.

    Parameters
    ----------
    path
        The file; made with its folder when it is not there.
    read_only
        Only look: nothing is made, and a file that is not there is an empty cache.

    Raises
    ------
    FeatureError
        It cannot be opened or written, or is no response cache. Said before anything is asked.
    """

    def __init__(self, path: str | os.PathLike[str], read_only: bool = False) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self._file = CacheFile(path, read_only)
        self._database = self._file.database
        self._claims = request_claims.RunClaims(self._database)

    def close(self) -> None:
        """Give claims back and close the file."""
        with suppress(sqlite3.Error):
            if self._claims.enrolled:
                self.release()
        self._file.close()

    def checkpoint(self) -> None:
        """Bring what was committed into the one file, so that a copy of it has all."""
        self._file.checkpoint()

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Answers

    def get(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The answers there are, by key, each marked as cached and without reasoning, which only the file keeps.

        Whoever reads kept answers sees the same text, so that questions made of them have the same keys.
        """
        return {key: _answer(*row) for key, *row in self._rows("answers", f"key, {_ANSWER_COLUMNS}", keys)}

    def former(self, keys: Sequence[str]) -> dict[str, list[Answer]]:
        """The answers that were put aside for newer ones, by key, as `get` gives those that count."""
        found: dict[str, list[Answer]] = {}
        of_former = "substr(key, 1, 64)"  # behind it stands when it was replaced, if another was later
        for key, *row in self._rows("former", f"{of_former}, {_ANSWER_COLUMNS}", keys, of_former):
            found.setdefault(key, []).append(_answer(*row))
        return found

    def dates(self, keys: Sequence[str]) -> dict[str, str]:
        """When each of the answers there are was stored."""
        return dict(self._rows("answers", "key, date", keys))

    def store(self, answers: Iterable[tuple[CacheEntry, Answer]], replacing: Collection[str] = ()) -> None:
        """Commit answers in one transaction, and end the claims on them; where two runs got one, the first stays.

        Parameters
        ----------
        answers
            With what was asked.
        replacing
            Keys whose kept answer is put aside (into the table `former`) for the new one, in the same transaction.
        """
        rows, keys = [], []
        for entry, answer in answers:
            vector = None if answer.vector is None else np.asarray(answer.vector, dtype="<f4").tobytes()
            rows.append(
                (
                    *_filed(entry),
                    answer.text,
                    vector,
                    answer.prompt_tokens,
                    answer.completion_tokens,
                    answer.finish_reason,
                    now(),
                )
            )
            keys.append((entry.key,))
        with self._file.worded("written"), self._file.writing():
            self._put_aside([key for key in keys if key[0] in replacing])
            self._database.executemany("INSERT OR IGNORE INTO answers VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", rows)
            for table in ("claims", "given_up", "unanswerable", "exported"):
                self._database.executemany(f"DELETE FROM {table} WHERE key = ?", keys)

    def _put_aside(self, keys: Sequence[tuple[str]]) -> None:
        # What was put aside before under the same key stays as well: all of it was paid for.
        self._database.executemany(
            "UPDATE OR REPLACE former SET key = key || ' of ' || date || ' ' || rowid WHERE key = ?", keys
        )
        self._database.executemany("INSERT OR REPLACE INTO former SELECT * FROM answers WHERE key = ?", keys)
        self._database.executemany("DELETE FROM answers WHERE key = ?", keys)

    def content(self) -> list[CacheContent]:
        """What is there, by backend, model and prompt."""
        return [
            CacheContent(*row)
            for row in self._database.execute(
                "SELECT backend, model, prompt_version, COUNT(*), COALESCE(SUM(prompt_tokens), 0), "
                "COALESCE(SUM(completion_tokens), 0) FROM answers GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
            )
        ]

    def mean_completion_tokens(self, backend: str, model: str, prompt_versions: Sequence[str]) -> float | None:
        """How long the answers to these prompts are; None when there are none yet."""
        marks = ",".join("?" * len(prompt_versions))
        query = (
            "SELECT AVG(completion_tokens) FROM answers WHERE backend = ? AND model = ? "
            f"AND prompt_version IN ({marks}) AND completion_tokens IS NOT NULL"
        )
        return self._database.execute(query, (backend, model, *prompt_versions)).fetchone()[0]

    def take_from(self, other: str | os.PathLike[str]) -> int:
        """Add the answers of another cache, e.g. of the machine that asked another shard.

        Where both have one, ours stays, unless it is of a kind that `llm_ask_again` names and theirs is not: then ours
        is put aside as `store` does.

        Returns
        -------
        int
            How many were new, or better.

        Raises
        ------
        FeatureError
            The other file is missing or no response cache.
        """
        if not Path(other).is_file():
            raise FeatureError(f"There is no response cache {other}.")
        with ResponseCache(other, read_only=True) as source, source._file.worded("read"):
            cursor = source._database.execute("SELECT * FROM answers")
            taken = 0
            while rows := cursor.fetchmany(1000):
                with self._file.worded("written"), self._file.writing():
                    had = self.get([row[0] for row in rows])
                    better = [
                        (key,)
                        for key, *_, text, vector, prompt_tokens, completion_tokens, finish_reason, _ in rows
                        if key in had
                        and had[key].kinds
                        and not _answer(text, vector, prompt_tokens, completion_tokens, finish_reason).kinds
                    ]
                    self._put_aside(better)
                    self._database.executemany("INSERT OR IGNORE INTO answers VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", rows)
                    new = [*((row[0],) for row in rows if row[0] not in had), *better]
                    for table in ("given_up", "unanswerable", "exported"):
                        self._database.executemany(f"DELETE FROM {table} WHERE key = ?", new)
                    taken += len(new)
        return taken

    # Who asks what

    def claim(self, keys: Sequence[str], outdated: Mapping[str, str] | None = None) -> tuple[list[str], list[str]]:
        """Take requests upon this run.

        Parameters
        ----------
        keys
            Wanted.
        outdated
            Of those that are asked again although they have an answer: when that one was stored. A request with a
            newer one is answered.

        Returns
        -------
        (mine, others)
            Keys that this run is to ask now, and keys that a living run is asking. Those in neither list have been
            answered meanwhile.
        """
        with self._file.worded("written"), self._file.writing():
            outdated = outdated or {}
            answered = {key for key, date in self.dates(keys).items() if outdated.get(key) != date}
            return self._claims.take(keys, answered, dict(self._rows("claims", "key, run", keys)))

    def release(self, keys: Sequence[str] | None = None) -> None:
        """Give claims back; None means all of this run, which then takes its leave."""
        with self._file.worded("written"), self._file.writing():
            self._claims.release(keys)

    def renew(self) -> None:
        """Say that this run is alive, if it is time to."""
        if self._claims.renewal_is_due():
            with self._file.worded("written"), self._file.writing():
                self._claims.enrol()

    def give_up(self, given_up: Sequence[GivenUp]) -> None:
        """Put requests on the list of those the next run asks again, and end the claims on them."""
        with self._file.worded("written"), self._file.writing():
            self._database.executemany(
                "INSERT INTO given_up VALUES (?, ?, ?, 1, ?) ON CONFLICT (key) DO UPDATE SET "
                "reason = excluded.reason, times = times + 1, date = excluded.date",
                [(entry.key, entry.label, entry.reason, now()) for entry in given_up],
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO unanswerable VALUES (?, ?, ?)",
                [(entry.key, entry.reason, now()) for entry in given_up if entry.refused],
            )
            self._database.executemany("DELETE FROM claims WHERE key = ?", [(entry.key,) for entry in given_up])

    def given_up(self) -> list[GivenUp]:
        """The requests that were given up and not answered since."""
        return [
            GivenUp(*row) for row in self._database.execute("SELECT key, label, reason FROM given_up ORDER BY date")
        ]

    def unanswerable(self, keys: Sequence[str]) -> dict[str, str]:
        """Those of the requests that the backend said it will never answer, and why."""
        return dict(self._rows("unanswerable", "key, reason", keys))

    # Batch files

    def note_export(self, entries: Sequence[CacheEntry], file: str) -> None:
        """Remember what the requests of a batch file were made from, for the import of their answers."""
        with self._file.worded("written"), self._file.writing():
            self._database.executemany(
                "INSERT OR REPLACE INTO exported VALUES (?,?,?,?,?,?,?,?,?)",
                [(*_filed(entry), entry.label, file, now()) for entry in entries],
            )

    def note_failed_export(self, keys: Sequence[str]) -> None:
        """Remember that requests of a batch file came back without an answer, so that none is waited for."""
        with self._file.worded("written"), self._file.writing():
            self._database.executemany("UPDATE exported SET file = '' WHERE key = ?", [(key,) for key in keys])

    def waiting(self, keys: Sequence[str]) -> dict[str, str]:
        """The batch files of the requests among `keys` of which no result has been imported."""
        return {key: file for key, file in self._rows("exported", "key, file", keys) if file}

    def exported(self, keys: Sequence[str]) -> dict[str, CacheEntry]:
        """The requests among `keys` that stand in a batch file and whose answer has not been imported."""
        columns = "key, backend, model, parameters, prompt_version, request, label"
        return {
            key: CacheEntry(key, backend, model, json.loads(parameters), version, json.loads(request), label)
            for key, backend, model, parameters, version, request, label in self._rows("exported", columns, keys)
        }

    def _rows(self, table: str, columns: str, keys: Sequence[str], key: str = "key") -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            query = f"SELECT {columns} FROM {table} WHERE {key} IN ({marks})"
            yield from self._database.execute(query, chunk).fetchall()


_ANSWER_COLUMNS = "text, vector, prompt_tokens, completion_tokens, finish_reason"
_WITHHELD = "withheld by a content filter"


def _answer(
    text: str | None,
    vector: bytes | None,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    finish_reason: str | None,
) -> Answer:
    """The answer in the columns `_ANSWER_COLUMNS` of a row."""
    return spoken(
        Answer(
            text,
            prompt_tokens,
            completion_tokens,
            finish_reason,
            _WITHHELD if finish_reason == "content_filter" and text is None else None,
            cached=True,
            vector=None if vector is None else np.frombuffer(vector, dtype="<f4"),
        )
    )


def _filed(entry: CacheEntry) -> tuple[str, ...]:
    return (
        entry.key,
        entry.backend,
        entry.model,
        json.dumps(entry.parameters, sort_keys=True),
        entry.prompt_version,
        _json(entry.content),
    )


def _json(content: Any) -> str:
    """Readable, but for half a character that UTF-8 cannot hold."""
    text = json.dumps(content, ensure_ascii=False)
    return json.dumps(content) if any("\ud800" <= sign <= "\udfff" for sign in text) else text
