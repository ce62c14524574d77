from __future__ import annotations

import pytest

from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.llm.batch_files import export_batch
from recbole_cdsr.llm.generator import ChatRequest, OfflineGenerator
from recbole_cdsr.llm.openai_generator import OpenAIGenerator
from recbole_cdsr.llm.request_limits import Prices, RequestLimits, Shard
from recbole_cdsr.llm.request_plan import plan_requests
from recbole_cdsr.llm.request_runner import BudgetReachedError, run_requests
from recbole_cdsr.llm.response_cache import ResponseCache
from recbole_cdsr.llm.tokens import estimated_tokens


def questions(count: int) -> list[ChatRequest]:
    return [ChatRequest([{"role": "user", "content": f"question {n:03}"}], "p-1") for n in range(count)]


def test_nothing_is_asked_and_nothing_is_made(service, path):
    generator = OpenAIGenerator("m", base_url=service.url, max_new_tokens=50)
    with ResponseCache(path, read_only=True) as cache:
        plan = plan_requests(generator, [*questions(10), *questions(4)], cache)
    assert service.requests == []
    assert not path.parent.exists()
    assert (plan.total, plan.distinct, plan.known, plan.missing) == (14, 10, 0, 10)
    # 12 characters are 3 tokens, and 4 for what stands around a message.
    assert (plan.prompt_tokens, plan.estimated) == (70, True)
    assert (plan.most_completion_tokens, plan.usual_completion_tokens, plan.most_cost) == (500, None, None)
    assert "estimated" in plan.describe()
    assert "llm_price_prompt" in plan.describe()


def test_tokens_are_counted_by_the_models_own_tokenizer(service, path, tiny_model):
    generator = OpenAIGenerator("m", base_url=service.url, tokenizer=str(tiny_model))
    with ResponseCache(path, read_only=True) as cache:
        plan = plan_requests(generator, questions(10), cache)
    # One token a byte: <|user|>question 000<|end|><|assistant|>
    assert (plan.prompt_tokens, plan.estimated) == (10 * len("<|user|>question 000<|end|><|assistant|>"), False)
    assert "counted" in plan.describe()
    wrong = OpenAIGenerator("m", base_url=service.url, tokenizer="./nowhere")
    with ResponseCache(path, read_only=True) as cache, pytest.raises(FeatureError, match="llm_tokenizer"):
        plan_requests(wrong, questions(1), cache)


def test_costs_and_what_is_left_to_ask(service, path):
    generator = OpenAIGenerator("m", base_url=service.url, max_new_tokens=50)
    prices = Prices(prompt=10.0, completion=100.0)
    limits = RequestLimits(prices=prices)
    with ResponseCache(path) as cache:
        run_requests(generator, questions(4), cache)
        export_batch(path.with_name("r.jsonl"), generator, questions(6), cache)
        plan = plan_requests(generator, questions(10), cache, limits)
        assert (plan.known, plan.missing, plan.in_batch_files) == (4, 6, 2)
        assert plan.usual_completion_tokens == 24  # the service's answers have 4 tokens each
        assert plan.most_cost == pytest.approx((6 * 7 * 10 + 6 * 50 * 100) / 1e6)
        assert plan.usual_cost == pytest.approx((6 * 7 * 10 + 6 * 4 * 100) / 1e6)
        shards = [
            plan_requests(generator, questions(10), cache, RequestLimits(shard=Shard(index, 2))) for index in (1, 2)
        ]
    assert sum(shard.missing for shard in shards) == 6
    assert all(shard.missing + shard.not_in_shard == 6 for shard in shards)


@pytest.mark.parametrize(
    ("extra", "most", "bounded"),
    [
        ({}, 20, True),
        ({"max_tokens": None, "max_completion_tokens": 8000}, 8000, True),
        ({"max_tokens": 300}, 300, True),
        ({"max_completion_tokens": 40, "n": 3}, 120, True),
        ({"max_tokens": None}, 64, False),
    ],
)
def test_the_longest_answer_is_the_one_that_the_request_allows(service, path, extra, most, bounded):
    generator = OpenAIGenerator("m", base_url=service.url, max_new_tokens=20, extra_parameters=extra)
    limits = RequestLimits(prices=Prices(0.0, 1e6), max_cost=10.0, max_completion_tokens=64)
    with ResponseCache(path) as cache:
        plan = plan_requests(generator, questions(2), cache, limits)
        assert (plan.most_completion_tokens, plan.bounded) == (2 * most, bounded)
        assert ("which the requests do not say" in plan.describe()) != bounded
        with pytest.raises(
            (BudgetReachedError, ConfigError), match="could exceed" if bounded else "how long its answer"
        ):
            run_requests(generator, questions(2), cache, limits)
    assert service.requests == []


def test_without_an_llm_there_is_nothing_to_pay(path):
    with ResponseCache(path, read_only=True) as cache:
        plan = plan_requests(
            OfflineGenerator("extractive"), questions(3), cache, RequestLimits(prices=Prices(1.0, 1.0))
        )
    assert (plan.missing, plan.most_cost) == (0, 0.0)


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("tea", 1), ("green tea!", 3), ("für", 1), ("绿茶", 2), ("绿茶 tea", 3)]
)
def test_estimates(text, tokens):
    assert estimated_tokens(text) == tokens
