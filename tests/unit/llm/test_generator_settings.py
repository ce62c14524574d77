from __future__ import annotations

from pathlib import Path

import pytest

from recbole_cdsr.config_names import props_file
from recbole_cdsr.config_values import read_config_file
from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.llm.encoder import SentenceTransformerEncoder
from recbole_cdsr.llm.encoder_settings import EncoderSettings
from recbole_cdsr.llm.generator import OFFLINE
from recbole_cdsr.llm.generator_settings import GeneratorSettings
from recbole_cdsr.llm.openai_encoder import OpenAIEncoder
from recbole_cdsr.llm.openai_generator import OpenAIGenerator
from recbole_cdsr.llm.request_limits import Prices, Shard
from recbole_cdsr.llm.transformers_encoder import TransformersEncoder
from recbole_cdsr.llm.transformers_generator import TransformersGenerator


def settings(**keys) -> GeneratorSettings:
    return GeneratorSettings(keys, "d")


def test_defaults_are_those_that_the_overall_yaml_states():
    stated = {key: setting.value for key, setting in read_config_file(props_file("overall")).settings.items()}
    from_yaml, from_nothing = GeneratorSettings(stated, "d"), GeneratorSettings({}, "d")
    differing = {
        name: (value, vars(from_nothing)[name])
        for name, value in vars(from_yaml).items()
        if value != vars(from_nothing)[name] and name != "cache_file"
    }
    assert differing == {}
    encoders = [vars(EncoderSettings(config, "d")) for config in (stated, {})]
    assert all(encoders[0][name] == encoders[1][name] for name in encoders[0] if name != "shared")


def test_no_llm_is_the_default_and_says_so():
    generator = settings().text_generator("profiles", lambda chats: ["written"] * len(chats))
    assert generator.name == OFFLINE


def test_the_generator_that_is_configured(service, tiny_model):
    asked = settings(llm_generator="openai", llm_model="m", llm_base_url=service.url, llm_concurrency=3)
    generator = asked.text_generator("profiles")
    assert isinstance(generator, OpenAIGenerator)
    assert generator.concurrency == 3
    local = settings(llm_generator="transformers", llm_model=str(tiny_model), llm_generator_batch_size=2)
    generator = local.text_generator("profiles")
    assert isinstance(generator, TransformersGenerator)
    assert generator.batch_size == 2
    with pytest.raises(ConfigError, match="llm_model names no model"):
        settings(llm_generator="openai").text_generator("profiles")


def test_the_encoder_that_is_configured(service, tiny_model, tmp_path):
    def encoder(**keys):
        return EncoderSettings({"llm_features_dir": str(tmp_path)} | keys, "d")

    assert isinstance(encoder().text_encoder(), SentenceTransformerEncoder)
    local = encoder(llm_encoder_backend="transformers", llm_encoder=str(tiny_model), llm_encoder_pooling="mean")
    assert isinstance(local.text_encoder(), TransformersEncoder)
    assert local.name == local.text_encoder().name == "tiny:mean"
    stored = local.text_encoder().provenance()
    assert all(stored[key] == value for key, value in local.expected().items())
    asked = encoder(llm_encoder_backend="openai", llm_encoder="e", llm_base_url=service.url, llm_encoder_dimensions=4)
    assert isinstance(asked.text_encoder(), OpenAIEncoder)
    assert asked.text_encoder().encode(["tea"]).shape == (1, 4)
    assert asked.expected().items() <= asked.text_encoder().provenance().items()
    assert (tmp_path / "llm_cache.sqlite").is_file()
    with pytest.raises(ConfigError, match="llm_encoder names no model"):
        encoder(llm_encoder_backend="openai")


def test_an_encoder_that_is_not_here_can_be_expected_by_name():
    named = EncoderSettings({"llm_encoder_backend": "transformers", "llm_encoder": "some/model"}, "d")
    assert named.expected() == {"name": "some/model:last", "pooling": "last", "max_tokens": 512}
    with pytest.raises(FeatureError, match="was not found"):
        named.text_encoder()


def test_the_cache_is_kept_beside_the_features():
    assert settings(data_path="data/d").cache_file == Path("data/d/features/llm_cache.sqlite")
    assert settings(data_path="data/d", llm_features_dir="f").cache_file == Path("f/llm_cache.sqlite")
    assert settings(llm_cache_file="c.sqlite", llm_features_dir="f").cache_file == Path("c.sqlite")


def test_limits():
    limits = settings(llm_price_prompt=0.15, llm_max_cost=2, llm_ask_again=["empty"], llm_max_new_tokens=7).limits(
        "2/4"
    )
    assert limits.prices == Prices(0.15, 0.0)
    assert (limits.max_cost, limits.shard, limits.max_completion_tokens) == (2.0, Shard(2, 4), 7)
    assert limits.ask_again == {"empty"}
    assert settings().limits().prices is None


@pytest.mark.parametrize("shard", ["0/4", "5/4", "1", "a/b", "1/0", "1/4/2"])
def test_shards_that_are_none(shard):
    with pytest.raises(ConfigError, match="such as 1/4"):
        settings().limits(shard)


@pytest.mark.parametrize(
    "keys",
    [
        {"llm_generator": "chatgpt"},
        {"llm_model": 5},
        {"llm_max_new_tokens": 0},
        {"llm_temperature": -1.0},
        {"llm_timeout": 0.0},
        {"llm_extra_parameters": [1]},
        {"llm_ask_again": ["rude"]},
        {"llm_max_cost": 1.0},
        {"llm_max_cost": 0.0, "llm_price_prompt": 1.0},
        {"llm_price_prompt": -1.0},
        {"llm_dtype": "int8"},
    ],
    ids=str,
)
def test_values_that_a_key_cannot_have(keys):
    with pytest.raises(ConfigError, match=next(iter(keys))) as raised:
        settings(**keys)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llm_api_key_env", "sk-a-key-itself"),
        ("llm_api_key_env", "AIzaSyLooksLikeAName"),
        ("llm_base_url", "https://name:password@host/v1"),
        ("llm_base_url", "https://host/v1?api-key=abc"),
        ("llm_base_url", "myhost:8123/v1"),
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_unseen(key, value):
    with pytest.raises(ConfigError, match=key) as raised:
        settings(**{key: value})
    assert value not in str(raised.value)
    assert "abc" not in str(raised.value)
