"""What a run of requests would ask and cost; nothing is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recbole_cdsr.llm.generator import ChatRequest, OfflineGenerator, TextGenerator
from recbole_cdsr.llm.request_limits import Prices, RequestLimits
from recbole_cdsr.llm.request_runner import chat_entries
from recbole_cdsr.llm.response_cache import CacheEntry, ResponseCache
from recbole_cdsr.llm.tokens import TokenCounter, longest_answer


@dataclass(frozen=True)
class RequestPlan:
    """What `run_requests` would do.

    Attributes
    ----------
    name : str
        Who would be asked.
    total, distinct : int
        Requests handed in; different ones among them.
    known, not_in_shard, missing : int
        Of the different ones: in the cache, another shard's, to be asked.
    in_batch_files : int
        Of the missing ones: exported to a batch file whose results have not been imported.
    prompt_tokens : int
        Of the missing ones.
    estimated : bool
        Whether `prompt_tokens` is an estimate, for want of the model's tokenizer.
    usual_completion_tokens : int or None
        Of the missing ones, if they are as long as those that the cache holds; None when it holds none.
    most_completion_tokens : int
        If every answer is as long as it may be.
    prices : Prices or None
        None reckons no costs.
    bounded : bool
        Whether the requests say how long an answer may be; else `most_completion_tokens` supposes it.
    """

    name: str
    total: int
    distinct: int
    known: int
    not_in_shard: int
    missing: int
    in_batch_files: int
    prompt_tokens: int
    estimated: bool
    usual_completion_tokens: int | None
    most_completion_tokens: int
    prices: Prices | None
    bounded: bool = True

    @property
    def most_cost(self) -> float | None:
        """If every answer is as long as it may be; None without prices."""
        return None if self.prices is None else self.prices.cost(self.prompt_tokens, self.most_completion_tokens)

    @property
    def usual_cost(self) -> float | None:
        """If answers are as long as those the cache holds; None without prices or without such answers."""
        if self.prices is None or self.usual_completion_tokens is None:
            return None
        return self.prices.cost(self.prompt_tokens, self.usual_completion_tokens)

    def describe(self) -> str:
        """Some lines for people."""
        elsewhere = f", {self.not_in_shard:,} in other shards" if self.not_in_shard else ""
        waiting = f" ({self.in_batch_files:,} of them stand in a batch file)" if self.in_batch_files else ""
        how = "estimated, for want of the model's tokenizer (llm_tokenizer)" if self.estimated else "counted"
        usual = (
            "" if self.usual_completion_tokens is None else f", {self.usual_completion_tokens:,} if as long as before"
        )
        unbounded = "" if self.bounded else ", if none is longer than llm_max_new_tokens, which the requests do not say"
        lines = [
            f"{self.name}: {self.total:,} requests, {self.distinct:,} different: {self.known:,} known{elsewhere}, "
            f"{self.missing:,} to ask{waiting}",
            f"  prompts: {self.prompt_tokens:,} tokens ({how})",
            f"  answers: at most {self.most_completion_tokens:,} tokens{usual}{unbounded}",
        ]
        if self.most_cost is None:
            lines.append("  cost: set llm_price_prompt and llm_price_completion (per million tokens) to see it")
        else:
            usual = "" if self.usual_cost is None else f", {self.usual_cost:.4f} if answers are as long as before"
            lines.append(f"  cost: at most {self.most_cost:.4f}{usual}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.describe()


def plan_requests(
    generator: TextGenerator,
    requests: Sequence[ChatRequest],
    cache: ResponseCache,
    limits: RequestLimits | None = None,
) -> RequestPlan:
    """Say what `run_requests` with the same arguments would ask and cost.

    Parameters
    ----------
    generator, requests, limits
        As there.
    cache
        May be read-only.

    Returns
    -------
    RequestPlan
    """
    limits = limits or RequestLimits()
    if isinstance(generator, OfflineGenerator):
        count = len(requests)
        return RequestPlan(generator.name, count, count, count, 0, 0, 0, 0, False, None, 0, limits.prices)
    counter = TokenCounter(generator.count_tokens)
    longest = longest_answer(generator.parameters)
    versions = sorted({request.prompt_version for request in requests})
    plan = plan_entries(
        generator.name,
        chat_entries(generator, requests),
        cache,
        limits,
        counter,
        limits.max_completion_tokens if longest is None else longest,
        versions,
    )
    return replace(plan, bounded=longest is not None)


def plan_entries(
    name: str,
    entries: Sequence[CacheEntry],
    cache: ResponseCache,
    limits: RequestLimits,
    counter: TokenCounter,
    longest_answer: int,
    prompt_versions: Sequence[str],
) -> RequestPlan:
    """What `plan_requests` does, for anything that can be asked.

    Parameters
    ----------
    name
        Who would be asked.
    entries
        As `ask_all` takes them.
    cache, limits
        As `plan_requests`.
    counter
        Counts prompts.
    longest_answer
        Tokens of an answer at most.
    prompt_versions
        Whose kept answers say how long answers are.
    """
    distinct = {entry.key: entry for entry in entries}
    kept = cache.get(list(distinct))
    known = {key for key, answer in kept.items() if not limits.ask_again & answer.kinds}
    absent = [entry for key, entry in distinct.items() if key not in known]
    missing = [entry for entry in absent if limits.shard is None or limits.shard.holds(entry.key)]
    usual = None
    if entries and longest_answer:
        mean = cache.mean_completion_tokens(entries[0].backend, entries[0].model, prompt_versions)
        usual = None if mean is None else round(mean * len(missing))
    prompt_tokens = sum(counter.count(entry.content) for entry in missing)
    return RequestPlan(
        name=name,
        total=len(entries),
        distinct=len(distinct),
        known=len(known),
        not_in_shard=len(absent) - len(missing),
        missing=len(missing),
        in_batch_files=len(cache.waiting([entry.key for entry in missing])),
        prompt_tokens=prompt_tokens,
        estimated=counter.estimates,
        usual_completion_tokens=usual,
        most_completion_tokens=longest_answer * len(missing),
        prices=limits.prices,
    )
