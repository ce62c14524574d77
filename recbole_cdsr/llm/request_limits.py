"""How requests are made: attempts, shards, prices, the most a run may spend."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from recbole_cdsr.errors import ConfigError


@dataclass(frozen=True)
class Prices:
    """Prices per million tokens, in whatever currency the service has."""

    prompt: float
    completion: float

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """The price of so many tokens."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1; a request belongs to one part, whichever machine asks."""

    index: int
    count: int

    def holds(self, key: str) -> bool:
        """Whether the request with this cache key is this part's."""
        return int(key[:16], 16) % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def read_shard(text: str) -> Shard:
    """Read `i/n`, i from 1 to n; `ConfigError` otherwise."""
    matched = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    if matched is None or not 1 <= int(matched[1]) <= int(matched[2]):
        raise ConfigError(f"--shard is {text!r}; it must be i/n with i from 1 to n, such as 1/4.")
    return Shard(int(matched[1]), int(matched[2]))


@dataclass(frozen=True)
class RequestLimits:
    """How `run_requests` goes about it.

    Attributes
    ----------
    max_attempts : int
        Times a request is tried before it is given up until the next run; those at which a rate limit turned it away
        while others were answered are not counted.
    first_wait, longest_wait : float
        Seconds before the second attempt, doubled for each further one up to the longest; a random half of it is
        taken off, so that requests that failed together do not come back together.
    longest_retry_after : float
        Seconds a service may ask to wait; if it asks for more, the run ends with one line.
    shard : Shard or None
        Ask only this part.
    prices : Prices or None
        What tokens cost; None reckons no costs.
    max_cost : float or None
        What the run may spend, together with all else that `spending.spent_together` holds; needs `prices`.
    max_completion_tokens : int
        The longest answer, for the cost a request may have at most, where the request itself does not name one.
    ask_again : frozenset of {"empty", "truncated", "refused"}
        Kinds of kept answers that are asked for again.
    show_progress : bool
        Whether to draw a progress bar.
    """

    max_attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 60.0
    longest_retry_after: float = 900.0
    shard: Shard | None = None
    prices: Prices | None = None
    max_cost: float | None = None
    max_completion_tokens: int = 512
    ask_again: frozenset[str] = field(default_factory=frozenset)
    show_progress: bool = False

    def __post_init__(self) -> None:
        if self.max_cost is not None and self.prices is None:
            raise ConfigError("llm_max_cost needs the prices of tokens: set llm_price_prompt and llm_price_completion.")
