"""Files of OpenAI's Batch API: requests out, results in.

One line is one request or one result; `custom_id` is the cache key, so that results may come in any order, in part, in
several files, and each exactly once.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.files import replacing
from recbole_cdsr.llm.generator import Answer, ChatRequest, TextGenerator
from recbole_cdsr.llm.openai_answers import (
    MalformedAnswerError,
    chat_answer,
    embedding_answers,
    error_in,
    is_definite,
    is_refusal,
    refused,
)
from recbole_cdsr.llm.openai_generator import OpenAIGenerator
from recbole_cdsr.llm.request_limits import RequestLimits
from recbole_cdsr.llm.request_report import counted
from recbole_cdsr.llm.request_runner import chat_entries
from recbole_cdsr.llm.response_cache import CacheEntry, GivenUp, ResponseCache

CHAT_URL = "/v1/chat/completions"
EMBEDDINGS_URL = "/v1/embeddings"
# What one file may hold by OpenAI's rules: 50,000 requests and 200 MB.
MAX_REQUESTS = 50_000
MAX_BYTES = 200_000_000
_COMMIT_LINES = 500
_UNKNOWN_PROMPT = "unknown (imported)"
# How a file that `export_entries` wrote begins.
_OF_REQUESTS = re.compile(rb'\{"custom_id": "([0-9a-f]{64})", "method": "POST", "url": "/')
_BEGINNING = 200  # bytes, in which that is


@dataclass(frozen=True)
class BatchExport:
    """Files that were written.

    Attributes
    ----------
    files : tuple of Path
        All of them, in order.
    requests, known : int
        Requests in them; those that the cache knew already.
    waiting : int
        Of those in the files: exported before, with no result imported since.
    removed : tuple of Path
        Further files of an earlier export under the same name that had more.
    """

    files: tuple[Path, ...]
    requests: int
    known: int
    waiting: int = 0
    removed: tuple[Path, ...] = ()

    def describe(self) -> str:
        """A sentence or two for the log."""
        text = f"{self.requests:,} requests were written to {named(self.files)}; {self.known:,} are answered already."
        return f"{text} Removed, for an earlier export wrote it: {named(self.removed)}." if self.removed else text


def named(files: Sequence[Path]) -> str:
    """All the files, for a sentence."""
    return ", ".join(map(str, files)) or "no file"


@dataclass
class BatchImport:
    """What a file of results brought.

    Attributes
    ----------
    lines : int
        Lines that hold anything.
    answered, known : int
        New answers; results whose answer the cache had, among them former ones of requests that are asked again.
    empty, truncated, refused : int
        Among the new answers.
    prompt_tokens, completion_tokens : int
        Of the new answers.
    in_vain : int
        Results that are errors, of requests that were to be asked again and whose former answer stays.
    failed : list of GivenUp
        Results that are errors; these requests can be exported or asked again.
    not_exported : int
        New answers to requests that this cache did not write into a batch file; kept all the same.
    damaged : list of int
        Line numbers that are no results, such as the last one of a download that was cut off.
    """

    lines: int = 0
    answered: int = 0
    known: int = 0
    empty: int = 0
    truncated: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    in_vain: int = 0
    failed: list[GivenUp] = field(default_factory=list)
    not_exported: int = 0
    damaged: list[int] = field(default_factory=list)

    def describe(self) -> str:
        """A sentence or two for the log."""
        parts = [f"{self.answered:,} new answers", f"{self.known:,} known"]
        parts += counted(
            (self.empty, "empty"),
            (self.truncated, "cut off at the token limit"),
            (self.refused, "withheld by a content filter"),
            (self.not_exported, "not exported from this cache"),
            (self.in_vain, "failed with the former answer kept"),
            (len(self.failed), "failed"),
            (len(self.damaged), "lines that are no results"),
        )
        text = (
            f"{self.lines:,} results: {', '.join(parts)}; {self.prompt_tokens:,} + {self.completion_tokens:,} tokens."
        )
        if self.failed:
            reason, count = Counter(entry.reason for entry in self.failed).most_common(1)[0]
            text += f" {count:,} x {reason}; these requests are asked or exported again."
        if self.damaged:
            text += f" The first line that is no result is line {self.damaged[0]}."
        return text


def export_batch(
    path: str | os.PathLike[str],
    generator: TextGenerator,
    requests: Sequence[ChatRequest],
    cache: ResponseCache,
    limits: RequestLimits | None = None,
) -> BatchExport:
    """Write the requests that the cache cannot answer as a Batch API file.

    Parameters
    ----------
    path
        The file; more than 50,000 requests or 200 MB go on in `<name>-2.jsonl`, `<name>-3.jsonl`, ... Those of an
        earlier export are replaced, and removed where there were more.
    generator
        An `OpenAIGenerator`.
    requests, cache, limits
        As `run_requests` takes them; of the limits `shard` and `ask_again` count.

    Raises
    ------
    ConfigError
        The generator is none of an OpenAI-compatible service.
    FeatureError
        A file or the cache cannot be written, or a file that is there holds something else than requests.
    """
    if not isinstance(generator, OpenAIGenerator):
        raise ConfigError(
            f"Batch files are for OpenAI-compatible services, and the generator is {generator.name}; set "
            "llm_generator=openai and llm_model."
        )
    entries = chat_entries(generator, requests)
    return export_entries(
        path, entries, CHAT_URL, lambda content: {"model": generator.model, **generator.body(content)}, cache, limits
    )


def export_entries(
    path: str | os.PathLike[str],
    entries: Sequence[CacheEntry],
    url: str,
    body: Callable[[Any], Mapping[str, Any]],
    cache: ResponseCache,
    limits: RequestLimits | None = None,
) -> BatchExport:
    """What `export_batch` does, for any endpoint.

    Parameters
    ----------
    path, cache, limits
        As there.
    entries
        What is asked.
    url
        Of the endpoint, as the Batch API names it.
    body
        From an entry's content to the request's body.
    """
    limits = limits or RequestLimits()
    distinct = {entry.key: entry for entry in entries}
    kept = cache.get(list(distinct))
    repeated = [key for key, answer in kept.items() if limits.ask_again & answer.kinds]
    missing = [
        entry
        for key, entry in distinct.items()
        if (key not in kept or key in repeated) and (limits.shard is None or limits.shard.holds(key))
    ]
    lines = (
        json.dumps({"custom_id": entry.key, "method": "POST", "url": url, "body": body(entry.content)}) + "\n"
        for entry in missing
    )
    exported = BatchExport((), len(missing), len(kept) - len(repeated))
    if missing:
        waiting = len(cache.waiting([entry.key for entry in missing]))
        with _written_parts(Path(path), lines) as files:
            left_over = _left_over(Path(path), len(files), cache)
            # Noted before the files are there: results whose requests are not known could only be kept, not told from
            # strangers'.
            cache.note_export(missing, os.fspath(path))
        exported = replace(exported, files=tuple(files), waiting=waiting, removed=tuple(left_over))
        with _worded(Path(path)):
            for part in left_over:
                part.unlink()
    logging.getLogger().info(exported.describe())
    if exported.waiting:
        logging.getLogger().warning(
            f"{exported.waiting:,} of the {exported.requests:,} requests were exported before, and no result of theirs "
            "has been imported: while their batch is out, sending them once more pays for them twice."
        )
    return exported


@contextmanager
def _written_parts(path: Path, lines: Iterator[str]) -> Iterator[list[Path]]:
    """Write lines into as many files as they need, which are in their places when the block has ended."""
    files: list[Path] = []
    count = size = 0
    with _worded(path), ExitStack() as open_files:
        stream: Any = None
        for line in lines:
            if stream is None or count == MAX_REQUESTS or size + len(line) > MAX_BYTES:
                files.append(_part(path, len(files) + 1))
                _check_replaceable(files[-1])
                files[-1].parent.mkdir(parents=True, exist_ok=True)
                part = open_files.enter_context(replacing(files[-1]))
                stream = open_files.enter_context(part.open("w", encoding="utf-8"))
                count = size = 0
            stream.write(line)
            count, size = count + 1, size + len(line)
        yield files


@contextmanager
def _worded(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FeatureError(f"The batch file {path} cannot be written ({error.strerror or error}).") from None


def _part(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _check_replaceable(path: Path) -> None:
    """Nothing but requests is replaced: they can be written again, and results cost money."""
    if path.is_file() and path.stat().st_size and _first_key(path) is None:
        raise FeatureError(
            f"{path} is there and is no file of requests that was written here; if it holds results, import them first "
            "(--batch-import); then remove it, or write the requests to another file."
        )


def _first_key(path: Path) -> str | None:
    """The key of the first request in a file of requests; None where it is another file."""
    with path.open("rb") as stream:
        begins = _OF_REQUESTS.match(stream.read(_BEGINNING))
    return None if begins is None else begins[1].decode()


def _left_over(path: Path, parts: int, cache: ResponseCache) -> list[Path]:
    """What an earlier export with more parts wrote behind the last one: it would be sent with the new ones."""
    found: list[Path] = []
    while (part := _part(path, parts + len(found) + 1)).is_file():
        key = _first_key(part)
        # A file that was exported under this very name is no part of another.
        if key is None or Path(cache.waiting([key]).get(key, path)).name == part.name:
            break
        found.append(part)
    return found


def import_batch(path: str | os.PathLike[str], cache: ResponseCache) -> BatchImport:
    """Fill the cache from a file of results or errors of the Batch API.

    Parameters
    ----------
    path
        Results in any order; some may be missing, be there twice, or be cut off.
    cache
        Of the dataset.

    Returns
    -------
    BatchImport

    Raises
    ------
    FeatureError
        The file cannot be read, holds no result at all, or the cache cannot be written.
    """
    report = BatchImport()
    results: dict[str, list[Answer | GivenUp]] = {}
    try:
        with open(path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                report.lines += 1
                found = _result(line)
                if found is None:
                    report.damaged.append(number)
                    continue
                key, result = found
                results.setdefault(key, []).append(result)
                if len(results) >= _COMMIT_LINES:
                    _keep(results, cache, report)
                    results = {}
    except OSError as error:
        raise FeatureError(f"The batch file {path} cannot be read ({error.strerror or error}).") from None
    _keep(results, cache, report)
    if report.lines and len(report.damaged) == report.lines:
        raise FeatureError(
            f'{path} holds no result of a batch: a line is {{"custom_id": ..., "response": ...}}; give the output or '
            "error file that the Batch API made, not the file of requests."
        )
    logging.getLogger().info(f"{path}: {report.describe()}")
    return report


def _result(line: bytes) -> tuple[str, Answer | GivenUp] | None:
    """A line's key and its answer, or why there is none; None where the line is no result."""
    try:
        value = json.loads(line)
        key, response, error = value["custom_id"], value.get("response"), value.get("error")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not isinstance(key, str) or not re.fullmatch(r"[0-9a-f]{64}", key) or (response is None and error is None):
        return None
    body = response.get("body") if isinstance(response, Mapping) else None
    status = response.get("status_code") if isinstance(response, Mapping) else None
    fault = body.get("error") if isinstance(body, Mapping) else None
    if is_refusal(fault) or is_refusal(error):
        return key, refused()
    if error or fault or status not in (200, None):
        said = f"the batch says: status {status}{error_in({'error': fault or error})}"
        return key, GivenUp(key, "", said, refused=is_definite(status))
    try:
        if isinstance(body, Mapping) and "data" in body:
            answer = embedding_answers(body, 1)[0]
        else:
            answer = chat_answer(body)
    except MalformedAnswerError as malformed:
        return key, GivenUp(key, "", f"the batch says: {malformed}")
    return key, answer if answer.answered else GivenUp(key, "", f"the batch says: {answer.error}")


def _keep(results: Mapping[str, list[Answer | GivenUp]], cache: ResponseCache, report: BatchImport) -> None:
    """Put results into the cache; of several of one request the first that is an answer and is new."""
    keys = list(results)
    known = cache.get(keys)
    exported = cache.exported(keys)
    former = cache.former([key for key in known if key in exported])
    answers: list[tuple[CacheEntry, Answer]] = []
    failed: list[GivenUp] = []
    in_vain: list[str] = []
    for key, found in results.items():
        entry = exported.get(key)
        had = [known[key], *former.get(key, ())] if key in known else []
        given = [result for result in found if isinstance(result, Answer)]
        new = [answer for answer in given if not any(map(answer.says_the_same, had))]
        result = next(iter([*new, *given]), found[-1])  # an error takes no answer back
        if key in known and (entry is None or (given and not new)):
            # An older file of results once more: of a request that was exported again, the new answer is yet to come.
            report.known += 1
        elif isinstance(result, Answer):
            if entry is None:
                report.not_exported += 1
                entry = CacheEntry(key, "openai", "unknown", {}, _UNKNOWN_PROMPT, None)
            answers.append((entry, result))
        elif key in known:
            in_vain.append(key)
        else:
            failed.append(replace(result, label=entry.label if entry else ""))
    cache.store(answers, replacing=known)  # what was exported although it is known is wanted anew
    cache.give_up(failed)
    cache.note_failed_export([*(entry.key for entry in failed), *in_vain])
    report.failed += failed
    report.in_vain += len(in_vain)
    for _, answer in answers:
        report.answered += 1
        report.refused += answer.refused
        report.truncated += answer.truncated
        report.empty += answer.empty and not answer.refused
        report.prompt_tokens += answer.prompt_tokens or 0
        report.completion_tokens += answer.completion_tokens or 0
