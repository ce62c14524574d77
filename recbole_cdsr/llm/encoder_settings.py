"""The configuration keys of text encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from recbole_cdsr.config_llm_keys import CHOICES
from recbole_cdsr.config_reading import choice, number, setting, whole_number
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.llm.encoder import SentenceTransformerEncoder, TextEncoder
from recbole_cdsr.llm.encoder_sources import EncoderNotFoundError, encoder_name, locate_encoder
from recbole_cdsr.llm.generator_settings import GeneratorSettings, secret_free, text_setting
from recbole_cdsr.llm.request_limits import Prices

ENCODER_ONLY = "text encoder only (no LLM)"
MADE_BY = {
    "sentence-transformers": ENCODER_ONLY,
    "transformers": "states of a language model, used as text encoder",
    "openai": "embeddings service",
}


class EncoderSettings:
    """Which text encoder a configuration names, checked.

    Parameters
    ----------
    config
        Read by key as `props/overall.yaml` lists them: `llm_encoder`, `llm_encoder_*`, `llm_batch_size`, and what
        encoders share with generators (address, key, dtype, cache, prices, ...).
    dataset_name
        Names the dataset whose texts are encoded.

    Raises
    ------
    ConfigError
        A key has a value it cannot have.
    """

    def __init__(self, config: Mapping[str, Any], dataset_name: str) -> None:
        self.backend = choice(
            config, "llm_encoder_backend", CHOICES["llm_encoder_backend"], default="sentence-transformers"
        )
        self.encoder = text_setting(config, "llm_encoder")
        self.batch_size = whole_number(config, "llm_batch_size", default=128)
        self.pooling = choice(config, "llm_encoder_pooling", CHOICES["llm_encoder_pooling"], default="last")
        self.max_tokens = whole_number(config, "llm_encoder_max_tokens", default=512)
        self.dimensions: int | None = None
        if setting(config, "llm_encoder_dimensions") is not None:
            self.dimensions = whole_number(config, "llm_encoder_dimensions")
        self.base_url = secret_free(config, "llm_encoder_base_url") or secret_free(config, "llm_base_url")
        self.api_key_env = (
            secret_free(config, "llm_encoder_api_key_env") or secret_free(config, "llm_api_key_env") or "OPENAI_API_KEY"
        )
        self.price = None if setting(config, "llm_encoder_price") is None else number(config, "llm_encoder_price", 0)
        self.shared = GeneratorSettings(config, dataset_name)
        if self.backend != "sentence-transformers" and self.encoder is None:
            raise ConfigError(
                f"llm_encoder_backend is {self.backend}, but llm_encoder names no model; set llm_encoder."
            )

    @property
    def made_by(self) -> str:
        """What kind of model made features with it, for results."""
        return MADE_BY[self.backend]

    @property
    def name(self) -> str:
        """The name that features made with it are filed under, whether or not it can be found."""
        if self.backend == "transformers":
            from recbole_cdsr.llm.transformers_encoder import decoder_name

            return decoder_name(str(self.encoder), self.pooling)
        if self.backend == "openai":
            from recbole_cdsr.llm.openai_encoder import service_encoder_name

            return service_encoder_name(str(self.encoder), self.dimensions)
        return encoder_name(self.encoder)

    def text_encoder(self, asks: bool = True) -> TextEncoder:
        """The encoder, its weights not loaded and its service not asked yet.

        Parameters
        ----------
        asks
            Whether it is to encode at all; if not, as in a plan, no key of a service is needed.

        Raises
        ------
        FeatureError
            It is not found or refused, a library is missing, or there is no key.
        """
        shared = self.shared
        if self.backend == "transformers":
            from recbole_cdsr.llm.transformers_encoder import TransformersEncoder

            return TransformersEncoder(
                str(self.encoder),
                pooling=self.pooling,
                max_tokens=self.max_tokens,
                device=shared.device,
                dtype=shared.dtype,
                device_map=shared.device_map,
                batch_size=self.batch_size,
            )
        if self.backend == "openai":
            from recbole_cdsr.llm.openai_encoder import OpenAIEncoder

            return OpenAIEncoder(
                str(self.encoder),
                cache_file=shared.cache_file,
                base_url=self.base_url,
                api_key_env=self.api_key_env,
                dimensions=self.dimensions,
                batch_size=self.batch_size,
                concurrency=shared.concurrency,
                timeout=shared.timeout,
                limits=shared.limits()
                if self.price is None
                else replace(shared.limits(), prices=Prices(self.price, 0.0)),
                asks=asks,
            )
        return SentenceTransformerEncoder(self.encoder, device=shared.device, batch_size=self.batch_size)

    def expected(self, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a stored set must say of its encoder: name and settings, and the hashes when it is here to be hashed.

        Parameters
        ----------
        known
            What a feature set made before says of its encoder; where that is this one, by its name, and is not here, it
            tells the hashes.
        """
        known = known if known is not None and known.get("name") == self.name and "setup_sha256" in known else None
        if self.backend == "openai":
            return {"name": self.name, "backend": "openai", "dimensions": self.dimensions}
        if self.backend == "transformers":
            return self._expected_decoder(known)
        try:
            identity: Mapping[str, Any] = locate_encoder(self.encoder, download=False).identity()
        except EncoderNotFoundError:
            if known is None:
                return {"name": self.name}
            identity = known
        # The same weights and settings give the same vectors wherever they were found.
        by_hash = identity["weights_sha256"] is not None
        return {key: identity[key] for key in ("name", "weights_sha256", "setup_sha256")} | (
            {} if by_hash else {"revision": identity["revision"]}
        )

    def _expected_decoder(self, known: Mapping[str, Any] | None) -> dict[str, Any]:
        from recbole_cdsr.llm.local_models import locate_model

        named = {"name": self.name, "pooling": self.pooling, "max_tokens": self.max_tokens}
        if self.shared.dtype != "auto":  # which is another on another machine
            named["dtype"] = self.shared.dtype
        try:
            identity = locate_model("llm_encoder", str(self.encoder), download=False).identity()
        except EncoderNotFoundError:
            keys = ("revision", "weights_sha256", "setup_sha256")
            return named if known is None else {key: known[key] for key in keys} | named
        return identity | named
