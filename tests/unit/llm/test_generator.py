from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.generator import (
    OFFLINE,
    Answer,
    ChatRequest,
    OfflineGenerator,
    TextGenerator,
    request_key,
    without_reasoning,
)

CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "Tee für zwei"}]


@dataclass
class Named(OfflineGenerator):
    """Something to make keys with."""

    backend: str = "openai"
    model: str = "m"
    parameters: dict[str, Any] = field(default_factory=lambda: {"temperature": 0.0, "max_tokens": 5})


def test_key_changes_with_all_that_an_answer_depends_on_and_nothing_else():
    request = ChatRequest(CHAT, "p-1", "u1")
    base = request_key(Named(), request)
    assert len(base) == 64
    assert request_key(Named(parameters={"max_tokens": 5, "temperature": 0.0}), request) == base
    assert request_key(Named(), replace(request, label="u2")) == base
    assert request_key(Named(), replace(request, chat=[dict(message, name="x") for message in CHAT])) == base
    others = [
        request_key(Named(backend="transformers"), request),
        request_key(Named(model="n"), request),
        request_key(Named(parameters={"max_tokens": 6, "temperature": 0.0}), request),
        request_key(Named(), replace(request, prompt_version="p-2")),
        request_key(Named(), replace(request, chat=CHAT[1:])),
        request_key(Named(), replace(request, chat=[CHAT[0], {"role": "user", "content": "Tee für drei"}])),
    ]
    assert len({base, *others}) == 7


def test_key_is_the_same_on_every_machine():
    # Computed once and written down: a change would ask (and pay for) everything again.
    assert request_key(Named(), ChatRequest(CHAT, "p-1")) == (
        "d3d68be74e69ab3a0869195b154f83decc6aa40b004b5f8f3a25b6d494b1aa37"
    )


def test_kinds_of_answers():
    assert Answer("text", finish_reason="stop").answered
    assert Answer(" \n").empty
    assert Answer("cut", finish_reason="length").truncated
    refused = Answer(None, finish_reason="content_filter", error="withheld")
    assert refused.refused
    assert refused.answered
    assert not refused.empty
    assert not Answer(None, error="given up").answered


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("plain", "plain"),
        ("<think>hm, tea</think>\n\nLikes tea.", "Likes tea."),
        ("hm, tea</think>Likes tea.", "Likes tea."),  # templates that open the thoughts themselves
        ("<think>hm, te", ""),  # cut off while it was thinking
        ("<think>tea</think>\n<think>or cof", ""),
        ("a < b and c > d", "a < b and c > d"),
    ],
)
def test_thoughts_of_a_reasoning_model_are_no_part_of_its_answer(text, rest):
    assert without_reasoning(text) == rest
    assert without_reasoning(rest) == rest


def test_the_generator_without_an_llm_says_so():
    generator = OfflineGenerator("extractive", lambda chats: [chat[-1]["content"].upper() for chat in chats])
    assert isinstance(generator, TextGenerator)
    assert generator.name == OFFLINE
    assert generator.provenance()["llm"] is None
    assert [answer.text for answer in generator.generate([CHAT])] == ["TEE FÜR ZWEI"]
    with pytest.raises(FeatureError, match="llm_generator is offline, and profiles cannot be written without an LLM"):
        OfflineGenerator("profiles").generate([CHAT])
