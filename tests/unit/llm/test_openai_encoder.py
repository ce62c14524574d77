from __future__ import annotations

import base64
import threading

import numpy as np
import pytest

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.encoder import TextEncoder
from recbole_cdsr.llm.openai_encoder import OpenAIEncoder
from recbole_cdsr.llm.request_limits import Prices, RequestLimits
from recbole_cdsr.llm.response_cache import ResponseCache

from .service import WIDTH, Received, Reply, Service, embeddings, vector_of, well_behaved

QUICK = RequestLimits(max_attempts=3, first_wait=0.01)
TEXTS = [f"text {n} " + "x" * (n % 7) for n in range(23)]


def encoder_of(service: Service, path, **arguments) -> OpenAIEncoder:
    arguments = {"batch_size": 5, "concurrency": 3, "limits": QUICK} | arguments
    return OpenAIEncoder("e", cache_file=path, base_url=service.url, **arguments)


def expected(texts: list[str], width: int = WIDTH) -> np.ndarray:
    return np.array([vector_of(text, width) for text in texts], dtype=np.float32)


def test_rows_follow_the_texts_in_batches_and_equal_ones_are_sent_once(service, path):
    encoder = encoder_of(service, path)
    vectors = encoder.encode([*TEXTS, *TEXTS[:4]])
    assert isinstance(encoder, TextEncoder)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, expected([*TEXTS, *TEXTS[:4]]))
    assert sorted(len(received.asked) for received in service.requests) == [3, 5, 5, 5, 5]
    assert encoder.dim == WIDTH


def test_vectors_are_paid_for_once(service, path):
    encoder_of(service, path).encode(TEXTS)
    asked = len(service.requests)
    np.testing.assert_array_equal(encoder_of(service, path).encode(["new", *TEXTS]), expected(["new", *TEXTS]))
    assert [received.asked for received in service.requests[asked:]] == [["new"]]


def test_dimensions_are_asked_for_and_part_of_the_name(service, path):
    encoder = encoder_of(service, path, dimensions=3)
    assert encoder.encode(TEXTS).shape == (23, 3)
    assert service.requests[0].body["dimensions"] == 3
    assert (encoder.name, encoder_of(service, path).name) == ("e:3", "e")
    assert encoder_of(service, path).encode(TEXTS).shape == (23, WIDTH)  # other vectors, not those of width 3


def test_blank_texts_are_not_sent(service, path):
    vectors = encoder_of(service, path).encode(["tea", "", "  "])
    assert [received.asked for received in service.requests] == [["tea"]]
    assert not vectors[1:].any()
    assert encoder_of(service, path).encode([]).shape == (0, WIDTH)


def test_rows_in_another_order_and_bytes_in_base64_are_understood(service, path):
    def behave(received: Received, nth: int) -> Reply:
        body = embeddings(received.asked)
        for row in body["data"]:
            row["embedding"] = base64.b64encode(np.array(row["embedding"], dtype="<f4").tobytes()).decode()
        body["data"].reverse()
        return Reply(body)

    service.behave = behave
    np.testing.assert_array_equal(encoder_of(service, path).encode(TEXTS), expected(TEXTS))


def spoiling(change):
    """A service that spoils the vector of one text, first thing in the second batch."""

    def behave(received: Received, nth: int) -> Reply:
        body = embeddings(received.asked)
        if "text 8 x" in received.asked:
            row = body["data"][received.asked.index("text 8 x")]
            row["embedding"] = change(row["embedding"])
        return Reply(body)

    return behave


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda vector: vector[:4], "a vector of width 4 instead of 8"),
        (lambda vector: [float("nan"), *vector[1:]], "NaN or infinity"),
        (lambda vector: [1e300, *vector[1:]], "NaN or infinity"),
        (lambda vector: [], "no list of numbers"),
        (lambda vector: None, "no list of numbers"),
        (lambda vector: "???", "no list of numbers"),
        (lambda vector: [[1.0], [2.0]], "no list of numbers"),
    ],
    ids=["width", "NaN", "overflow", "nothing", "null", "text", "nested"],
)
def test_a_vector_that_is_none_is_refused_in_one_line_and_the_others_are_kept(service, path, change, said):
    encoder_of(service, path).encode(["text 0 "])
    service.behave = spoiling(change)
    with pytest.raises(FeatureError, match=f"1 of 23 texts have no vector of e.*{said}") as raised:
        encoder_of(service, path).encode(TEXTS)
    assert "\n" not in str(raised.value)
    with ResponseCache(path) as cache:
        assert cache.content()[0].answers == 22
    service.behave = well_behaved
    before = len(service.requests)
    np.testing.assert_array_equal(encoder_of(service, path).encode(TEXTS), expected(TEXTS))
    assert [received.asked for received in service.requests[before:]] == [["text 8 x"]]


def test_a_text_that_is_refused_is_found_in_its_batch(service, path):
    def behave(received: Received, nth: int) -> Reply:
        if "text 8 x" in received.asked:
            return Reply({"error": {"message": "input too long"}}, 400)
        return well_behaved(received, nth)

    service.behave = behave
    with pytest.raises(FeatureError, match=r"1 of 23 texts have no vector.*input too long.*'text 8 x'"):
        encoder_of(service, path).encode(TEXTS)
    with ResponseCache(path) as cache:
        assert cache.content()[0].answers == 22


def refusing(longer_than: int):
    """A service that refuses whatever has a text in it that is too long for it."""

    def behave(received: Received, nth: int) -> Reply:
        if max(map(len, received.asked)) > longer_than:
            return Reply({"error": {"message": "input too long"}}, 400)
        return well_behaved(received, nth)

    return behave


@pytest.mark.parametrize(
    ("count", "arguments"),
    [
        (3000, {"batch_size": 128, "concurrency": 16}),
        (500, {"batch_size": 128, "concurrency": 16}),  # all of them are on their way at once
        (500, {"batch_size": 128, "concurrency": 1}),
        (3000, {"batch_size": 1, "concurrency": 16}),
        (60, {}),
    ],
    ids=["many", "one wave", "one at a time", "one in a call", "few"],
)
def test_a_service_that_refuses_every_text_is_found_out_in_some_tens_of_calls(service, path, count, arguments):
    service.behave = refusing(longer_than=0)
    texts = [f"text {n} " + "x" * (n % 97) for n in range(count)]
    with pytest.raises(FeatureError, match=r"none was answered, not even the shortest ones, .*input too long"):
        encoder_of(service, path, **arguments).encode(texts)
    assert len(service.requests) < 80


def test_so_it_is_when_another_run_asks_the_shortest(service, path):
    service.behave = refusing(longer_than=0)
    texts = ["x" * n for n in range(1, 501)]
    encoder = encoder_of(service, path, batch_size=20)
    with ResponseCache(path) as other:
        assert len(other.claim([entry.key for entry in encoder._entries(texts[:20])])[0]) == 20
        with pytest.raises(FeatureError, match="not even the shortest ones"):
            encoder.encode(texts)
    assert len(service.requests) < 60


@pytest.mark.parametrize("arguments", [{}, {"batch_size": 16, "concurrency": 1}, {"batch_size": 32, "concurrency": 8}])
def test_texts_that_are_too_long_are_refused_alone_however_many_they_are(service, path, arguments):
    service.behave = refusing(longer_than=12)
    texts = ["x" * n for n in range(1, 121)]
    with pytest.raises(FeatureError, match=r"108 of 120 texts have no vector.*input too long"):
        encoder_of(service, path, **arguments).encode(texts)
    with ResponseCache(path) as cache:
        assert cache.content()[0].answers == 12


def test_short_texts_that_take_their_time_are_waited_for(service, path):
    """Many a long one is refused before a short one is answered."""
    refused = threading.Semaphore(0)

    def behave(received: Received, nth: int) -> Reply:
        reply = refusing(longer_than=40)(received, nth)
        if reply.status == 400:
            refused.release()
        elif nth == 1 and len(received.asked) == 40:
            assert all(refused.acquire(timeout=10) for _ in range(10))
        return reply

    service.behave = behave
    with pytest.raises(FeatureError, match=r"40 of 80 texts have no vector.*input too long"):
        encoder_of(service, path, batch_size=40, concurrency=2).encode(["x" * n for n in range(1, 81)])
    with ResponseCache(path) as cache:
        assert cache.content()[0].answers == 40


def test_a_text_that_is_refused_is_found_before_the_next_are_sent(service, path):
    service.behave = refusing(longer_than=60)
    with pytest.raises(FeatureError, match="1 of 61 texts"):
        encoder_of(service, path, batch_size=8, concurrency=1).encode(["x" * n for n in range(1, 62)])
    sizes = [len(received.asked) for received in service.requests]
    assert sizes[: sizes.index(1)] == [8, 8, 4, 4, 2, 2]  # one call is always handed out beforehand


@pytest.mark.parametrize("batch_size", [16, 4096])
def test_a_text_that_breaks_whatever_call_it_is_in_is_the_only_one_without_a_vector(service, path, batch_size):
    texts = ["spoils it" + "!" * 90, *(f"text {n}" for n in range(batch_size + 20))]  # the longest comes first

    def behave(received: Received, nth: int) -> Reply:
        return Reply({}, 500) if texts[0] in received.asked else well_behaved(received, nth)

    service.behave = behave
    encoder = encoder_of(service, path, batch_size=batch_size, concurrency=1)
    with pytest.raises(FeatureError, match=rf"1 of {len(texts):,} texts have no vector.*status 500.*'spoils it"):
        encoder.encode(texts)
    # Batches all attempts, their parts one, and the text alone all of them.
    spoilt = [len(received.asked) for received in service.requests if texts[0] in received.asked]
    halves = [batch_size >> times for times in range(1, batch_size.bit_length() - 1)]
    assert spoilt == [batch_size] * 3 + halves + [1] * 3
    before = len(service.requests)
    with pytest.raises(FeatureError, match="1 of"):
        encoder.encode(texts)
    assert [received.asked for received in service.requests[before:]] == [texts[:1]] * 3


def test_a_service_that_fails_whatever_it_is_asked_ends_the_run_soon(service, path):
    service.behave = lambda received, nth: Reply({}, 500)
    with pytest.raises(FeatureError, match=r"1\d requests in a row were given up \(status 500"):
        encoder_of(service, path).encode([f"text {n}" for n in range(500)])
    assert len(service.requests) < 60


def test_a_service_whose_vectors_are_none_ends_the_run_soon(service, path):
    service.behave = lambda received, nth: Reply(embeddings(received.asked, 0))
    with pytest.raises(FeatureError, match=r"1\d requests in a row were given up \(a vector that is no list"):
        encoder_of(service, path).encode([f"text {n}" for n in range(500)])
    assert len(service.requests) < 30


def test_too_few_vectors_are_asked_again(service, path):
    def behave(received: Received, nth: int) -> Reply:
        body = embeddings(received.asked)
        if nth == 1:
            body["data"].pop()
        return Reply(body)

    service.behave = behave
    np.testing.assert_array_equal(encoder_of(service, path).encode(TEXTS), expected(TEXTS))


def test_a_model_that_changed_behind_its_name_is_noticed(service, path):
    encoder_of(service, path).encode(TEXTS[:5])
    service.behave = lambda received, nth: Reply(embeddings(received.asked, 6))
    with pytest.raises(FeatureError, match="a vector of width 6 instead of 8"):
        encoder_of(service, path).encode(TEXTS)


def test_a_plan_reckons_without_asking(service, path):
    encoder = encoder_of(service, path, limits=RequestLimits(prices=Prices(2.0, 0.0)))
    encoder.encode(TEXTS[:3])
    asked = len(service.requests)
    with ResponseCache(path, read_only=True) as cache:
        plan = encoder.plan([*TEXTS, ""], cache)
    assert len(service.requests) == asked
    assert (plan.known, plan.missing, plan.estimated) == (3, 20, True)
    assert plan.most_cost == pytest.approx(2e-6 * plan.prompt_tokens)
