"""The configuration keys of the LLM features, read once and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_cdsr.errors import ConfigError
from recbole_cdsr.llm.encoder import SentenceTransformerEncoder, TextEncoder

GENERATORS = ("extractive", "none")
ENCODINGS = ("vectors", "text")


class FeatureSettings:
    """The configuration keys of this room, read once and checked."""

    def __init__(self, config: Any, dataset_name: str) -> None:
        def read(key: str, default: Any = None) -> Any:
            try:
                value = config[key]
            except KeyError:
                value = None
            return default if value is None else value

        self.dataset_name = dataset_name
        self.dataset_dir = Path(read("data_path", "."))
        self.domain_field = str(read("DOMAIN_FIELD", "domain"))
        self.features_dir = Path(read("llm_features_dir", self.dataset_dir / "features")).expanduser()
        self.encoder: str | None = read("llm_encoder")
        self.batch_size = _positive("llm_batch_size", read("llm_batch_size", 128))
        self.item_features_file: str | None = read("item_features_file")
        generator = _one_of("profile_generator", read("profile_generator", "extractive"), GENERATORS)
        self.use_profiles = bool(read("use_profiles", True)) and generator != "none"
        self.profile_encoding = _one_of("profile_encoding", read("profile_encoding", "vectors"), ENCODINGS)
        self.profile_clusters = _positive("profile_clusters", read("profile_clusters", 10))
        self.permute_seed: int | None = read("llm_permute_seed")
        if self.permute_seed is not None and (type(self.permute_seed) is not int or self.permute_seed < 0):
            raise ConfigError(f"llm_permute_seed must be a whole number from 0 or empty, not {self.permute_seed!r}.")
        for key, value in (("llm_encoder", self.encoder), ("item_features_file", self.item_features_file)):
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"{key} must be a name or path, not {value!r}.")
        self.device = read("device", "cpu")
        self.show_progress = bool(read("show_progress", True))

    def text_encoder(self) -> TextEncoder:
        return SentenceTransformerEncoder(self.encoder, device=self.device, batch_size=self.batch_size)


def _positive(key: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ConfigError(f"{key} must be a whole number from 1, not {value!r}.")
    return value


def _one_of(key: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ConfigError(f"{key} must be one of {', '.join(choices)}, not {value!r}.")
    return value
