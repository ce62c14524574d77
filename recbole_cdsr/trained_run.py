"""A trained run as it lies on the disk: settings, data and model, for the commands that use what was trained."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.data.dataset import CrossDomainDataset
from recbole_cdsr.data.loaders import JudgedRowsLoader
from recbole_cdsr.errors import CheckpointError, ConfigError
from recbole_cdsr.model import trimmed_windows
from recbole_cdsr.quick_start import build_model, create_dataset, inject_features
from recbole_cdsr.trainer.checkpoint import load_checkpoint, restore_model
from recbole_cdsr.trainer.continuation import material_of
from recbole_cdsr.trainer.run_directory import BEST, LAST
from recbole_cdsr.warning_filters import quiet_known_warnings

# What a run keeps beside its checkpoints.
_KEPT = frozenset({"config.yaml", "result.json", "test_ranks.tsv"})
# What the commands read of a run's configuration before they take it for one.
_NEEDED = {"model": str, "dataset": str, "metrics": list, "topk": list, "valid_metric": str}
# What a run's configuration says of its own process.
_OWN_TO_THE_RUN = {"resume": False, "run_dir": None, "result_file": None, "log_wandb": False, "show_progress": True}


def selected_checkpoints(folder: Path) -> dict[str | None, Path]:
    """The selected checkpoints of a run: by domain where there is one for each, under None the one over all rows.

    Raises
    ------
    CheckpointError
        There is none.
    """
    found: dict[str | None, Path] = {
        path.stem.removeprefix("best_"): path for path in sorted(folder.glob("best_*.pth")) if path.is_file()
    }
    if (folder / BEST).is_file():
        found[None] = folder / BEST
    if not found:
        raise CheckpointError(f"{folder} holds no {BEST}; give the directory of a run that has trained an epoch.")
    return found


@dataclass(frozen=True)
class SavedRun:
    """What is known of a run before its data are read.

    Attributes
    ----------
    folder : Path
        Where its checkpoints lie.
    files : dict[str | None, Path]
        Checkpoint by domain, None for the one that serves all others.
    state : dict
        Content of one of them: `model`, `config`, `epoch` and the model's state.
    """

    folder: Path
    files: dict[str | None, Path]
    state: dict[str, Any]

    @classmethod
    def open(cls, place: Path) -> SavedRun:
        """Read a checkpoint, or the directory of a run.

        With `select: per_domain` a directory has a checkpoint for each domain, and a file named outright serves all
        domains.

        Raises
        ------
        CheckpointError
            There is no checkpoint of ours, or it cannot be read.
        """
        if not place.is_dir():
            return cls(place.parent, {None: place}, load_checkpoint(place))
        files = selected_checkpoints(place)
        saved = cls(place, files, load_checkpoint(files.get(None, next(iter(files.values())))))
        if None in files and saved.settings.get("select") != "per_domain":
            return replace(saved, files={None: files[None]})
        return saved

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration that the run was trained with, as plain data.

        Raises
        ------
        CheckpointError
            The checkpoint carries none.
        """
        settings = self.state.get("config")
        if not isinstance(settings, dict):
            raise CheckpointError(f"The checkpoint in {self.folder} carries no configuration; give one of a run.")
        damaged = [key for key, kind in _NEEDED.items() if not isinstance(settings.get(key), kind)]
        if damaged:
            raise CheckpointError(
                f"The configuration that the checkpoint in {self.folder} carries does not say its {damaged[0]}; give "
                "a checkpoint as a run has written it."
            )
        return settings

    def config(self, changes: Sequence[str] = (), **values: Any) -> CDSRConfig:
        """The settings of the run, but for what belongs to its own process.

        Parameters
        ----------
        changes
            Arguments `--key=value`.
        values
            Settings that take the place of the run's own; `changes` win over them.

        Raises
        ------
        ConfigError
            A setting cannot be honoured.
        """
        return CDSRConfig.from_plain(self.settings | _OWN_TO_THE_RUN | values, changes)

    def check_not_its_own(self, option: str, path: Path) -> None:
        """Refuse to write over what the run keeps.

        Raises
        ------
        ConfigError
            `path` is a checkpoint, the configuration, the result or the ranks of the run.
        """
        path = path.resolve()
        in_its_folder = path.parent == self.folder.resolve() and (path.name in _KEPT or path.suffix == ".pth")
        if in_its_folder or path in {file.resolve() for file in self.files.values()}:
            raise ConfigError(f"{option} {path.name} is a file of the run itself; name another file.")

    @property
    def material(self) -> dict[str, str | None] | None:
        """What the run learnt from, as `material_of` says it; None where neither the checkpoint nor `last.pth` does."""
        material = self.state.get("material")
        if material is None and (self.folder / LAST).is_file():
            material = load_checkpoint(self.folder / LAST).get("material")
        if not isinstance(material, dict | None):
            raise CheckpointError(
                f"The checkpoint in {self.folder} does not say what it was trained on; give one as a run has written "
                "it."
            )
        return material


class TrainedRun:
    """A trained model with the data it was trained on.

    Parameters
    ----------
    saved
        The run.
    config
        Its settings, as `saved.config` gave them.

    Attributes
    ----------
    saved, config
        As given.
    data : CrossDomainDataset
        All interactions.
    train : CrossDomainDataset
        The training split, on which models are built.
    valid, test : JudgedRowsLoader
        The rows that are judged.

    Raises
    ------
    CheckpointError
        The data are not those that the run was trained on.
    ConfigError, DataError, FeatureError
        Its configuration, data or features cannot be used here.
    """

    def __init__(self, saved: SavedRun, config: CDSRConfig) -> None:
        quiet_known_warnings()
        init_seed(config["seed"], config["reproducibility"])
        self.saved, self.config = saved, config
        self.data: CrossDomainDataset = create_dataset(config)
        self._material = saved.material or {}
        self._check_material("interactions")
        self.train, valid, test = self.data.build()
        # Some of RecBole's models read what the making of a loader puts into the configuration.
        self.valid, self.test = JudgedRowsLoader(config, valid), JudgedRowsLoader(config, test)
        self._models: dict[Path, AbstractRecommender] = {}

    def checkpoint_of(self, domain: str) -> Path:
        """The checkpoint that scores the items of a domain."""
        files = self.saved.files
        found = files.get(domain) or files.get(None)
        if found is None:  # a run killed before a domain was validated
            raise CheckpointError(
                f"{self.saved.folder} holds no checkpoint for the domain {domain}; name one with --checkpoint."
            )
        return found

    def model_of(self, domain: str) -> AbstractRecommender:
        """The model in the state that scores the items of a domain, on its device, switched to judging.

        Domains with the same checkpoint share one model.

        Raises
        ------
        CheckpointError
            The checkpoint does not fit, or the features are not those that it was trained with.
        """
        path = self.checkpoint_of(domain)
        if path not in self._models:
            self._models[path] = self._restored(path)
        return self._models[path]

    def _restored(self, path: Path) -> AbstractRecommender:
        # As in training: what a model draws when it is built and keeps in no checkpoint (NNCF: neighbours) is the same.
        init_seed(self.config["seed"] + self.config["local_rank"], self.config["reproducibility"])
        with contextlib.redirect_stdout(sys.stderr):  # what models of RecBole print is no part of a command's output
            model = build_model(self.config, self.train)
        inject_features(self.config, model, self.data)
        self._check_material("item features", "user profiles")
        if self.config[trimmed_windows.KEY]:
            trimmed_windows.trim(model)
        model = model.to(self.config["device"])
        restore_model(model, load_checkpoint(path), path)
        return model.eval()

    def _check_material(self, *names: str) -> None:
        now = material_of(self.data)
        self.check_learnt_from({name: now[name] for name in names})

    def check_learnt_from(self, now: Mapping[str, str | None]) -> None:
        """Refuse material that is not what the run learnt from; what it does not say is not compared.

        Parameters
        ----------
        now
            SHA-256 by name, as `material_of` gives it.

        Raises
        ------
        CheckpointError
            The run learnt from other material.
        """
        changed = [name for name, digest in now.items() if name in self._material and self._material[name] != digest]
        if changed:
            raise CheckpointError(
                f"The run in {self.saved.folder} was trained on other {' and '.join(changed)} than those of "
                f"'{self.data.dataset_name}' now; restore them or train anew."
            )
