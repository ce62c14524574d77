"""The configuration keys of the LLM features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_cdsr.config_reading import choice, setting, whole_number, wrong
from recbole_cdsr.llm.encoder import TextEncoder
from recbole_cdsr.llm.encoder_settings import EncoderSettings

GENERATORS = ("extractive", "none")
ENCODINGS = ("vectors", "text")
PSEUDO_GENERATORS = ("retrieval",)


class FeatureSettings:
    """What a run's configuration says of its features, checked.

    Parameters
    ----------
    config
        Read by key as `recbole_cdsr.llm.build_llm_features` lists them.
    dataset_name
        Names the dataset's files.

    Raises
    ------
    ConfigError
        A key has a value it cannot have.
    """

    def __init__(self, config: Mapping[str, Any], dataset_name: str) -> None:
        self.dataset_name = dataset_name
        self.dataset_dir = Path(setting(config, "data_path", "."))
        self.domain_field = str(setting(config, "DOMAIN_FIELD", "domain"))
        self.features_dir = Path(setting(config, "llm_features_dir", self.dataset_dir / "features")).expanduser()
        self.encoder = EncoderSettings(config, dataset_name)
        self.item_features_file = _name_or_path(config, "item_features_file")
        generator = choice(config, "profile_generator", GENERATORS, default="extractive")
        self.use_profiles = bool(setting(config, "use_profiles", True)) and generator != "none"
        self.profile_encoding = choice(config, "profile_encoding", ENCODINGS, default="vectors")
        self.profile_clusters = whole_number(config, "profile_clusters", default=10)
        self.pseudo_generator = choice(config, "pseudo_generator", PSEUDO_GENERATORS, default="retrieval")
        self.pseudo_max_names = whole_number(config, "pseudo_max_names", default=10)
        self.pseudo_min_names = whole_number(config, "pseudo_min_names", default=3)
        if self.pseudo_min_names > self.pseudo_max_names:
            raise wrong("pseudo_min_names", self.pseudo_min_names, f"at most pseudo_max_names, {self.pseudo_max_names}")
        self.permute_seed: int | None = None
        if setting(config, "llm_permute_seed") is not None:
            self.permute_seed = whole_number(config, "llm_permute_seed", 0)
        self.device = setting(config, "device", "cpu")
        self.show_progress = bool(setting(config, "show_progress", True))

    def text_encoder(self) -> TextEncoder:
        """The encoder that is configured, not loaded yet; `FeatureError` when it is not found or refused."""
        return self.encoder.text_encoder()


def _name_or_path(config: Mapping[str, Any], key: str) -> str | None:
    value = setting(config, key)
    if value is not None and not isinstance(value, str):
        raise wrong(key, value, "a name or path")
    return value
