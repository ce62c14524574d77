"""The threads that wait for answers: a bounded number of calls at once, each tried until it is answered or given up."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.generator import Answer, RequestRefusedError, RetryLaterError
from recbole_cdsr.llm.request_limits import RequestLimits
from recbole_cdsr.llm.request_turns import Turns
from recbole_cdsr.llm.response_cache import CacheEntry

# At a rate limit a request's waits are doubled so often and no more while others are answered.
_DOUBLINGS = 3
# It may be turned away so often for each call at once without its being counted: a bound that bad luck does not reach.
_TURNED_AWAY = 20


@dataclass
class Task:
    """The requests of one call.

    Attributes
    ----------
    entries : list of CacheEntry
        What is asked.
    most : float
        What it may cost at most.
    part : bool
        Whether it is part of a call that failed.
    """

    entries: list[CacheEntry]
    most: float = 0.0
    part: bool = False

    def attempts(self, limits: RequestLimits) -> int:
        """Times it is tried: several requests that failed with others once more, for they can be divided again."""
        return 1 if self.part and len(self.entries) > 1 else limits.max_attempts


@dataclass
class Result:
    """What became of a task: one of answers, a reason to give it up, a fault that ends the run; else it was not asked.

    Attributes
    ----------
    refused : bool
        Whether it is given up because one of its requests will never be answered.
    stored : threading.Event
        To be set when the answers are on the disk: only then does the thread ask the next.
    """

    task: Task
    answers: list[Answer] | None = None
    given_up: str | None = None
    refused: bool = False
    fault: BaseException | None = None
    retries: int = 0
    stored: threading.Event = field(default_factory=threading.Event)


class WorkerPool:
    """Threads that ask.

    Parameters
    ----------
    ask : callable
        From the contents of a task to one answer each; may raise as `TextGenerator.generate`.
    concurrency : int
        Calls at once.
    limits : RequestLimits
        Attempts and waits.

    Notes
    -----
    A thread starts on its next task only when the answers of the one before are stored: so that no more than
    `concurrency` calls are ever on their way or not yet on the disk. The threads are daemons: a process that is
    interrupted twice does not wait for a service that hangs.
    """

    def __init__(self, ask: Callable[[Sequence[Any]], list[Answer]], concurrency: int, limits: RequestLimits) -> None:
        self._ask = ask
        self._limits = limits
        self._inbox: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._random = random.Random()  # of its own: the random draws of training are none of its business
        self._turns = Turns()
        self._most_turned_away = _TURNED_AWAY * concurrency
        self._open_at = 0.0  # time.monotonic() before which nobody asks
        self._spread = 0.0  # seconds over which they come back then
        self.outstanding = 0
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(concurrency)]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task) -> None:
        """Hand in a task; its result will be among `results`."""
        self.outstanding += 1
        self._inbox.put(task)

    def results(self, timeout: float) -> list[Result]:
        """Those that have come, waiting up to `timeout` seconds for the first."""
        found: list[Result] = []
        try:
            found.append(self._outbox.get(timeout=timeout))
            while True:
                found.append(self._outbox.get_nowait())
        except queue.Empty:
            self.outstanding -= len(found)
            return found

    def stop_asking(self) -> list[Task]:
        """Ask nothing more; calls on their way still end in `results`. Returns the tasks that no thread had taken."""
        self._stopped.set()
        tasks: list[Task] = []
        while True:
            try:
                task = self._inbox.get_nowait()
            except queue.Empty:
                break
            if task is not None:
                tasks.append(task)
        self.outstanding -= len(tasks)
        return tasks

    def close(self) -> None:
        """Let the threads end."""
        self._stopped.set()
        for _ in self._threads:
            self._inbox.put(None)

    def _work(self) -> None:
        while (task := self._inbox.get()) is not None:
            result = Result(task)
            try:
                with self._turns.trying():
                    self._answer(result)
            except BaseException as error:  # for the thread that started this one to raise
                result.fault = error
            self._outbox.put(result)
            while not result.stored.wait(1.0):
                if self._stopped.is_set():
                    break

    def _answer(self, result: Result) -> None:
        """Ask until there are answers, a reason to give up, or `stop_asking`."""
        entries = result.task.entries
        most = result.task.attempts(self._limits)
        tries = attempts = 0  # an attempt is a try that counts
        before = self._turns.answered  # when the last try began
        while self._may_ask():
            began = self._turns.answered
            try:
                answers = self._ask([entry.content for entry in entries])
            except RequestRefusedError as error:
                result.given_up, result.refused = str(error), True
                return
            except RetryLaterError as error:
                tries, attempts = tries + 1, attempts + 1
                ready_at = time.monotonic() + self._wait(error, min(tries, attempts + _DOUBLINGS))
                if error.rationed and tries <= self._most_turned_away and self._has_a_turn(before, attempts == most):
                    attempts -= 1
                if attempts == most and not self._stopped.is_set():
                    result.given_up = f"{error} (tried {tries} times)" if tries > 1 else str(error)
                    return
                before = began
                result.retries += 1
                if self._stopped.wait(max(0.0, ready_at - time.monotonic())):
                    return
            else:
                if len(answers) != len(entries):
                    raise RuntimeError(f"{len(answers)} answers to {len(entries)} requests")
                if any(answer.answered for answer in answers):
                    self._turns.note_answer()
                result.answers = answers
                return

    def _has_a_turn(self, since: int, last: bool) -> bool:
        """Whether others are answered; before the last attempt is over, those on their way are waited for."""
        return self._turns.answered > since or (last and self._turns.another_is_answered(since, self._stopped))

    def _wait(self, error: RetryLaterError, attempt: int) -> float:
        limits = self._limits
        if error.after is not None and error.after > limits.longest_retry_after:
            raise FeatureError(
                f"The service asks to wait {error.after:,.0f} s ({error}); run the same command again then, what was "
                "answered is kept."
            )
        # The exponent is bounded so that a large number of attempts does not overflow.
        backoff = min(limits.longest_wait, limits.first_wait * 2.0 ** min(attempt - 1, 30))
        least = backoff * self._random.uniform(0.5, 1.0) if error.after is None else error.after
        # Not before it is allowed to, and not all in the same moment.
        spread = min(1.0, 0.1 * least + limits.first_wait)
        if error.everyone:
            self._open_at, self._spread = max(self._open_at, time.monotonic() + least), spread
        return least if error.after is None else least + self._random.uniform(0.0, spread)

    def _may_ask(self) -> bool:
        """Wait as long as everyone has to; False when nothing more is asked."""
        while (ahead := self._open_at - time.monotonic()) > 0:
            if self._stopped.wait(ahead + self._random.uniform(0.0, self._spread)):
                return False
        return not self._stopped.is_set()
