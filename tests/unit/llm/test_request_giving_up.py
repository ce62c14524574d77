"""What becomes of requests that get no answer."""

from __future__ import annotations

import sqlite3

import pytest

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.generator import Answer, ChatRequest, request_key
from recbole_cdsr.llm.request_limits import RequestLimits
from recbole_cdsr.llm.request_runner import run_requests

from .questions import QUICK, generator_of, misbehave, questions
from .service import Received, Reply, completion, well_behaved

pytestmark = pytest.mark.usefixtures("key_in_environment")


class TestAskedAgainInVain:
    AGAIN = RequestLimits(max_attempts=1, ask_again=frozenset({"truncated"}))

    def test_the_former_answers_stay(self, service, cache, path):
        service.behave = lambda received, nth: Reply(completion("half of", "length"))
        generator = generator_of(service)
        run_requests(generator, questions(40), cache, QUICK)
        service.behave = lambda received, nth: Reply({}, 500)
        with pytest.raises(FeatureError, match="in a row were given up"):
            run_requests(generator, questions(40), cache, self.AGAIN)
        asked = len(service.requests)
        report = run_requests(generator, questions(40), cache, QUICK).report
        assert (report.cached, report.asked, len(service.requests)) == (40, 0, asked)
        with sqlite3.connect(path) as database:
            assert database.execute("SELECT COUNT(*) FROM former").fetchone() == (0,)

    def test_a_request_that_fails_has_its_former_answer(self, service, cache):
        service.behave = lambda received, nth: Reply(completion("half of", "length"))
        generator = generator_of(service)
        run_requests(generator, questions(3), cache, QUICK)
        misbehave(service, q1=lambda nth: Reply({}, 500))
        outcome = run_requests(generator, questions(3), cache, self.AGAIN)
        assert [answer.text for answer in outcome.answers] == ["about q0", "half of", "about q2"]
        report = outcome.report
        assert (report.asked, report.cached, report.in_vain, report.given_up) == (2, 1, 1, [])
        assert report.complete
        assert cache.given_up() == []


class TestRefusedOnTheirOwnAccount:
    class Local:
        """A model on this machine, to which long prompts are too long."""

        backend, model, parameters, name = "transformers", "tiny", {}, "tiny"
        batch_size, concurrency = 4, 1

        def count_tokens(self, chat) -> int:
            return len(chat[0]["content"])

        def generate(self, chats) -> list[Answer]:
            return [
                Answer(None, error="a prompt of too many tokens")
                if self.count_tokens(chat) > 50
                else Answer("ok", 1, 1, "stop")
                for chat in chats
            ]

    def test_long_prompts_do_not_end_the_run_of_a_local_model(self, cache):
        requests = [
            ChatRequest([{"role": "user", "content": f"{n} " + "x" * (60 if n % 5 == 0 else 5)}], "p-1", f"user {n}")
            for n in range(200)
        ]
        report = run_requests(self.Local(), requests, cache).report
        assert (report.asked, len(report.given_up)) == (160, 40)
        again = run_requests(self.Local(), requests, cache).report
        assert (again.cached, again.asked, len(again.given_up)) == (160, 0, 40)

    def test_nor_do_refusals_in_a_row_where_others_are_answered(self, service, cache):
        def behave(received: Received, nth: int) -> Reply:
            too_long = len(received.asked) > 2
            return Reply({"error": {"message": "too long"}}, 400) if too_long else well_behaved(received, nth)

        service.behave = behave
        generator = generator_of(service)
        report = run_requests(generator, questions(60)[::-1], cache, QUICK).report  # q10 and on are long
        assert (report.asked, len(report.given_up)) == (10, 50)
        keys = [request_key(generator, request) for request in questions(60)]
        assert set(cache.unanswerable(keys)) == set(keys[10:])
        service.behave = well_behaved
        run_requests(generator, questions(30), cache, QUICK)
        assert set(cache.unanswerable(keys)) == set(keys[30:])

    def test_a_service_that_refuses_whatever_is_asked_ends_it(self, service, cache):
        service.behave = lambda received, nth: Reply({"error": {"message": "unknown parameter"}}, 400)
        with pytest.raises(FeatureError, match=r"none was answered, not even the shortest ones, .*unknown parameter"):
            run_requests(generator_of(service), questions(500), cache, QUICK)
        assert len(service.requests) < 60
