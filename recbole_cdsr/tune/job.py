"""What is the same for every trial of a study: the model, the data, the fixed settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.config_names import LAUNCHER_KEYS
from recbole_cdsr.config_values import Plain, parse_command_line
from recbole_cdsr.data.loading import interaction_files
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.quick_start import run_recbole_cdsr
from recbole_cdsr.trainer.run_directory import LAST
from recbole_cdsr.tune.space import Space
from recbole_cdsr.tune.space_checks import check_space

# Each trial has its own; a study says where.
REFUSED = ("run_dir", "resume", "result_file", "checkpoint_dir")
# RecBole's mappings in the form the user wrote them; the final configuration holds what was made of them.
_AS_GIVEN = ("eval_args", "load_col")


@dataclass(frozen=True)
class Job:
    """One run but for what is drawn.

    Attributes
    ----------
    model, dataset
        Names; None takes them from the settings.
    config_files, command_line
        What is fixed, as `run_recbole_cdsr` takes it.
    """

    model: str | None
    dataset: str | None
    config_files: Sequence[str]
    command_line: Sequence[str]

    @cached_property
    def fixed(self) -> CDSRConfig:
        """The configuration without what is drawn."""
        return self._config({})

    def _config(self, drawn: Mapping[str, Plain]) -> CDSRConfig:
        return CDSRConfig(self.model, self.dataset, self.config_files, drawn, command_line=self.command_line)

    def check(self, space: Space) -> Space:
        """Refuse what every trial would be refused for; returns the space to draw from, see `check_space`.

        Raises
        ------
        CDSRError
            Naming the key and where it was set, or the dataset that is not there.
        """
        for key in REFUSED:
            if key in self.fixed.external_config_dict:
                raise ConfigError(f"{key} is each trial's own, below --output; remove it.")
        checked = check_space(space, self.fixed, parse_command_line(self.command_line)[0])
        interaction_files(Path(self.fixed["data_path"]), self.fixed["dataset"])
        return checked

    def run(
        self, drawn: Mapping[str, Plain], directory: Path, resume: bool, on_validation: Callable[[int, float], None]
    ) -> dict[str, Any]:
        """Train and judge with the settings drawn; see `run_recbole_cdsr`."""
        settings = {**drawn, "run_dir": str(directory), "resume": resume}
        if "show_progress" not in self.fixed.external_config_dict:
            settings["show_progress"] = False  # a bar for each epoch; a trial has one of its own
        return run_recbole_cdsr(
            self.model,
            self.dataset,
            self.config_files,
            settings,
            command_line=self.command_line,
            on_validation=on_validation,
        )

    def kept(self, directory: Path) -> list[int]:
        """When a run in this directory last kept an epoch, and when pre-training did that it may need.

        Epochs that are not validated are kept too, and those of pre-training lie with the features, where other runs of
        the same data keep theirs. Each is in nanoseconds since 1970, 0 for never.
        """
        found = [_newest([directory / LAST])]
        if self.fixed["model"] == "LLMCDSR":
            folder = FeatureSettings(self.fixed, self.fixed["dataset"]).features_dir / "pretraining"
            found.append(_newest([*folder.glob("*.unfinished"), *folder.glob("*.pth")]))
        return found

    def settings_with(self, drawn: Mapping[str, Plain]) -> dict[str, Plain]:
        """What a config file must hold to do such a run again: model, dataset, what the user fixed, what was drawn."""
        given, plain = self.fixed.external_config_dict, self._config(drawn).plain()
        kept = {key: given[key] if key in _AS_GIVEN else plain[key] for key in given if key in plain}
        settings = {"model": plain["model"], "dataset": plain["dataset"], **kept, **{key: plain[key] for key in drawn}}
        return {key: value for key, value in settings.items() if key not in LAUNCHER_KEYS}


def _newest(files: Iterable[Path]) -> int:
    """When the newest of some files was written; those that are not there count for nothing."""
    newest = 0
    for file in files:
        with suppress(OSError):
            newest = max(newest, file.stat().st_mtime_ns)
    return newest
