"""Questions for the request runner, and whom they are asked."""

from __future__ import annotations

from collections.abc import Callable

from recbole_cdsr.llm.generator import ChatRequest
from recbole_cdsr.llm.openai_generator import OpenAIGenerator
from recbole_cdsr.llm.request_limits import RequestLimits

from .service import Received, Reply, Service, well_behaved

QUICK = RequestLimits(max_attempts=4, first_wait=0.01, longest_wait=0.05)
SECRET = "sk-this-is-a-secret-5f2c"


def generator_of(service: Service, concurrency: int = 4, **arguments) -> OpenAIGenerator:
    arguments = {"timeout": 5.0, "max_new_tokens": 16} | arguments
    return OpenAIGenerator("m", base_url=service.url, api_key_env="TEST_KEY", concurrency=concurrency, **arguments)


def questions(count: int, version: str = "p-1") -> list[ChatRequest]:
    return [ChatRequest([{"role": "user", "content": f"q{n}"}], version, f"user {n}") for n in range(count)]


def misbehave(service: Service, **replies: Callable[[int], Reply]) -> None:
    """Make a service answer some questions otherwise: from how often one was asked to the reply."""

    def behave(received: Received, nth: int) -> Reply:
        return replies[received.asked](nth) if received.asked in replies else well_behaved(received, nth)

    service.behave = behave
