"""Asking many things: what is known is not asked, what is asked is kept, whatever happens in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.interrupts import first_interrupt_noted
from recbole_cdsr.llm.generator import (
    ChatRequest,
    OfflineGenerator,
    TextGenerator,
    request_key,
)
from recbole_cdsr.llm.request_limits import RequestLimits
from recbole_cdsr.llm.request_report import RequestOutcome, RequestReport
from recbole_cdsr.llm.request_run import Asker, BudgetReachedError, Run
from recbole_cdsr.llm.response_cache import CacheEntry, ResponseCache
from recbole_cdsr.llm.tokens import TokenCounter, longest_answer

__all__ = ["Asker", "BudgetReachedError", "ask_all", "chat_entries", "run_requests"]


def run_requests(
    generator: TextGenerator,
    requests: Sequence[ChatRequest],
    cache: ResponseCache,
    limits: RequestLimits | None = None,
) -> RequestOutcome:
    """Answers to all requests: those the cache has, and those that are asked now.

    Each answer is committed to the cache when it arrives. Equal requests are asked once; what another living run is
    asking is waited for. The offline generator's texts are not cached, for they cost nothing.

    Parameters
    ----------
    generator
        Who is asked.
    requests
        What is asked, in any order; large batches of a local model are made of requests of similar length.
    cache
        Of the dataset.
    limits
        See `RequestLimits`.

    Returns
    -------
    RequestOutcome
        One answer for each request, in their order; `Answer.error` says why one has no text.

    Raises
    ------
    ConfigError
        `max_cost` is set, and the generator's parameters do not say how long an answer may be.
    FeatureError
        The service refuses the key or does not know the model; nothing is answered at all; the cache cannot be
        written; `BudgetReachedError` when `max_cost` is reached. What was answered before is kept.
    KeyboardInterrupt
        After Ctrl-C, when the answers on their way have come and are kept; at once after a second one. `SystemExit`
        likewise after SIGTERM.
    """
    limits = limits or RequestLimits()
    if isinstance(generator, OfflineGenerator):
        answers = generator.generate([request.chat for request in requests])
        return RequestOutcome(answers, RequestReport(total=len(requests), distinct=len(requests), asked=len(requests)))
    entries = chat_entries(generator, requests)
    counter = TokenCounter(generator.count_tokens)
    longest = longest_answer(generator.parameters)
    if longest is None and limits.max_cost is not None:
        raise ConfigError(
            f"llm_max_cost is set, but a request to {generator.name} does not say how long its answer may be, so that "
            "nobody knows what it costs at most; name max_tokens or max_completion_tokens in llm_extra_parameters, or "
            "remove llm_max_cost."
        )
    asker = Asker(
        name=generator.name,
        ask=generator.generate,
        batch_size=generator.batch_size,
        concurrency=generator.concurrency,
        most_tokens=lambda entry: (counter.count(entry.content), longest or limits.max_completion_tokens),
    )
    return ask_all(asker, entries, cache, limits)


def chat_entries(generator: TextGenerator, requests: Sequence[ChatRequest]) -> list[CacheEntry]:
    """Requests as the cache files them."""
    return [
        CacheEntry(
            request_key(generator, request),
            generator.backend,
            generator.model,
            generator.parameters,
            request.prompt_version,
            [{"role": str(message["role"]), "content": str(message["content"])} for message in request.chat],
            request.label,
        )
        for request in requests
    ]


def ask_all(asker: Asker, entries: Sequence[CacheEntry], cache: ResponseCache, limits: RequestLimits) -> RequestOutcome:
    """What `run_requests` does, for anything that can be asked."""
    distinct = {entry.key: entry for entry in entries}
    run = Run(asker, distinct, cache, limits)
    run.report.total, run.report.distinct = len(entries), len(distinct)
    try:
        with first_interrupt_noted() as interrupts:
            run.go(interrupts)
    finally:
        run.report.seconds = time.perf_counter() - run.started
        logging.getLogger().info(f"{asker.name}: {run.report.describe()}")
        if run.report.given_up:
            logging.getLogger().warning(run.report.describe_given_up())
    return RequestOutcome([run.answers[entry.key] for entry in entries], run.report)
