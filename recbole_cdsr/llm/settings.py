"""The configuration keys of the LLM features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_cdsr.config_reading import choice, setting, whole_number, wrong
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.llm.chat_prompts import LANGUAGES, TASKS, ChatPrompt, load_chat_prompt
from recbole_cdsr.llm.encoder import TextEncoder
from recbole_cdsr.llm.encoder_settings import EncoderSettings
from recbole_cdsr.llm.generator_settings import GeneratorSettings
from recbole_cdsr.llm.prompts import ItemPrompt, load_item_prompt

PROMPT_TASKS = ("item", *TASKS)

GENERATORS = ("extractive", "none", "llm")
ENCODINGS = ("vectors", "text")
STYLES = ("hierarchical", "flat")
PSEUDO_GENERATORS = ("retrieval", "llm")
EXTRACTIONS = ("llm", "parser")


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
        self.config = config
        self.profile_generator = choice(config, "profile_generator", GENERATORS, default="extractive")
        self.use_profiles = bool(setting(config, "use_profiles", True)) and self.profile_generator != "none"
        self.profile_style = choice(config, "profile_style", STYLES, default="hierarchical")
        self.profile_encoding = choice(config, "profile_encoding", ENCODINGS, default="vectors")
        self.profile_clusters = whole_number(config, "profile_clusters", default=10)
        self.pseudo_generator = choice(config, "pseudo_generator", PSEUDO_GENERATORS, default="retrieval")
        self.pseudo_max_names = whole_number(config, "pseudo_max_names", default=10)
        self.pseudo_min_names = whole_number(config, "pseudo_min_names", default=3)
        if self.pseudo_min_names > self.pseudo_max_names:
            raise wrong("pseudo_min_names", self.pseudo_min_names, f"at most pseudo_max_names, {self.pseudo_max_names}")
        self.pseudo_extraction = choice(config, "pseudo_extraction", EXTRACTIONS, default="llm")
        self.pseudo_shots = whole_number(config, "pseudo_shots", 0, default=3)
        self.pseudo_seed = whole_number(config, "pseudo_seed", 0, default=2026)
        self.prompt_language = choice(config, "prompt_language", LANGUAGES, default="en")
        self.prompt_files = _prompt_files(config)
        self.history_tokens = whole_number(config, "prompt_history_tokens", default=1000)
        self.permute_seed: int | None = None
        if setting(config, "llm_permute_seed") is not None:
            self.permute_seed = whole_number(config, "llm_permute_seed", 0)
        self.device = setting(config, "device", "cpu")
        self.show_progress = bool(setting(config, "show_progress", True))

    def check_writers(self, pseudo_items: bool) -> None:
        """Refuse what no LLM could write before the item features are made, which takes minutes.

        Parameters
        ----------
        pseudo_items
            Whether pseudo items are read.

        Raises
        ------
        ConfigError
            An LLM is to write, and none is configured or no model is named.
        """
        to_write = {"profiles": self.use_profiles and self.profile_generator == "llm"}
        to_write["pseudo items"] = pseudo_items and self.pseudo_generator == "llm"
        for feature, by_llm in to_write.items():
            if by_llm:
                self.generator_settings().check_can_write(feature)

    def text_encoder(self, asks: bool = True) -> TextEncoder:
        """The encoder that is configured, not loaded yet; `FeatureError` when it is not found or refused.

        With `asks` False, as for a plan, no key of a service is needed.
        """
        return self.encoder.text_encoder(asks)

    def item_prompt(self) -> ItemPrompt:
        """The wording of item texts."""
        return load_item_prompt(self.prompt_files.get("item", f"item_{self.prompt_language}"))

    def chat_prompts(self, *tasks: str) -> dict[str, ChatPrompt]:
        """The wordings of some tasks, by task."""
        return {task: load_chat_prompt(task, self.prompt_language, self.prompt_files.get(task)) for task in tasks}

    def generator_settings(self) -> GeneratorSettings:
        """What the configuration says of language models that write."""
        return GeneratorSettings(self.config, self.dataset_name)


def _prompt_files(config: Mapping[str, Any]) -> dict[str, str]:
    value = setting(config, "prompt_files", {})
    if not isinstance(value, Mapping) or not all(isinstance(file, str) and file for file in value.values()):
        raise wrong("prompt_files", value, "a mapping of tasks to files, such as {analyser: my_prompt.yaml}")
    unknown = [task for task in value if task not in PROMPT_TASKS]
    if unknown:
        raise ConfigError(f"prompt_files names the task {unknown[0]!r}; tasks are {', '.join(PROMPT_TASKS)}.")
    return dict(value)


def _name_or_path(config: Mapping[str, Any], key: str) -> str | None:
    value = setting(config, key)
    if value is not None and not isinstance(value, str):
        raise wrong(key, value, "a name or path")
    return value
