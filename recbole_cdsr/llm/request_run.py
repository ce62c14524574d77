"""One run of requests: what is claimed, asked, kept and given up, until nothing is left or the run has to end."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from recbole_cdsr.errors import CDSRError, FeatureError
from recbole_cdsr.interrupts import interruption
from recbole_cdsr.llm.generator import Answer, spoken
from recbole_cdsr.llm.request_limits import RequestLimits
from recbole_cdsr.llm.request_patience import Patience, length_of
from recbole_cdsr.llm.request_report import RequestReport
from recbole_cdsr.llm.request_workers import Result, Task, WorkerPool
from recbole_cdsr.llm.response_cache import CacheEntry, GivenUp, ResponseCache
from recbole_cdsr.llm.spending import current_spending
from recbole_cdsr.llm.tokens import estimated_tokens

_LOOK_AT_OTHERS_SECONDS = 0.3


class BudgetReachedError(FeatureError):
    """The run has spent what it may; what was answered is kept."""


@dataclass(frozen=True)
class Asker:
    """Whatever answers the contents of cache entries: a generator, an embeddings service.

    Attributes
    ----------
    name : str
        For the log.
    ask : callable
        From contents to one answer each.
    batch_size, concurrency : int
        Contents in one call, calls at once.
    most_tokens : callable
        The tokens one entry takes at most: of its prompt, and of its answer.
    """

    name: str
    ask: Callable[[Sequence[Any]], list[Answer]]
    batch_size: int
    concurrency: int
    most_tokens: Callable[[CacheEntry], tuple[int, int]]


class Run:
    """One run of `ask_all`."""

    def __init__(
        self, asker: Asker, distinct: dict[str, CacheEntry], cache: ResponseCache, limits: RequestLimits
    ) -> None:
        self.asker, self.cache, self.limits = asker, cache, limits
        self.report = RequestReport(cost=None if limits.prices is None else 0.0)
        self.started = time.perf_counter()
        self.answers: dict[str, Answer] = {}
        self._former: dict[str, Answer] = {}  # asked again, and kept unless a new one comes
        self._entries = distinct
        self._spending = current_spending()
        self._reserved = 0.0
        self._ready: deque[Task] = deque()  # claimed by this run, not handed to a thread yet
        self._urgent: deque[Task] = deque()  # likewise, and to be handed out before these
        self._others: list[CacheEntry] = []  # claimed by another run
        self._unstored: list[tuple[CacheEntry, Answer]] = []
        self._fault: BaseException | None = None
        missing = self._look_up()
        # Long ones first: a local model that has not the memory for them says so at once.
        if asker.batch_size > 1:
            missing.sort(key=length_of, reverse=True)
        self._patience = Patience(missing, asker.batch_size)
        self._shortest_are_first = False
        if self.report.cached:  # the very same service has answered before
            self._patience.note(True)
        self._pending = deque(missing)

    def _look_up(self) -> list[CacheEntry]:
        """Take what the cache has; the entries it lacks, in order."""
        again = self.limits.ask_again
        shard = self.limits.shard
        missing = []
        known = self.cache.get(list(self._entries))
        for key, entry in self._entries.items():
            answer = known.get(key)
            elsewhere = shard is not None and not shard.holds(key)
            if answer is not None and (elsewhere or not again & answer.kinds):
                self._take(key, answer)
            elif elsewhere:
                self.report.not_in_shard += 1
                self.answers[key] = Answer(None, error=f"not in shard {shard}")
            else:
                missing.append(entry)
                if answer is not None:
                    self._former[key] = answer
        self._outdated = self.cache.dates(list(self._former))
        waiting = self.cache.waiting([entry.key for entry in missing])
        if waiting:
            logging.getLogger().warning(
                f"{len(waiting):,} of the requests stand in a batch file whose results have not been imported, and "
                "are asked (and paid for) now all the same."
            )
        return missing

    def _take(self, key: str, answer: Answer) -> None:
        answer = spoken(answer)
        self.answers[key] = answer
        self.report.judge(answer)
        if answer.cached:
            self.report.cached += 1

    def go(self, interrupts: list[int]) -> None:
        if not self._pending:
            return
        log = logging.getLogger()
        log.info(
            f"{self.asker.name}: asking {len(self._pending):,} of {self.report.distinct:,} requests, "
            f"{self.asker.concurrency} at once …"
        )
        pool = WorkerPool(self.asker.ask, self.asker.concurrency, self.limits)
        bar = tqdm(
            total=self.report.distinct - self.report.not_in_shard,
            initial=self.report.cached,
            desc=self.asker.name[-40:],
            unit=" requests",
            disable=not self.limits.show_progress,
        )
        stopping = False
        try:
            while True:
                if not stopping:
                    with self._noting_faults():
                        self._feed(pool)
                    if self._fault or interrupts:
                        stopping = True
                        self._stop(pool, bool(interrupts))
                if pool.outstanding:
                    self._handle(pool, pool.results(0.2))
                elif stopping or not (self._pending or self._ready or self._urgent or self._others):
                    break
                elif not (self._pending or self._ready or self._urgent):
                    self._look_at_others()
                bar.update(self.report.cached + self.report.asked - bar.n)
                with self._noting_faults():
                    self.cache.renew()
            self._store([])  # what could not be stored before
        finally:
            bar.close()
            pool.close()
            self._leave()
        if self._fault is not None:
            raise self._fault
        if interrupts:
            raise interruption(interrupts[0])
        if self.report.given_up and not self.report.asked and not self.report.cached:
            raise FeatureError(f"{self.asker.name} answered none of the requests: {self.report.describe_given_up(1)}")

    @contextmanager
    def _noting_faults(self) -> Iterator[None]:
        """A fault of the cache stops the asking, and the answers on their way are waited for all the same."""
        try:
            yield
        except CDSRError as error:
            self._fault = self._fault or error

    def _feed(self, pool: WorkerPool) -> None:
        """Hand as much to the threads as they can take, and one more for each."""
        while pool.outstanding < 2 * self.asker.concurrency:
            if self._patience.in_doubt and pool.outstanding and not self._urgent:
                return  # what is on its way tells whether there is any use in asking more
            if not self._ready and not self._urgent and not self._claim():
                return
            queue = self._urgent or self._ready
            task = queue[0]
            if self.limits.max_cost is not None and self._spent() + self._reserved + task.most > self.limits.max_cost:
                if not pool.outstanding:
                    ready = sum(len(task.entries) for task in (*self._urgent, *self._ready))
                    left = ready + len(self._pending) + len(self._others)
                    own = self.report.cost or 0.0
                    before = "" if self._spent() == own else f" (and {self._spent() - own:.4f} by the steps before)"
                    self._fault = BudgetReachedError(
                        f"The next request could exceed llm_max_cost={self.limits.max_cost:g}: {own:.4f} was spent on "
                        f"{self.report.asked:,} answers, which are kept{before}, {left:,} requests are left; run the "
                        "same command again to spend as much once more, or raise llm_max_cost."
                    )
                return  # what is on its way may turn out to be cheaper
            queue.popleft()
            self._reserved += task.most
            pool.submit(task)

    def _claim(self) -> bool:
        """Claim the next requests that no other run is asking; False when none are left."""
        size = self.asker.batch_size
        while self._pending:
            chunk = [self._pending.popleft() for _ in range(min(len(self._pending), size * self.asker.concurrency))]
            mine = self._claimed(chunk)
            self._ready.extend(self._task(mine[start : start + size]) for start in range(0, len(mine), size))
            if mine:
                return True
        return False

    def _claimed(self, chunk: list[CacheEntry]) -> list[CacheEntry]:
        """Those of the requests that are this run's to ask now; the others' answers are taken or waited for."""
        mine, others = self.cache.claim([entry.key for entry in chunk], self._outdated)
        self._others += [self._entries[key] for key in others]
        answered = {entry.key for entry in chunk}.difference(mine, others)
        for key, answer in self.cache.get(list(answered)).items():
            self._take(key, answer)
        return [self._entries[key] for key in mine]

    def _task(self, entries: list[CacheEntry], part: bool = False) -> Task:
        prices = self.limits.prices
        if prices is None or self.limits.max_cost is None:
            return Task(entries, part=part)
        return Task(entries, sum(prices.cost(*self.asker.most_tokens(entry)) for entry in entries), part)

    def _spent(self) -> float:
        """By this run and by whatever the same command asked before it."""
        return self._spending.spent

    def _look_at_others(self) -> None:
        """See whether another run has answered what it claimed, has given it up, or is gone."""
        time.sleep(_LOOK_AT_OTHERS_SECONDS)
        self._pending.extend(self._others)
        self._others.clear()

    def _handle(self, pool: WorkerPool, results: list[Result]) -> None:
        arrived: list[tuple[CacheEntry, Answer]] = []
        given_up: list[GivenUp] = []
        in_vain: list[str] = []  # why, of each call
        refused: list[str] = []  # likewise, or of each request where only some of a call are refused
        for result in results:
            self._reserved -= result.task.most
            self.report.retries += result.retries
            if result.answers is not None:
                self.report.calls += 1
                without = self._sort_answers(result, arrived)
                given_up += without
                refused += [entry.reason for entry in without if entry.refused]
                if len(without) == len(result.task.entries) and not without[0].refused:
                    in_vain.append(without[0].reason)
            elif result.fault is not None:
                self._fault = self._fault or result.fault
            elif result.given_up is not None:
                (refused if result.refused else in_vain).append(result.given_up)
                if len(result.task.entries) > 1:
                    self._divide(result.task)
                else:
                    (entry,) = result.task.entries
                    given_up.append(GivenUp(entry.key, entry.label, result.given_up, result.refused))
        self._store(arrived)
        for result in results:
            result.stored.set()
        self._give_up(given_up)
        hopeless = self._patience.note(bool(arrived), in_vain, refused, [entry.key for entry in given_up])
        if hopeless is not None and self._fault is None:
            self._fault = FeatureError(
                f"{self.asker.name}: {hopeless}; see to that and run the same command again, what was answered is kept."
            )
        if self._patience.in_doubt and not self._shortest_are_first and self._fault is None:
            self._shortest_are_first = True
            with self._noting_faults():
                self._shortest_first()

    def _sort_answers(self, result: Result, arrived: list[tuple[CacheEntry, Answer]]) -> list[GivenUp]:
        """Add the answers of a call to `arrived`; what has none in spite of it."""
        without = []
        for entry, answer in zip(result.task.entries, result.answers or [], strict=True):
            if answer.answered:
                arrived.append((entry, answer))
            else:
                # No text is to blame for a vector that is none.
                refused = not isinstance(entry.content, str)
                without.append(GivenUp(entry.key, entry.label, answer.error or "no answer", refused))
        return without

    def _divide(self, task: Task) -> None:
        """One of several requests in a call may spoil it: ask them in halves, until it stands alone.

        That comes before all that is left, so that it is known early. Where all was refused so far, the shortest
        requests tell more: each of them is asked alone at once.
        """
        shortest = self._patience.shortest if self._patience.in_doubt else ()
        self._urgent.extend(self._task([entry]) for entry in task.entries if entry.key in shortest)
        rest = [entry for entry in task.entries if entry.key not in shortest]
        half = len(rest) // 2
        self._ready.extendleft(self._task(part, part=True) for part in (rest[half:], rest[:half]) if part)

    def _shortest_first(self) -> None:
        """Ask the shortest requests at once, each alone; those on their way follow when their call is divided."""
        shortest = self._patience.shortest
        tasks = list(self._ready)
        self._ready.clear()
        for task in reversed(tasks):
            if any(entry.key in shortest for entry in task.entries):
                self._divide(task)
            else:
                self._ready.appendleft(task)
        waiting = sorted(self._pending, key=length_of)
        own = shortest.difference(entry.key for entry in (*waiting, *self._others))
        alone: list[CacheEntry] = []
        while waiting and (wanted := len(shortest) - len(own) - len(alone)):
            alone += self._claimed(waiting[:wanted])  # of what another run asks the next shortest takes the place
            del waiting[:wanted]
        self._urgent.extend(self._task([entry]) for entry in alone)
        self._patience.judge_by([*own, *(entry.key for entry in alone)])
        left = {entry.key for entry in waiting}
        self._pending = deque(entry for entry in self._pending if entry.key in left)

    def _store(self, arrived: list[tuple[CacheEntry, Answer]]) -> None:
        arrived = self._unstored + arrived
        if not arrived:
            return
        try:
            self.cache.store(arrived, replacing=self._former)
        except FeatureError as error:
            # Nothing more is asked; once more is tried when the answers on their way are there.
            lost = f"{len(arrived):,} answers that were paid for are not in it"
            self._fault = FeatureError(f"{str(error).rstrip('.')}; {lost}.")
            self._unstored = arrived
            return
        self._unstored = []
        for entry, answer in arrived:
            self._count(entry, answer)

    def _count(self, entry: CacheEntry, answer: Answer) -> None:
        report = self.report
        self._take(entry.key, answer)
        report.asked += 1
        prompt, completion = answer.prompt_tokens, answer.completion_tokens
        if prompt is None or completion is None:
            report.estimated_tokens = True
            prompt = self.asker.most_tokens(entry)[0] if prompt is None else prompt
            completion = estimated_tokens(answer.text or "") if completion is None else completion
        report.prompt_tokens += prompt
        report.completion_tokens += completion
        if self.limits.prices is not None:
            cost = self.limits.prices.cost(prompt, completion)
            report.cost = (report.cost or 0.0) + cost
            self._spending.spent += cost

    def _give_up(self, given_up: list[GivenUp]) -> None:
        if not given_up:
            return
        known = [entry.key for entry in given_up if entry.key in self._former]
        open_still = [entry for entry in given_up if entry.key not in self._former]
        for key in known:
            self._take(key, self._former[key])
        for entry in open_still:
            self.answers[entry.key] = Answer(None, error=f"given up: {entry.reason}")
        self.report.in_vain += len(known)
        self.report.given_up += open_still
        with self._noting_faults():
            if known:
                self.cache.release(known)
            if open_still:
                self.cache.give_up(open_still)

    def _stop(self, pool: WorkerPool, interrupted: bool) -> None:
        pool.stop_asking()
        if interrupted and pool.outstanding:
            text = f"Interrupted: waiting for {pool.outstanding} answers on their way; once more (Ctrl-C) leaves them."
            logging.getLogger().warning(text)

    def _leave(self) -> None:
        """Give claims back, unless the cache itself is the trouble."""
        try:
            self.cache.release()
            self.cache.checkpoint()
        except CDSRError:
            if self._fault is None and sys.exc_info()[0] is None:
                raise
