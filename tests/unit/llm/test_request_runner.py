"""The runner against a real HTTP server that misbehaves on purpose."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable

import pytest

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.generator import OfflineGenerator
from recbole_cdsr.llm.request_limits import Prices, RequestLimits, Shard
from recbole_cdsr.llm.request_runner import BudgetReachedError, run_requests
from recbole_cdsr.llm.response_cache import ResponseCache
from recbole_cdsr.llm.spending import spent_together

from .questions import QUICK, SECRET, generator_of, misbehave, questions
from .service import Received, Reply, Service, completion, well_behaved

pytestmark = pytest.mark.usefixtures("key_in_environment")


def first_then_well(first: Reply) -> Callable[[int], Reply]:
    return lambda nth: first if nth == 1 else Reply(completion("at last"))


def test_answers_come_in_the_order_of_the_requests_and_equal_ones_are_asked_once(service, cache):
    requests = [*questions(20), *questions(5)]
    outcome = run_requests(generator_of(service), requests, cache, QUICK)
    assert [answer.text for answer in outcome.answers] == [
        f"about {request.chat[0]['content']}" for request in requests
    ]
    assert len(service.requests) == 20
    assert (outcome.report.total, outcome.report.distinct, outcome.report.asked) == (25, 20, 20)
    assert (outcome.report.prompt_tokens, outcome.report.completion_tokens) == (200, 80)
    assert outcome.report.complete
    body = service.requests[0].body
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 16, 0.0)
    assert service.requests[0].headers["authorization"] == f"Bearer {SECRET}"


def test_what_is_known_is_never_asked_again_and_a_changed_prompt_asks_only_what_changed(service, cache):
    generator = generator_of(service)
    run_requests(generator, questions(10), cache, QUICK)
    again = run_requests(generator, questions(12), cache, QUICK)
    assert len(service.requests) == 12
    assert (again.report.cached, again.report.asked) == (10, 2)
    assert all(answer.cached for answer in again.answers[:10])
    changed = [*questions(6), *questions(3, "p-2")]
    assert run_requests(generator, changed, cache, QUICK).report.asked == 3
    assert run_requests(generator_of(service, max_new_tokens=17), questions(1), cache, QUICK).report.asked == 1


def test_concurrency_is_bounded_and_used(service, cache):
    service.seconds = 0.05
    run_requests(generator_of(service, concurrency=5), questions(40), cache, QUICK)
    assert service.most_at_once == 5


@pytest.mark.parametrize(
    "fault",
    [
        Reply({"error": {"message": "slow down"}}, 429),
        Reply({"error": {"message": "oops"}}, 500),
        Reply("<html>bad gateway</html>", 502, {"Content-Type": "text/html"}),
        Reply('{"choices": [', 200),
        Reply({"choices": []}, 200),
        Reply({"error": {"message": "upstream failed"}}, 200),
        Reply("", 200, hang_up=True),
        Reply(completion("too late"), seconds=1.0),
    ],
    ids=["429", "500", "502", "half JSON", "no choice", "error in a 200", "hangs up", "times out"],
)
def test_a_passing_fault_is_tried_again(service, cache, fault):
    misbehave(service, q1=first_then_well(fault))
    # Short only where the answer is late: on a busy machine any other answer may take half a second.
    waits = {"timeout": 0.5} if fault.seconds else {}
    outcome = run_requests(generator_of(service, **waits), questions(3), cache, QUICK)
    assert [answer.text for answer in outcome.answers] == ["about q0", "at last", "about q2"]
    assert outcome.report.retries == 1
    assert len(service.requests) == 4


def test_retry_after_is_honoured_by_everybody(service, cache):
    """A storm: for half a second nobody is served, and nobody asks before it is over but those on their way."""
    begun = time.monotonic()

    def behave(received: Received, nth: int) -> Reply:
        left = begun + 0.5 - time.monotonic()
        if left > 0:
            return Reply({"error": {"message": "slow down"}}, 429, {"retry-after-ms": str(1000 * left)})
        return well_behaved(received, nth)

    service.behave = behave
    outcome = run_requests(generator_of(service, concurrency=6), questions(30), cache, QUICK)
    assert outcome.report.complete
    early = [received for received in service.requests if received.at < begun + 0.45]
    assert len(early) <= 6
    assert len(service.requests) == 30 + len(early)


def test_what_stays_broken_is_given_up_reported_and_asked_again_next_time(service, cache, caplog):
    misbehave(service, q1=lambda nth: Reply({"error": {"message": "oops"}}, 500))
    with caplog.at_level(logging.INFO):
        outcome = run_requests(generator_of(service), questions(4), cache, QUICK)
    assert service.times_asked['"q1"'] == 4
    assert outcome.answers[1].text is None
    assert outcome.answers[1].error.startswith("given up: status 500")
    (given_up,) = outcome.report.given_up
    assert given_up.label == "user 1"
    assert "1 requests were given up" in caplog.text
    assert "user 1" in caplog.text
    assert cache.given_up() == [given_up]
    service.behave = well_behaved
    again = run_requests(generator_of(service), questions(4), cache, QUICK)
    assert (again.report.cached, again.report.asked) == (3, 1)
    assert again.answers[1].text == "about q1"
    assert cache.given_up() == []


def test_a_request_that_is_refused_as_such_is_not_tried_again(service, cache):
    misbehave(service, q2=lambda nth: Reply({"error": {"message": "maximum context length is 8"}}, 400))
    outcome = run_requests(generator_of(service), questions(4), cache, QUICK)
    assert service.times_asked['"q2"'] == 1
    assert "maximum context length" in outcome.answers[2].error
    assert outcome.report.asked == 3


def test_empty_truncated_and_withheld_answers_are_answers_paid_for_once(service, cache):
    misbehave(
        service,
        q0=lambda nth: Reply(completion("")),
        q1=lambda nth: Reply(completion("as far as it we", "length")),
        q2=lambda nth: Reply(completion(None, "content_filter")),
        q3=lambda nth: Reply({"error": {"message": "policy", "code": "content_filter"}}, 400),
        q4=lambda nth: Reply(completion(None, refusal="I cannot help with that")),
        q5=lambda nth: Reply(completion(None)),
        q6=lambda nth: Reply(completion([{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}])),
        q7=lambda nth: Reply(completion("<think>tea?</think>Likes tea.")),
    )
    for asked in (9, 0):
        outcome = run_requests(generator_of(service), questions(9), cache, QUICK)
        report = outcome.report
        assert (report.asked, report.empty, report.truncated, report.refused) == (asked, 2, 1, 3)
        texts = [answer.text for answer in outcome.answers]
        assert texts == ["", "as far as it we", None, None, None, "", "in parts", "Likes tea.", "about q8"]
        assert outcome.answers[3].error == "withheld by a content filter"
        assert report.complete
    assert len(service.requests) == 9


def test_kinds_of_answers_can_be_asked_again(service, cache):
    misbehave(service, q0=lambda nth: Reply(completion("" if nth == 1 else "now")))
    generator = generator_of(service)
    run_requests(generator, questions(3), cache, QUICK)
    again = RequestLimits(ask_again=frozenset({"empty"}))
    outcome = run_requests(generator, questions(3), cache, again)
    assert outcome.answers[0].text == "now"
    assert len(service.requests) == 4
    assert run_requests(generator, questions(3), cache, again).report.asked == 0


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply({"error": {"message": f"Incorrect API key provided: {SECRET}"}}, 401), "refuses the key in the env"),
        (Reply({"error": {"message": "not for you"}}, 403), "does not serve this key"),
        (Reply({"error": {"message": "The model `m` does not exist"}}, 404), "does not know the model"),
        (Reply({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, 429), "quota"),
    ],
    ids=["401", "403", "404", "no quota"],
)
def test_a_service_that_will_never_answer_ends_the_run_at_once(service, cache, path, caplog, reply, said):
    service.behave = lambda received, nth: reply if received.asked != "q0" else well_behaved(received, nth)
    with pytest.raises(FeatureError, match=said) as raised:
        run_requests(generator_of(service, concurrency=2), questions(50), cache, QUICK)
    assert len(service.requests) <= 5
    assert "\n" not in str(raised.value)
    seen = str(raised.value) + caplog.text + repr(raised.value.__dict__)
    assert SECRET not in seen
    cache.close()
    for file in path.parent.iterdir():
        assert SECRET.encode() not in file.read_bytes()


def test_a_key_that_a_service_repeats_is_blotted_out(service, cache):
    misbehave(service, q0=lambda nth: Reply(completion(f"your key is {SECRET}")))
    answer = run_requests(generator_of(service), questions(1), cache, QUICK).answers[0]
    assert answer.text == "your key is [key]"


def test_a_service_that_is_down_is_one_line(cache):
    with Service() as service:
        pass  # closed again: nobody listens on its port
    with pytest.raises(FeatureError, match="no connection to http://127") as raised:
        run_requests(generator_of(service), questions(100), cache, QUICK)
    assert "\n" not in str(raised.value)
    with pytest.raises(FeatureError, match="answered none of the requests"):
        run_requests(generator_of(service), questions(2), cache, QUICK)


def test_a_wait_of_hours_is_not_waited_for(service, cache):
    service.behave = lambda received, nth: Reply({"error": {"message": "later"}}, 429, {"Retry-After": "7200"})
    with pytest.raises(FeatureError, match="asks to wait 7,200 s"):
        run_requests(generator_of(service), questions(5), cache, QUICK)


class TestShards:
    def test_every_request_is_asked_by_one_machine(self, service, tmp_path):
        generator = generator_of(service)
        reports = []
        for index in (1, 2, 3):
            with ResponseCache(tmp_path / f"{index}.sqlite") as cache:
                limits = RequestLimits(shard=Shard(index, 3))
                outcome = run_requests(generator, questions(60), cache, limits)
            reports.append(outcome.report)
            assert {answer.error for answer in outcome.answers if answer.text is None} == {f"not in shard {index}/3"}
        assert set(service.times_asked.values()) == {1}
        assert sum(report.asked for report in reports) == 60
        assert all(report.asked >= 8 for report in reports)
        with ResponseCache(tmp_path / "1.sqlite") as cache:
            for index in (2, 3):
                cache.take_from(tmp_path / f"{index}.sqlite")
            assert run_requests(generator, questions(60), cache, QUICK).report.cached == 60


class TestCost:
    # 10 prompt and 4 completion tokens an answer cost 10 * 1 + 4 * 2 = 18 millionths.
    PRICES = Prices(1.0, 2.0)

    def test_is_reckoned(self, service, cache):
        report = run_requests(generator_of(service), questions(10), cache, RequestLimits(prices=self.PRICES)).report
        assert report.cost == pytest.approx(180e-6)
        assert "cost 0.0002" in report.describe()

    def test_stops_before_it_exceeds_the_most(self, service, cache):
        # At most a prompt of about 5 estimated tokens and 16 new ones: 37 millionths.
        limits = RequestLimits(prices=self.PRICES, max_cost=200e-6)
        with pytest.raises(BudgetReachedError, match=r"llm_max_cost=0\.0002.*answers, which are kept"):
            run_requests(generator_of(service), questions(50), cache, limits)
        spent = len(service.requests) * 18e-6
        assert 140e-6 < spent <= 200e-6
        kept = run_requests(generator_of(service), questions(50), cache, QUICK).report
        assert kept.cached == len(service.requests) - kept.asked
        assert kept.complete

    def test_the_runs_of_one_command_draw_on_one_budget(self, service, cache):
        limits = RequestLimits(prices=self.PRICES, max_cost=500e-6)
        with spent_together():
            assert run_requests(generator_of(service), questions(20), cache, limits).report.asked == 20
            with pytest.raises(BudgetReachedError, match=r"which are kept \(and 0\.0004 by the steps before\)"):
                run_requests(generator_of(service), questions(20, "p-2"), cache, limits)
            assert 20 < len(service.requests) <= 500 / 18
        before = len(service.requests)
        assert run_requests(generator_of(service), questions(20, "p-3"), cache, limits).report.asked == 20
        assert len(service.requests) == before + 20

    def test_a_service_that_counts_no_tokens_is_estimated_and_said_to_be(self, service, cache):
        reply = completion("four letters")
        del reply["usage"]
        service.behave = lambda received, nth: Reply(reply)
        report = run_requests(generator_of(service), questions(1), cache, RequestLimits(prices=self.PRICES)).report
        assert report.estimated_tokens
        assert (report.prompt_tokens, report.completion_tokens) == (5, 3)
        assert "about" in report.describe()


class TestTwoRuns:
    def test_share_the_work_and_ask_nothing_twice(self, service, path):
        service.seconds = 0.02
        outcomes = {}

        def run(name: str) -> None:
            with ResponseCache(path) as cache:
                outcomes[name] = run_requests(generator_of(service), questions(80), cache, QUICK)

        threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(service.requests) == 80
        assert set(service.times_asked.values()) == {1}
        assert outcomes["a"].report.asked + outcomes["b"].report.asked == 80
        assert min(outcome.report.asked for outcome in outcomes.values()) > 0
        texts = [[answer.text for answer in outcome.answers] for outcome in outcomes.values()]
        assert texts[0] == texts[1] == [f"about q{n}" for n in range(80)]

    def test_what_one_gave_up_the_other_asks(self, service, path):
        misbehave(service, q0=lambda nth: Reply({}, 500, seconds=0.2) if nth == 1 else Reply(completion("at last")))
        once = RequestLimits(max_attempts=1)
        outcomes = {}

        def run(name: str) -> None:
            with ResponseCache(path) as cache:
                outcomes[name] = run_requests(generator_of(service), questions(8), cache, once)

        first = threading.Thread(target=run, args=("a",))
        first.start()
        while not service.requests:
            time.sleep(0.01)
        run("b")
        first.join()
        assert outcomes["a"].answers[0].error is not None
        assert outcomes["b"].answers[0].text == "at last"


def test_an_interrupt_waits_for_the_answers_on_their_way_and_keeps_them(service, cache):
    service.seconds = 0.3
    threading.Timer(0.45, os.kill, (os.getpid(), signal.SIGINT)).start()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_requests(generator_of(service, concurrency=3), questions(60), cache, QUICK)
    assert signal.getsignal(signal.SIGINT) is before
    asked = len(service.requests)
    assert 3 <= asked < 60
    service.seconds = 0.0
    report = run_requests(generator_of(service, concurrency=3), questions(60), cache, QUICK).report
    assert report.cached == asked
    assert len(service.requests) == 60


def test_a_sigterm_keeps_the_answers_on_their_way_too(service, cache):
    service.seconds = 0.3
    threading.Timer(0.45, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(SystemExit) as raised:
        run_requests(generator_of(service, concurrency=3), questions(60), cache, QUICK)
    assert raised.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    asked = len(service.requests)
    assert 3 <= asked < 60
    assert sum(content.answers for content in cache.content()) == asked


def test_an_interrupt_ends_a_wait(service, cache):
    service.behave = lambda received, nth: Reply({"error": {"message": "later"}}, 429, {"Retry-After": "60"})
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_requests(generator_of(service), questions(5), cache, QUICK)
    assert time.monotonic() - begun < 10


def test_a_cache_that_cannot_be_written_any_more_stops_the_asking(service, cache, path):
    def behave(received: Received, nth: int) -> Reply:
        if len(service.requests) >= 5:  # of two that arrive together, neither may see just five
            with sqlite3.connect(path, timeout=10) as database:
                database.execute("DROP TABLE IF EXISTS answers")
        return well_behaved(received, nth)

    service.behave = behave
    with pytest.raises(FeatureError, match=r"cannot be written.*were paid for"):
        run_requests(generator_of(service, concurrency=2), questions(40), cache, QUICK)
    assert len(service.requests) <= 8


def test_the_offline_generator_needs_no_cache(cache):
    offline = OfflineGenerator("extractive", lambda chats: [chat[-1]["content"] for chat in chats])
    outcome = run_requests(offline, questions(3), cache)
    assert [answer.text for answer in outcome.answers] == ["q0", "q1", "q2"]
    assert outcome.report.complete
    assert cache.content() == []


def test_no_requests_are_no_work(service, cache):
    assert run_requests(generator_of(service), [], cache).answers == []
