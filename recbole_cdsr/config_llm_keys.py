"""What values the configuration keys of language models take; `config_checks` puts them among all others."""

from __future__ import annotations

import re
from typing import Any

# Keys whose default is null, with the kind they take when they are set.
NULLABLE: dict[str, type] = {
    "llm_model": str,
    "llm_base_url": str,
    "llm_extra_parameters": dict,
    "llm_tokenizer": str,
    "llm_device_map": str,
    "llm_cache_file": str,
    "llm_ask_again": list,
    "llm_price_prompt": float,
    "llm_price_completion": float,
    "llm_max_cost": float,
    "llm_encoder_dimensions": int,
    "llm_encoder_base_url": str,
    "llm_encoder_api_key_env": str,
    "llm_encoder_price": float,
}
NEVER_NULL = frozenset({"llm_generator", "llm_encoder_backend", "llm_encoder_pooling", "llm_dtype", "llm_api_key_env"})
EXAMPLES: dict[str, str] = {"llm_extra_parameters": "{top_p: 0.9}", "llm_ask_again": "[empty, truncated]"}
CHOICES: dict[str, tuple[Any, ...]] = {
    "llm_generator": ("offline", "openai", "transformers"),
    "llm_encoder_backend": ("sentence-transformers", "transformers", "openai"),
    "llm_encoder_pooling": ("last", "mean"),
    "llm_dtype": ("auto", "bfloat16", "float16", "float32"),
}
ASK_AGAIN = ("empty", "truncated", "refused")
AT_LEAST: dict[str, float] = {
    "llm_max_new_tokens": 1,
    "llm_temperature": 0,
    "llm_generator_batch_size": 1,
    "llm_concurrency": 1,
    "llm_max_attempts": 1,
    "llm_price_prompt": 0,
    "llm_price_completion": 0,
    "llm_encoder_max_tokens": 1,
    "llm_encoder_dimensions": 1,
    "llm_encoder_price": 0,
}
MORE_THAN_0 = ("llm_timeout", "llm_max_cost")
# Where answers come from and what they cost says nothing about what is trained on them.
NOT_TRAINING = frozenset(
    [
        "llm_base_url",
        "llm_api_key_env",
        "llm_tokenizer",
        "llm_generator_batch_size",
        "llm_device_map",
        "llm_concurrency",
        "llm_timeout",
        "llm_max_attempts",
        "llm_cache_file",
        "llm_ask_again",
        "llm_price_prompt",
        "llm_price_completion",
        "llm_max_cost",
        "llm_encoder_base_url",
        "llm_encoder_api_key_env",
        "llm_encoder_price",
    ]
)
# A key in a configuration would be written to logs, checkpoints and results.
REFUSED: dict[str, str] = dict.fromkeys(
    ("llm_api_key", "llm_encoder_api_key", "openai_api_key", "api_key"),
    "a key would be written to logs and results; put it into an environment variable and name that with "
    "llm_api_key_env",
)


def fault_in_secret(key: str, value: Any) -> str | None:
    """What is wrong with a setting that a secret may have been put into by mistake, never showing its value.

    Parameters
    ----------
    key
        Any configuration key.
    value
        What it was set to.

    Returns
    -------
    str or None
        The end of a sentence that begins with the key; None when nothing is wrong or the key is of no such kind.
    """
    if not isinstance(value, str):
        return None
    if key.endswith("_api_key_env") and not re.fullmatch(r"[A-Z][A-Z0-9_]*", value):
        return (
            "takes the name of an environment variable in capitals, such as OPENAI_API_KEY, not the key itself; "
            "its value is not shown here, for it may be one."
        )
    if key in ("llm_base_url", "llm_encoder_base_url"):
        address = re.fullmatch(r"https?://([^/?#@\s]+)(/[^?#\s]*)?", value)
        if address is None:
            return (
                "takes an address such as http://localhost:8000/v1, without a user name, a password or anything "
                "after a question mark; its value is not shown here, for it may hold a secret."
            )
    return None
