"""The configuration keys of generators, requests and their cache."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_cdsr.config_llm_keys import ASK_AGAIN, CHOICES, fault_in_secret
from recbole_cdsr.config_reading import choice, number, setting, whole_number, wrong
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.llm.generator import Chat, OfflineGenerator, TextGenerator
from recbole_cdsr.llm.request_limits import Prices, RequestLimits, read_shard
from recbole_cdsr.llm.response_cache import ResponseCache

CACHE_NAME = "llm_cache.sqlite"


class GeneratorSettings:
    """What a run's configuration says of language models that write, checked.

    Parameters
    ----------
    config
        Read by key; a missing key or None means the default that `props/overall.yaml` states. The keys are those
        that begin with `llm_`, and `data_path`, `device`, `show_progress`.
    dataset_name
        Names the dataset whose requests are made.

    Raises
    ------
    ConfigError
        A key has a value it cannot have.
    """

    def __init__(self, config: Mapping[str, Any], dataset_name: str) -> None:
        self.dataset_name = dataset_name
        self.generator = choice(config, "llm_generator", CHOICES["llm_generator"], default="offline")
        self.model = text_setting(config, "llm_model")
        self.base_url = secret_free(config, "llm_base_url")
        self.api_key_env = secret_free(config, "llm_api_key_env") or "OPENAI_API_KEY"
        self.max_new_tokens = whole_number(config, "llm_max_new_tokens", default=512)
        self.temperature = number({"llm_temperature": 0.0} | _given(config, "llm_temperature"), "llm_temperature", 0)
        self.extra_parameters = _parameters(config)
        self.tokenizer = text_setting(config, "llm_tokenizer")
        self.generator_batch_size = whole_number(config, "llm_generator_batch_size", default=8)
        self.dtype = choice(config, "llm_dtype", CHOICES["llm_dtype"], default="auto")
        self.device_map = text_setting(config, "llm_device_map")
        self.concurrency = whole_number(config, "llm_concurrency", default=16)
        self.timeout = positive_seconds(config, "llm_timeout", 120.0)
        self.max_attempts = whole_number(config, "llm_max_attempts", default=6)
        self.cache_file = cache_file(config)
        self.ask_again = _ask_again(config)
        self.prices = read_prices(config)
        self.max_cost = read_max_cost(config, self.prices)
        self.device = str(setting(config, "device", "cpu"))
        self.show_progress = bool(setting(config, "show_progress", True))

    def text_generator(
        self, method: str, write: Callable[[Sequence[Chat]], Sequence[str]] | None = None, asks: bool = True
    ) -> TextGenerator:
        """The generator that is configured; models are not loaded and services not asked yet.

        Parameters
        ----------
        method, write
            What the offline generator is made of (see `OfflineGenerator`), where no LLM is configured.
        asks
            Whether it is to write at all; if not, as in a plan, no key of a service is needed.

        Raises
        ------
        ConfigError
            A model is needed and none is named.
        FeatureError
            A library is missing, the key's environment variable is not set, or a model is not found.
        """
        if self.generator == "offline":
            return OfflineGenerator(method, write)
        self.check_model()
        if self.generator == "openai":
            from recbole_cdsr.llm.openai_generator import OpenAIGenerator

            return OpenAIGenerator(
                self.model,
                base_url=self.base_url,
                api_key_env=self.api_key_env,
                max_new_tokens=self.max_new_tokens,
                temperature=self.temperature,
                extra_parameters=self.extra_parameters,
                concurrency=self.concurrency,
                timeout=self.timeout,
                tokenizer=self.tokenizer,
                asks=asks,
            )
        from recbole_cdsr.llm.transformers_generator import TransformersGenerator

        return TransformersGenerator(
            self.model,
            device=self.device,
            dtype=self.dtype,
            device_map=self.device_map,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            extra_parameters=self.extra_parameters,
            batch_size=self.generator_batch_size,
        )

    def check_can_write(self, feature: str) -> None:
        """`ConfigError` when an LLM is to write a feature and none is configured, or no model is named."""
        if self.generator == "offline":
            raise ConfigError(
                f"An LLM is to write the {feature}, but llm_generator is offline; set llm_generator=openai or "
                "llm_generator=transformers, and llm_model."
            )
        self.check_model()

    def check_model(self) -> None:
        """`ConfigError` when an LLM is configured and no model is named."""
        if self.generator != "offline" and self.model is None:
            raise ConfigError(f"llm_generator is {self.generator}, but llm_model names no model; set llm_model.")

    def open_cache(self, read_only: bool = False) -> ResponseCache:
        """The dataset's response cache; `FeatureError` when it cannot be opened or written."""
        return ResponseCache(self.cache_file, read_only=read_only)

    def limits(self, shard: str | None = None) -> RequestLimits:
        """How requests are made.

        Parameters
        ----------
        shard
            `i/n` with i from 1 to n: ask only this part of the requests; None asks them all.
        """
        return RequestLimits(
            max_attempts=self.max_attempts,
            shard=None if shard is None else read_shard(shard),
            prices=self.prices,
            max_cost=self.max_cost,
            max_completion_tokens=self.max_new_tokens,
            ask_again=self.ask_again,
            show_progress=self.show_progress,
        )


def cache_file(config: Mapping[str, Any]) -> Path:
    """Where a configuration keeps answers: `llm_cache_file`, else beside the features of the dataset."""
    given = text_setting(config, "llm_cache_file")
    if given is not None:
        return Path(given).expanduser()
    folder = Path(setting(config, "llm_features_dir", Path(setting(config, "data_path", ".")) / "features"))
    return folder.expanduser() / CACHE_NAME


def text_setting(config: Mapping[str, Any], key: str) -> str | None:
    """A text or None; `ConfigError` otherwise."""
    value = setting(config, key)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise wrong(key, value, "a text")
    return value


def secret_free(config: Mapping[str, Any], key: str) -> str | None:
    """An address, or the name of a key's environment variable; `ConfigError` that does not show it otherwise."""
    value = setting(config, key)
    if value is None:
        return None
    reason = fault_in_secret(key, value if isinstance(value, str) else "?")
    if reason is not None:
        raise ConfigError(f"{key} {reason}")
    return value


def read_prices(config: Mapping[str, Any]) -> Prices | None:
    """Prices per million tokens; None when neither is set, 0 for the one that is not.

    Where no LLM is configured, the price of encoding is enough to reckon with.
    """
    keys = ("llm_price_prompt", "llm_price_completion")
    if all(setting(config, key) is None for key in keys):
        only_encodes = setting(config, "llm_generator", "offline") == "offline"
        return Prices(0.0, 0.0) if only_encodes and setting(config, "llm_encoder_price") is not None else None
    return Prices(*(0.0 if setting(config, key) is None else number(config, key, 0) for key in keys))


def read_max_cost(config: Mapping[str, Any], prices: Prices | None) -> float | None:
    """What one run may spend; `ConfigError` when there are no prices to reckon with."""
    if setting(config, "llm_max_cost") is None:
        return None
    if prices is None:
        raise ConfigError(
            "llm_max_cost is set, but llm_price_prompt and llm_price_completion are not; set the prices of a million "
            "tokens, or remove llm_max_cost."
        )
    value = number(config, "llm_max_cost", 0)
    if value == 0:
        raise wrong("llm_max_cost", value, "more than 0")
    return value


def positive_seconds(config: Mapping[str, Any], key: str, default: float) -> float:
    """A number of seconds above 0; `ConfigError` otherwise."""
    value = number({key: default} | _given(config, key), key, 0)
    if value == 0:
        raise wrong(key, value, "more than 0 seconds")
    return value


def _given(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = setting(config, key)
    return {} if value is None else {key: value}


def _parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    value = setting(config, "llm_extra_parameters", {})
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and re.fullmatch(r"\w+", key) for key in value):
        raise wrong("llm_extra_parameters", value, "a mapping of parameters, such as {top_p: 0.9}")
    return dict(value)


def _ask_again(config: Mapping[str, Any]) -> frozenset[str]:
    value = setting(config, "llm_ask_again", [])
    kinds = [value] if isinstance(value, str) else value
    if not isinstance(kinds, list | tuple | frozenset) or not set(kinds) <= set(ASK_AGAIN):
        raise wrong("llm_ask_again", value, f"a list of some of {', '.join(ASK_AGAIN)}")
    return frozenset(kinds)
