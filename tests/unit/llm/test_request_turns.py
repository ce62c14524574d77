"""Requests that a rate limit turns away: they wait for their turn as long as others have theirs."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.generator import RetryLaterError
from recbole_cdsr.llm.request_runner import run_requests
from recbole_cdsr.llm.request_turns import Turns

from .questions import QUICK, generator_of, misbehave, questions
from .service import Received, Reply, completion, well_behaved

pytestmark = pytest.mark.usefixtures("key_in_environment")

SOON = {"retry-after-ms": "1"}


def in_order(received: Received, status: int, headers: dict[str, str], answered: list[str]) -> Reply:
    """An answer to the question that is next, and to all others that they come too early."""
    if received.asked != f"q{len(answered)}":
        return Reply({"error": {"message": "slow down"}}, status, headers)
    answered.append(received.asked)
    return Reply(completion("in turn"))


@pytest.mark.parametrize(
    ("status", "headers"), [(429, SOON), (429, {}), (503, SOON)], ids=["429", "429 that does not say when", "503"]
)
def test_nothing_is_given_up_while_the_service_answers_others(service, cache, status, headers):
    """One answer at a time: the last of sixteen that ask at once is turned away far more often than it is tried."""
    answered: list[str] = []
    service.behave = lambda received, nth: in_order(received, status, headers, answered)
    report = run_requests(generator_of(service, concurrency=16), questions(48), cache, QUICK).report
    assert (report.asked, report.given_up) == (48, [])
    assert max(service.times_asked.values()) > QUICK.max_attempts


def test_an_answer_that_takes_long_is_waited_for(service, cache):
    """The service has room for one, and is at work on it all the while the others are turned away."""
    at_work = threading.Lock()

    def behave(received: Received, nth: int) -> Reply:
        if not at_work.acquire(blocking=False):
            return Reply({"error": {"message": "busy"}}, 429, SOON)
        try:
            time.sleep(0.3)
        finally:
            at_work.release()
        return well_behaved(received, nth)

    service.behave = behave
    report = run_requests(generator_of(service, concurrency=6), questions(6), cache, QUICK).report
    assert (report.asked, report.given_up) == (6, [])


@pytest.mark.parametrize("answers", [0, 5])
def test_a_service_that_turns_everybody_away_for_good_ends_the_run(service, cache, answers):
    def behave(received: Received, nth: int) -> Reply:
        if int(received.asked[1:]) < answers:
            return well_behaved(received, nth)
        return Reply({"error": {"message": "slow down"}}, 429, SOON)

    service.behave = behave
    with pytest.raises(FeatureError, match=r"1\d requests in a row were given up \(status 429.*slow down"):
        run_requests(generator_of(service), questions(200), cache, QUICK)
    assert len(service.requests) < 100


def test_a_request_that_is_turned_away_whenever_it_comes_is_given_up_in_the_end(service, cache):
    misbehave(service, q1=lambda nth: Reply({"error": {"message": "too large for your limit"}}, 429, SOON))
    report = run_requests(generator_of(service), questions(40), cache, QUICK).report
    assert (report.asked, [entry.label for entry in report.given_up]) == (39, ["user 1"])
    assert service.times_asked['"q1"'] <= 20 * 4 + QUICK.max_attempts


def test_a_503_that_does_not_say_when_is_a_fault_like_any_other(service, cache):
    misbehave(service, q1=lambda nth: Reply({"error": {"message": "out of order"}}, 503))
    report = run_requests(generator_of(service), questions(40), cache, QUICK).report
    assert (report.asked, len(report.given_up)) == (39, 1)
    assert service.times_asked['"q1"'] == QUICK.max_attempts


@pytest.mark.parametrize(
    ("status", "headers", "rationed"),
    [(429, {}, True), (429, SOON, True), (503, SOON, True), (503, {}, False), (500, SOON, False)],
)
def test_what_is_a_rate_limit(service, status, headers, rationed):
    service.behave = lambda received, nth: Reply({"error": {"message": "no"}}, status, headers)
    with pytest.raises(RetryLaterError) as raised:
        generator_of(service).generate([questions(1)[0].chat])
    assert raised.value.rationed is rationed


def test_an_interrupt_ends_the_waiting_for_ones_turn(service, cache):
    """`q0` takes its time; the others wait for it when the interrupt comes, and are not given up for that."""
    turned_away = threading.Semaphore(0)

    def behave(received: Received, nth: int) -> Reply:
        if received.asked == "q0":
            for _ in range(3 * QUICK.max_attempts):
                assert turned_away.acquire(timeout=10)
            os.kill(os.getpid(), signal.SIGINT)
            return Reply(completion("at last"), seconds=0.5)
        turned_away.release()
        return Reply({"error": {"message": "busy"}}, 429, SOON)

    service.behave = behave
    with pytest.raises(KeyboardInterrupt):
        run_requests(generator_of(service, timeout=30.0), questions(20), cache, QUICK)
    assert sum(content.answers for content in cache.content()) == 1
    assert cache.given_up() == []


class TestTurns:
    def test_whoever_waits_hears_of_an_answer(self):
        turns, heard = Turns(), []

        def wait() -> None:
            with turns.trying():
                heard.append(turns.another_is_answered(0, threading.Event()))

        with turns.trying():
            threads = [threading.Thread(target=wait) for _ in range(3)]
            for thread in threads:
                thread.start()
            turns.note_answer()
            for thread in threads:
                thread.join(10)
        assert heard == [True] * 3

    def test_nobody_waits_when_all_wait(self):
        turns, heard = Turns(), []
        together = threading.Barrier(3)

        def wait() -> None:
            with turns.trying():
                together.wait(10)
                heard.append(turns.another_is_answered(0, threading.Event()))

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert heard == [False] * 3

    def test_a_stop_ends_the_waiting(self):
        turns, stopped = Turns(), threading.Event()
        stopped.set()
        with turns.trying(), turns.trying():
            assert not turns.another_is_answered(0, stopped)
