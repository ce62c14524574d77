from __future__ import annotations

import pytest
from configurations import make

from recbole_cdsr.errors import ConfigError

SECRET = "sk-proj-0123456789abcdef"


@pytest.mark.parametrize("key", ["llm_api_key", "openai_api_key", "llm_api_key_env", "llm_encoder_api_key_env"])
def test_a_key_itself_is_refused_and_not_shown(key):
    for given in ({"settings": {key: SECRET}}, {"command_line": [f"--{key}={SECRET}"]}):
        with pytest.raises(ConfigError, match="environment variable") as caught:
            make(**given)
        assert SECRET not in str(caught.value)


def test_an_address_with_a_password_is_refused_and_not_shown():
    with pytest.raises(ConfigError, match="llm_base_url") as caught:
        make(command_line=["--llm_base_url=https://me:hidden@host/v1"])
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "argument",
    [
        "--llm_generator=gpt",
        "--llm_generator=None",
        "--llm_encoder_pooling=max",
        "--llm_concurrency=0",
        "--llm_temperature=-0.1",
        "--llm_timeout=0",
        "--llm_max_cost=free",
        "--llm_extra_parameters=0.9",
        "--llm_ask_again=empty",
    ],
)
def test_values_that_a_key_cannot_have(argument):
    with pytest.raises(ConfigError, match=argument[2:].partition("=")[0]):
        make(command_line=[argument])


def test_values_that_it_can_have():
    config = make(
        command_line=[
            "--llm_generator=openai",
            "--llm_model=gpt-4o-mini",
            "--llm_base_url=http://localhost:8000/v1",
            "--llm_price_prompt=0",
            "--llm_price_completion=0.6",
            "--llm_extra_parameters={top_p: 0.9, max_tokens: null}",
            "--llm_ask_again=[empty, truncated]",
        ]
    )
    assert (config["llm_price_prompt"], config["llm_price_completion"]) == (0.0, 0.6)
    assert config["llm_extra_parameters"] == {"top_p": 0.9, "max_tokens": None}
    assert config["llm_ask_again"] == ["empty", "truncated"]


def test_where_answers_come_from_does_not_make_another_run():
    base = make("LLM4CDSR").fingerprint()
    assert make("LLM4CDSR", settings={"llm_concurrency": 3, "llm_max_cost": 1.0}).fingerprint() == base
    assert make("LLM4CDSR", settings={"llm_model": "m"}).fingerprint() != base
