"""A text encoder behind an OpenAI-compatible `/v1/embeddings`; its vectors are paid for, and so kept like answers."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.batch_files import EMBEDDINGS_URL, BatchExport, export_entries
from recbole_cdsr.llm.generator import Answer, content_key
from recbole_cdsr.llm.kept_vectors import KeptVectors
from recbole_cdsr.llm.openai_answers import MalformedAnswerError, embedding_answers
from recbole_cdsr.llm.openai_endpoint import OpenAIEndpoint
from recbole_cdsr.llm.request_limits import RequestLimits
from recbole_cdsr.llm.request_plan import RequestPlan, plan_entries
from recbole_cdsr.llm.request_runner import Asker, ask_all
from recbole_cdsr.llm.response_cache import CacheEntry, ResponseCache
from recbole_cdsr.llm.tokens import TokenCounter

BACKEND = "openai"
_NO_PROMPT = "none"


def service_encoder_name(model: str, dimensions: int | None) -> str:
    """The name that features made with such an encoder are filed under."""
    return model if dimensions is None else f"{model}:{dimensions}"


class OpenAIEncoder:
    """A `TextEncoder` of an OpenAI-compatible service.

    Parameters
    ----------
    model : str
        The service's name of it.
    cache_file : path
        The response cache that vectors are kept in.
    base_url, api_key_env, timeout
        As `OpenAIEndpoint` takes them.
    dimensions : int, optional
        The width to ask for; None takes the model's own.
    batch_size : int
        Texts per request.
    concurrency : int
        Requests at once.
    limits : RequestLimits, optional
        Attempts, prices, the most to spend.
    asks : bool
        Whether it is to encode at all; if not, as in a plan, no key is needed.

    Raises
    ------
    FeatureError
        The client is not installed, or there is no key.

    Notes
    -----
    A text of blanks is not sent, for services refuse it; its vector is zero.
    """

    def __init__(
        self,
        model: str,
        *,
        cache_file: str | os.PathLike[str],
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        dimensions: int | None = None,
        batch_size: int = 128,
        concurrency: int = 16,
        timeout: float = 120.0,
        limits: RequestLimits | None = None,
        asks: bool = True,
    ) -> None:
        self.model, self.dimensions = model, dimensions
        self.cache_file, self.batch_size, self.concurrency = cache_file, batch_size, concurrency
        self.limits = limits or RequestLimits()
        self.parameters: dict[str, Any] = {"endpoint": "embeddings"}
        if dimensions is not None:
            self.parameters["dimensions"] = dimensions
        self.endpoint = OpenAIEndpoint(base_url, api_key_env, timeout, asks=asks, url_key="llm_encoder_base_url")
        self._width = dimensions
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return service_encoder_name(self.model, self.dimensions)

    @property
    def dim(self) -> int:
        """The width of its vectors; of a service that was never asked, one word is."""
        if self._width is None:
            self.encode(["width"])
        return int(self._width or 0)

    def provenance(self) -> dict[str, Any]:
        """`name`, `backend`, `model`, `dimensions`, the service's `address`; `revision`, `weights_sha256` are None."""
        return {
            "name": self.name,
            "backend": BACKEND,
            "model": self.model,
            "dimensions": self.dimensions,
            "address": self.endpoint.address,
            "revision": None,
            "weights_sha256": None,
        }

    def encode(self, texts: Sequence[str], show_progress: bool = False, kept: KeptVectors | None = None) -> np.ndarray:
        """Encode texts: those the cache has not are asked, equal ones once.

        Parameters
        ----------
        texts : sequence of str
            In any order.
        show_progress : bool
            Whether to draw a progress bar.
        kept
            Not used: the response cache keeps every vector.

        Returns
        -------
        np.ndarray
            float32 `[len(texts), dim]`.

        Raises
        ------
        FeatureError
            Some texts have no vector: the service did not answer, or with NaN or vectors of another width. What it did
            answer is kept. Else as `run_requests`.
        """
        if not len(texts):
            return np.zeros((0, self.dim), dtype=np.float32)
        text_of, unique = pd.factorize(np.asarray(texts, dtype=object))  # [n], [u]
        written = [place for place, text in enumerate(unique) if text.strip()]
        entries = self._entries([unique[place] for place in written])
        with ResponseCache(self.cache_file) as cache:
            self._learn_width(cache, entries)
            asker = Asker(
                self.name,
                self._ask,
                self.batch_size,
                self.concurrency,
                most_tokens=lambda entry: (TokenCounter().count(entry.content), 0),
            )
            outcome = ask_all(asker, entries, cache, replace(self.limits, show_progress=show_progress))
        if not outcome.report.complete:
            unanswered = len(entries) - outcome.report.cached - outcome.report.asked
            why = outcome.report.describe_given_up(1) if outcome.report.given_up else "Another shard asks for them."
            raise FeatureError(f"{unanswered:,} of {len(entries):,} texts have no vector of {self.name}. {why}")
        vectors = np.zeros((len(unique), self.dim if written else self._width or 0), dtype=np.float32)  # [u, D]
        for place, answer in zip(written, outcome.answers, strict=True):
            vectors[place] = answer.vector
        return vectors if len(unique) == len(texts) else vectors[text_of]  # [n, D]

    def plan(self, texts: Sequence[str], cache: ResponseCache) -> RequestPlan:
        """What `encode` would ask and cost; tokens are estimated."""
        entries = self._entries([text for text in dict.fromkeys(texts) if text.strip()])
        return plan_entries(self.name, entries, cache, self.limits, TokenCounter(), 0, [_NO_PROMPT])

    def export_batch(self, path: str | os.PathLike[str], texts: Sequence[str], cache: ResponseCache) -> BatchExport:
        """Write the texts that have no vector yet as a Batch API file; `import_batch` takes the results."""
        entries = self._entries([text for text in dict.fromkeys(texts) if text.strip()])
        return export_entries(
            path, entries, EMBEDDINGS_URL, lambda text: {"model": self.model, **self._body(text)}, cache, self.limits
        )

    def _entries(self, texts: Sequence[str]) -> list[CacheEntry]:
        return [
            CacheEntry(
                content_key(BACKEND, self.model, self.parameters, _NO_PROMPT, text),
                BACKEND,
                self.model,
                self.parameters,
                _NO_PROMPT,
                text,
                label=repr(text[:40]),
            )
            for text in texts
        ]

    def _body(self, content: str | list[str]) -> dict[str, Any]:
        width = {} if self.dimensions is None else {"dimensions": self.dimensions}
        return {"input": content, **width}

    def _ask(self, texts: Sequence[str]) -> list[Answer]:
        body = self.endpoint.embeddings(self.model, self._body(list(texts)))
        try:
            answers = embedding_answers(body, len(texts))
        except MalformedAnswerError as error:
            raise self.endpoint.malformed(error) from None
        return [self._of_known_width(answer) for answer in answers]

    def _of_known_width(self, answer: Answer) -> Answer:
        if answer.vector is None:
            return answer
        with self._lock:
            if self._width is None:
                self._width = len(answer.vector)
        if len(answer.vector) == self._width:
            return answer
        return Answer(None, error=f"a vector of width {len(answer.vector)} instead of {self._width}")

    def _learn_width(self, cache: ResponseCache, entries: Sequence[CacheEntry]) -> None:
        """Vectors that come have to be as wide as those that are kept."""
        known = cache.get([entry.key for entry in entries])
        widths = {len(answer.vector) for answer in known.values() if answer.vector is not None}
        if self._width is not None:
            widths.add(self._width)
        if len(widths) > 1:
            raise FeatureError(
                f"The response cache {cache.path} holds vectors of {self.name} of widths "
                f"{', '.join(map(str, sorted(widths)))}; the model behind that name has changed: set llm_cache_file to "
                "another file."
            )
        self._width = next(iter(widths), None)
