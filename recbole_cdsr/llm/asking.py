"""How features ask their questions: for real, as a plan that costs nothing, or into a batch file.

A feature may ask in several steps, each made of the answers of the one before. `Asking.ask` is the same call in
every mode, so that a plan counts exactly the requests that a run would send.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.generator import Answer, ChatRequest, OfflineGenerator, TextGenerator, request_key
from recbole_cdsr.llm.generator_settings import GeneratorSettings
from recbole_cdsr.llm.request_limits import RequestLimits, Shard
from recbole_cdsr.llm.request_report import RequestReport
from recbole_cdsr.llm.request_runner import run_requests
from recbole_cdsr.llm.response_cache import ResponseCache
from recbole_cdsr.llm.spending import spent_together
from recbole_cdsr.llm.tokens import TokenCounter

if TYPE_CHECKING:
    from recbole_cdsr.llm.request_plan import RequestPlan


class StepNotAnsweredError(Exception):
    """A step's requests went into a batch file; the next step is made of their answers."""


@dataclass
class Step:
    """What came of one step: a report after asking, a plan before; what was given up, where neither says it.

    With a batch file, the files that its requests were written to.
    """

    name: str
    requests: int
    report: RequestReport | None = None
    plan: RequestPlan | None = None
    stands_on_guesses: bool = False
    given_up: int = 0
    files: tuple[Path, ...] = ()


@dataclass
class Asking:
    """Asks a generator for one feature.

    Attributes
    ----------
    generator, cache, limits
        As `run_requests` takes them; `limits.shard` is not used, for a user's questions belong together.
    shard : Shard or None
        Ask for this part of the users only.
    plan_only : bool
        Count and ask nothing; what the cache lacks is answered with words as long as the prompt allows, so that
        the steps after it can be counted too.
    batch_file : Path or None
        Write what the cache lacks there instead of asking.
    steps : list of Step
        What was asked so far.
    """

    generator: TextGenerator
    cache: ResponseCache
    limits: RequestLimits
    shard: Shard | None = None
    plan_only: bool = False
    batch_file: Path | None = None
    steps: list[Step] = field(default_factory=list)

    def ask(self, name: str, requests: Sequence[ChatRequest], guess_words: int = 100) -> list[Answer]:
        """Answers to one step's requests, in their order.

        Parameters
        ----------
        name : str
            Of the step, for the log.
        requests : sequence of ChatRequest
            Their labels are user tokens.
        guess_words : int
            How long an answer is taken to be in a plan.

        Raises
        ------
        StepNotAnsweredError
            With a batch file, when the step has requests that may still be answered: they are in the file, and with
            them those that were refused.
        FeatureError
            As `run_requests`.
        """
        mine = [request for request in requests if self.holds(request.label)]
        if self.plan_only:
            answers = self._planned(name, mine, guess_words)
        elif self.batch_file is not None:
            answers = self._exported(name, mine)
        else:
            logging.getLogger().info(f"{name}:")
            outcome = run_requests(self.generator, mine, self.cache, self.limits)
            self.steps.append(Step(name, len(mine), report=outcome.report))
            answers = outcome.answers
        if len(mine) == len(requests):
            return answers
        given = iter(answers)
        elsewhere = Answer(None, error=f"not in shard {self.shard}")
        return [next(given) if self.holds(request.label) else elsewhere for request in requests]

    def holds(self, user: str) -> bool:
        """Whether a user is this shard's; all of a user's questions are the same shard's, in every step."""
        return self.shard is None or self.shard.holds(hashlib.sha256(user.encode("utf-8", "replace")).hexdigest())

    def cutting_counter(self) -> TokenCounter:
        """What histories are cut with: the same on every machine, for prompts are part of cache keys.

        A service's model may or may not have its tokenizer on this machine, so that it counts only if the settings name
        it; a model that is to write here has its own.
        """
        return TokenCounter(self.generator.count_tokens if self.generator.cuts_with is not None else None)

    @property
    def given_up(self) -> int:
        """Requests without an answer so far, which the next run asks again."""
        asked = sum(len(step.report.given_up) for step in self.steps if step.report is not None)
        return asked + sum(step.given_up for step in self.steps)

    @property
    def kinds(self) -> dict[str, int]:
        """How many answers of each kind that `llm_ask_again` names all steps have together."""
        reports = [step.report for step in self.steps if step.report is not None]
        return {kind: sum(getattr(report, kind) for report in reports) for kind in ("empty", "truncated", "refused")}

    def _planned(self, name: str, requests: Sequence[ChatRequest], guess_words: int) -> list[Answer]:
        from recbole_cdsr.llm.request_plan import plan_requests

        plan = plan_requests(self.generator, requests, self.cache, self.limits)
        guessed = any(step.plan is not None and step.plan.missing for step in self.steps)
        self.steps.append(Step(name, len(requests), plan=plan, stands_on_guesses=guessed))
        # Different requests get different guesses: equal ones would make equal questions of the next step, asked once.
        return [
            Answer(" ".join(["word"] * (guess_words - 1) + [request_key(self.generator, request)[:12]]))
            if answer is None
            else answer
            for request, answer in zip(requests, self._known(requests), strict=True)
        ]

    def _exported(self, name: str, requests: Sequence[ChatRequest]) -> list[Answer]:
        from recbole_cdsr.llm.batch_files import export_batch

        known = self._known(requests)
        missing = [request_key(self.generator, requests[place]) for place, of in enumerate(known) if of is None]
        refused = self.cache.unanswerable(missing)  # as a run does, the next step goes on without them
        if not refused.keys() >= set(missing):
            exported = export_batch(self.batch_file, self.generator, requests, self.cache, self.limits)
            self.steps.append(Step(name, exported.requests, files=exported.files))
            raise StepNotAnsweredError
        self.steps.append(Step(name, len(requests), given_up=len(refused)))
        reasons = iter(missing)
        return [Answer(None, error=f"given up: {refused[next(reasons)]}") if of is None else of for of in known]

    def _known(self, requests: Sequence[ChatRequest]) -> list[Answer | None]:
        if isinstance(self.generator, OfflineGenerator):
            return list(self.generator.generate([request.chat for request in requests]))
        keys = [request_key(self.generator, request) for request in requests]
        again = self.limits.ask_again
        known = {key: answer for key, answer in self.cache.get(keys).items() if not again & answer.kinds}
        return [known.get(key) for key in keys]


@contextmanager
def asking_for(
    settings: GeneratorSettings,
    feature: str,
    shard: Shard | None = None,
    plan_only: bool = False,
    batch_file: Path | None = None,
) -> Iterator[Asking]:
    """The configured generator with the dataset's cache open.

    Parameters
    ----------
    settings : GeneratorSettings
        Of the run.
    feature : str
        What is asked for, named in messages, e.g. `profiles`.
    shard, plan_only, batch_file
        As in `Asking`.

    Raises
    ------
    ConfigError
        No LLM is configured, or no model is named.
    FeatureError
        The generator cannot be used, or the cache not be opened.
    """
    settings.check_can_write(feature)
    generator = settings.text_generator(feature, asks=not plan_only and batch_file is None)
    with settings.open_cache() as cache, spent_together():
        yield Asking(generator, cache, settings.limits(), shard, plan_only, batch_file)


def identity(settings: GeneratorSettings) -> dict[str, Any]:
    """Who is configured to write, for comparing feature sets: known without a key, a service or a model's files."""
    named = settings.generator == "openai" and settings.tokenizer is not None
    return {
        "backend": settings.generator,
        "model": settings.model,
        "max_new_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "extra_parameters": settings.extra_parameters,
        **({"tokenizer": settings.tokenizer} if named else {}),  # which cuts the histories
    }


def weights_at_hand(settings: GeneratorSettings) -> dict[str, Any]:
    """What else a set must say of a local model: its revision or hashes, where its files are here, and its numbers.

    They are told as in the generator's provenance, which every set has; a folder's name says nothing of its content.
    """
    if settings.generator != "transformers" or settings.model is None:
        return {}
    from recbole_cdsr.llm.local_models import locate_model

    parameters = {} if settings.dtype == "auto" else {"dtype": settings.dtype}
    with suppress(FeatureError):  # not here: whether that is a mistake is said when it is to write
        model = locate_model("llm_model", settings.model, download=False).identity()
        parameters |= {name: value for name, value in model.items() if name != "name" and value}
    return {"generator": {"parameters": parameters}} if parameters else {}
