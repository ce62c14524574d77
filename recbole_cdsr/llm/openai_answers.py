"""Reading what OpenAI-compatible services answer; the same in a response of theirs and in a line of a batch file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from recbole_cdsr.llm.generator import Answer

PASSING_FAULTS = frozenset({408, 409, 425, 429})
FAULTS_OF_THE_SERVICE = frozenset({401, 402, 403, 404, 405, 410})  # its key, its model, its address
REFUSAL_CODES = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})


class MalformedAnswerError(ValueError):
    """Not what such a service answers; the message is part of a sentence."""


def chat_answer(body: Any) -> Answer:
    """Read a chat completion.

    Parameters
    ----------
    body
        The JSON value of the response.

    Raises
    ------
    MalformedAnswerError
        It is no chat completion.
    """
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
    except (TypeError, KeyError, IndexError, AttributeError):
        raise MalformedAnswerError(f"an answer that is no chat completion{error_in(body)}") from None
    reason = choice.get("finish_reason")
    reason = str(reason) if reason is not None else None
    prompt_tokens, completion_tokens = _usage(body, "prompt_tokens"), _usage(body, "completion_tokens")
    if reason == "content_filter" or (refusal and not content):
        return refused(prompt_tokens, completion_tokens)
    return Answer(_text(content), prompt_tokens, completion_tokens, reason)


def embedding_answers(body: Any, count: int) -> list[Answer]:
    """Read the vectors of an embeddings response, in the order of the texts that were sent.

    Parameters
    ----------
    body
        The JSON value of the response.
    count
        Texts that were sent.

    Returns
    -------
    list of Answer
        With a `vector` each, finite float32 `[D]`, or an `error`. Tokens are shared out over the texts.

    Raises
    ------
    MalformedAnswerError
        It is no embeddings response, or has another number of vectors.
    """
    try:
        rows = {int(row.get("index", place)): row["embedding"] for place, row in enumerate(body["data"])}
    except (TypeError, KeyError, ValueError, AttributeError):
        raise MalformedAnswerError(f"an answer that holds no embeddings{error_in(body)}") from None
    if sorted(rows) != list(range(count)):
        raise MalformedAnswerError(f"{len(rows)} vectors for {count} texts")
    tokens = _usage(body, "prompt_tokens")
    shares = [None if tokens is None else tokens // count + (place < tokens % count) for place in range(count)]
    return [_vector_answer(rows[place], shares[place]) for place in range(count)]


def _vector_answer(values: Any, tokens: int | None) -> Answer:
    try:
        if isinstance(values, str):  # some services always send the bytes of float32 numbers in base64
            values = np.frombuffer(base64.b64decode(values, validate=True), dtype="<f4")
        vector = np.asarray(values, dtype=np.float32)  # [D]
    except (TypeError, ValueError, OverflowError):
        return Answer(None, error="a vector that is no list of numbers")
    if vector.ndim != 1 or not len(vector):
        return Answer(None, error="a vector that is no list of numbers")
    if not np.isfinite(vector).all():
        return Answer(None, error="a vector that holds NaN or infinity")
    return Answer(None, tokens, 0, "stop", vector=vector)


def refused(prompt_tokens: int | None = None, completion_tokens: int | None = None) -> Answer:
    """The answer that a content filter withheld."""
    return Answer(None, prompt_tokens, completion_tokens, "content_filter", "withheld by a content filter")


def is_refusal(error: Any) -> bool:
    """Whether the `error` of a response says that a content filter withheld the answer."""
    if not isinstance(error, Mapping):
        return False
    inner = error.get("innererror")
    codes = {error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, Mapping) else None}
    return bool({str(code) for code in codes} & REFUSAL_CODES)


def is_definite(status: Any) -> bool:
    """Whether a status says that this request will never be answered; others are passing, or the service's fault."""
    return isinstance(status, int) and 400 <= status < 500 and status not in PASSING_FAULTS | FAULTS_OF_THE_SERVICE


def error_in(body: Any) -> str:
    """What a body says went wrong, as `: <text>`; empty when it says nothing."""
    error = body.get("error") if isinstance(body, Mapping) else None
    message = error.get("message") if isinstance(error, Mapping) else error
    return f": {' '.join(str(message).split())[:200]}" if message else ""


def _text(content: Any) -> str:
    """A message's content; some services give it in parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = "".join(part for part in parts if isinstance(part, str))
    if content is None:
        return ""
    # JSON may hold half a character, which no file can.
    return str(content).encode("utf-8", "replace").decode("utf-8")


def _usage(body: Any, key: str) -> int | None:
    usage = body.get("usage")
    value = usage.get(key) if isinstance(usage, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
