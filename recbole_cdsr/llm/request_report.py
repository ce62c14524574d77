"""What came of a run of requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from recbole_cdsr.llm.generator import Answer
from recbole_cdsr.llm.response_cache import GivenUp


def counted(*counts: tuple[int, str]) -> list[str]:
    """Numbers with their words, those that are not 0."""
    return [f"{count:,} {word}" for count, word in counts if count]


@dataclass
class RequestReport:
    """Counts of one run of requests.

    Attributes
    ----------
    total, distinct : int
        Requests handed in; different ones among them.
    not_in_shard : int
        Different ones that another shard asks.
    cached : int
        Answered before.
    asked, calls, retries : int
        Answered now; calls that answered them; calls that had to be repeated.
    empty, truncated, refused : int
        Among all answers, cached or new: blank, cut off at the token limit, withheld by a content filter.
    in_vain : int
        Among the cached: asked again without an answer, so that the former one stays.
    given_up : list of GivenUp
        Not answered; the next run asks them again.
    prompt_tokens, completion_tokens : int
        Of the answers of this run.
    estimated_tokens : bool
        Whether the backend did not count some of them.
    cost : float or None
        Of the answers of this run; None without prices.
    seconds : float
        That asking took.
    """

    total: int = 0
    distinct: int = 0
    not_in_shard: int = 0
    cached: int = 0
    asked: int = 0
    calls: int = 0
    retries: int = 0
    empty: int = 0
    truncated: int = 0
    refused: int = 0
    in_vain: int = 0
    given_up: list[GivenUp] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated_tokens: bool = False
    cost: float | None = None
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every request handed in is answered."""
        return self.cached + self.asked == self.distinct

    def judge(self, answer: Answer) -> None:
        """Count what kind of answer it is."""
        self.refused += answer.refused
        self.truncated += answer.truncated
        self.empty += answer.empty and not answer.refused

    def describe(self) -> str:
        """One or two sentences for the log."""
        parts = [f"{self.cached:,} known", f"{self.asked:,} answered now"]
        parts += counted(
            (self.not_in_shard, "in other shards"),
            (self.empty, "empty"),
            (self.truncated, "cut off at the token limit"),
            (self.refused, "withheld by a content filter"),
            (self.retries, "calls repeated"),
            (self.in_vain, "asked again in vain, whose former answer stays"),
            (len(self.given_up), "given up"),
        )
        text = f"{self.distinct:,} requests: {', '.join(parts)}"
        if self.asked:
            about = "about " if self.estimated_tokens else ""
            text += f"; {about}{self.prompt_tokens:,} + {self.completion_tokens:,} tokens in {self.seconds:.0f} s"
            text += "" if self.cost is None else f", cost {about}{self.cost:.4f}"
        return f"{text}."

    def __str__(self) -> str:
        return self.describe()

    def describe_given_up(self, most: int = 3) -> str:
        """Why requests were given up, and whom the first of each kind was about."""
        by_reason = Counter(entry.reason for entry in self.given_up)
        parts = []
        for reason, count in by_reason.most_common(most):
            labels = [entry.label for entry in self.given_up if entry.reason == reason and entry.label]
            shown = f" ({', '.join(labels[:3])}{', …' if len(labels) > 3 else ''})" if labels else ""
            parts.append(f"{count:,} x {reason}{shown}")
        more = "" if len(by_reason) <= most else f"; and {len(by_reason) - most} more reasons"
        said = f"{'; '.join(parts)}{more}"
        return f"{len(self.given_up):,} requests were given up, and the next run asks them again: {said}."


@dataclass(frozen=True)
class RequestOutcome:
    """Answers in the order of the requests, and what came of asking."""

    answers: list[Answer]
    report: RequestReport
