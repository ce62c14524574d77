"""Text generators: chats in, texts out. What one is asked, what it answers, and the one that is no LLM."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from recbole_cdsr.errors import CDSRError, FeatureError

Chat = Sequence[Mapping[str, str]]
"""Messages in order, each with `role` (system, user, assistant) and `content`."""

OFFLINE = "offline (no LLM)"


@dataclass(frozen=True)
class ChatRequest:
    """One thing to ask.

    Attributes
    ----------
    chat : Chat
        What is asked.
    prompt_version : str
        `<name>-<version>` of the prompt the chat was made with; part of the cache key.
    label : str
        Whom it is about (a user or item token), for reports; no part of the cache key.
    """

    chat: Chat
    prompt_version: str
    label: str = ""


@dataclass(frozen=True)
class Answer:
    """What came back for one request.

    Attributes
    ----------
    text : str or None
        None when there is no answer: `error` says why.
    prompt_tokens, completion_tokens : int or None
        As the backend counted them; None where it did not.
    finish_reason : str or None
        `stop`, `length` (cut off at the token limit), `content_filter`, or whatever else the backend says.
    error : str or None
        Why there is no text: refused by a content filter, given up, not in this shard, ...
    cached : bool
        Whether it was known before this run asked anything.
    vector : np.ndarray or None
        float32 `[D]`, what an embeddings service answers instead of a text.
    """

    text: str | None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    cached: bool = False
    vector: np.ndarray | None = field(default=None, compare=False)

    @property
    def answered(self) -> bool:
        """Whether the backend has decided on it: a text, if an empty one, or a refusal. It is not asked again."""
        return self.text is not None or self.vector is not None or self.refused

    @property
    def empty(self) -> bool:
        """Answered with nothing but blanks."""
        return self.text is not None and not self.text.strip()

    @property
    def truncated(self) -> bool:
        """Cut off at the token limit."""
        return self.finish_reason == "length"

    @property
    def refused(self) -> bool:
        """Withheld by a content filter."""
        return self.finish_reason == "content_filter"

    @property
    def kinds(self) -> set[str]:
        """Which of the kinds that `llm_ask_again` names it is."""
        return {kind for kind in ("empty", "truncated", "refused") if getattr(self, kind)}

    def says_the_same(self, other: Answer) -> bool:
        """Whether another answer is this one, as far as features see."""
        if spoken(self).text != spoken(other).text or self.finish_reason != other.finish_reason:
            return False
        if self.vector is None or other.vector is None:
            return self.vector is other.vector
        return np.array_equal(self.vector, other.vector)


class RetryLaterError(CDSRError):
    """The backend cannot answer now and may later: too many requests, a server's fault, a time-out.

    Parameters
    ----------
    reason : str
        Part of a sentence, without any key.
    after : float, optional
        Seconds the backend asks to wait; None leaves it to the runner.
    everyone : bool
        Whether other requests had better wait as well.
    rationed : bool
        Whether the backend turns away whatever is too much for now, which says nothing of this request.
    """

    def __init__(self, reason: str, after: float | None = None, everyone: bool = False, rationed: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.everyone = everyone
        self.rationed = rationed


class RequestRefusedError(CDSRError):
    """The backend will never answer this request, whatever it does with others: it is too long, malformed, ..."""


@runtime_checkable
class TextGenerator(Protocol):
    """What the request runner asks of a generator.

    Attributes
    ----------
    backend : str
        `openai`, `transformers` or `offline`.
    model : str
        Name of the model; for `offline` the way the text is made.
    parameters : dict
        All that changes its answers (token limit, temperature, weights, ...), as plain data; part of the cache key.
    batch_size : int
        Chats it takes best in one call.
    concurrency : int
        Calls it can answer at once.
    cuts_with : str or None
        The tokenizer that `count_tokens` has on every machine, by which histories are cut; None where there is none for
        certain, and they are cut by estimates.
    """

    backend: str
    model: str
    parameters: dict[str, Any]
    batch_size: int
    concurrency: int
    cuts_with: str | None

    @property
    def name(self) -> str:
        """Who wrote, for logs, results and feature sets: the model, or `offline (no LLM)`."""

    def provenance(self) -> dict[str, Any]:
        """Plain data that says who wrote: at least `name`, `backend`, `model`, `parameters`, `llm` (the model or None).

        No key, and no password of an address.
        """

    def generate(self, chats: Sequence[Chat]) -> list[Answer]:
        """Answer chats, one answer for each in their order.

        Raises
        ------
        RetryLaterError
            Now it cannot, later it may.
        RequestRefusedError
            One of these chats cannot be answered.
        FeatureError
            It will answer nothing at all: the key is refused, there is no such model, ...
        """

    def count_tokens(self, chat: Chat) -> int | None:
        """Tokens of a prompt by the model's own tokenizer; None where that is not at hand."""


def request_key(generator: TextGenerator, request: ChatRequest) -> str:
    """The cache key of a request: 64 hexadecimal digits of (backend, model, parameters, prompt version, chat)."""
    messages = [{"role": str(message["role"]), "content": str(message["content"])} for message in request.chat]
    return content_key(generator.backend, generator.model, generator.parameters, request.prompt_version, messages)


def content_key(backend: str, model: str, parameters: Mapping[str, Any], prompt_version: str, content: Any) -> str:
    """SHA-256 over everything an answer depends on, as canonical JSON; the same on every machine."""
    parts = [backend, model, dict(parameters), prompt_version, content]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def without_reasoning(text: str) -> str:
    """An answer without the thoughts that a reasoning model wrote before it, between `<think>` and `</think>`."""
    _, closed, rest = text.rpartition("</think>")
    if closed:
        text = rest.strip()
    return "" if text.lstrip().startswith("<think>") else text  # cut off while it was thinking


def spoken(answer: Answer) -> Answer:
    """An answer as features see it: without reasoning. Of one that is spoken already nothing changes."""
    return answer if answer.text is None else replace(answer, text=without_reasoning(answer.text))


def model_provenance(generator: TextGenerator) -> dict[str, Any]:
    """What the provenance of every generator with a model begins with."""
    return {
        "name": generator.name,
        "backend": generator.backend,
        "model": generator.model,
        "parameters": dict(generator.parameters),
        "llm": generator.model,
    }


class OfflineGenerator:
    """The generator that is no LLM and says so: texts that the caller makes from the data.

    Parameters
    ----------
    method : str
        How the texts are made, e.g. `extractive` or `retrieval`.
    write : callable, optional
        From chats to texts, one for each; None where a feature has no way to be made without an LLM.
    """

    backend = "offline"
    batch_size = 1_000_000_000  # all of them in one call
    concurrency = 1
    cuts_with = None

    def __init__(self, method: str, write: Callable[[Sequence[Chat]], Sequence[str]] | None = None) -> None:
        self.model = method
        self.parameters: dict[str, Any] = {}
        self._write = write

    @property
    def name(self) -> str:
        return OFFLINE

    def provenance(self) -> dict[str, Any]:
        """As every generator's; `llm` is None."""
        return {"name": OFFLINE, "backend": "offline", "model": self.model, "parameters": {}, "llm": None}

    def generate(self, chats: Sequence[Chat]) -> list[Answer]:
        """The caller's texts.

        Raises
        ------
        FeatureError
            There is no way without an LLM.
        """
        if self._write is None:
            raise FeatureError(
                f"llm_generator is offline, and {self.model} cannot be written without an LLM; set "
                "llm_generator=openai or llm_generator=transformers, and llm_model."
            )
        return [Answer(str(text), 0, 0, "stop") for text in self._write(chats)]

    def count_tokens(self, chat: Chat) -> int:
        """Nothing is sent to a model."""
        return 0
