"""The directory of a run: configuration, checkpoints, result. Nothing trained is overwritten by a later run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import Any

import yaml

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.config_saved import NOT_TRAINING
from recbole_cdsr.errors import CheckpointError, ConfigError
from recbole_cdsr.files import replacing
from recbole_cdsr.locks import abandoned, hold

LAST = "last.pth"
BEST = "best.pth"
RESULT = "result.json"
CONFIG = "config.yaml"


class RunDirectory:
    """Where one run lives.

    By default `<checkpoint_dir>/<Model>-<dataset>-<seed>-<fingerprint>`, with `-2`, `-3`, … when a run of that name is
    there already; with `resume`, the newest of them that holds a checkpoint, or else the newest that was ended before
    its first epoch was kept. `run_dir` names it outright. Nothing is written before `open`.

    Parameters
    ----------
    config
        Keys `checkpoint_dir`, `run_dir`, `resume`, `model`, `dataset`, `seed`.

    Attributes
    ----------
    path
        The directory; None for a new run that is not open yet.
    resumed
        Whether there is a run to go on with.

    Raises
    ------
    ConfigError
        `run_dir` holds a run already and `resume` is not set.
    """

    def __init__(self, config: CDSRConfig) -> None:
        self._config = config
        self._root = Path(config["checkpoint_dir"])
        self._name = f"{config['model']}-{config['dataset']}-{config['seed']}-{config.fingerprint()}"
        self.path: Path | None = Path(config["run_dir"]) if config["run_dir"] else None
        if self.path is None and config["resume"]:
            self.path = self._newest_to_go_on_with()
        self.resumed = self.path is not None and (self.path / LAST).is_file()
        if self.resumed and not config["resume"]:
            raise ConfigError(f"run_dir {self.path} holds a run already; add --resume=True to go on, or name another.")

    def _numbers(self) -> list[int]:
        """Ascending numbers of the runs of this name; 1 carries no number in its name."""
        pattern = re.compile(re.escape(self._name) + r"(?:-(\d+))?")
        entries = self._root.iterdir() if self._root.is_dir() else ()
        return sorted(int(match[1] or 1) for path in entries if (match := pattern.fullmatch(path.name)))

    def _numbered(self, number: int) -> Path:
        return self._root / (self._name if number == 1 else f"{self._name}-{number}")

    def _newest_to_go_on_with(self) -> Path | None:
        newest_first = [self._numbered(number) for number in reversed(self._numbers())]
        kept = (path for path in newest_first if (path / LAST).is_file())
        return next(kept, None) or next(filter(_was_ended_before_an_epoch, newest_first), None)

    def open(self) -> Path:
        """Make the directory of a new run; find that of a resumed one.

        Returns
        -------
        Path
            The directory.

        Raises
        ------
        ConfigError
            It cannot be created.
        """
        if self.resumed:
            return self.path
        if self._config["resume"]:
            if self.path is not None and _was_ended_before_an_epoch(self.path):
                said = f"the run in {self.path} was ended before its first epoch was kept; it starts anew there."
            else:
                said = "there is no run of this configuration to go on with; a new one starts."
            getLogger().warning(f"resume: {said}")
        try:
            if self.path is None:
                self.path = self._claim()
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        return self.path

    def _not_writable(self, error: OSError) -> ConfigError:
        key = "run_dir" if self._config["run_dir"] else "checkpoint_dir"
        return ConfigError(
            f"The run directory cannot be made under {key} {self._config[key]} ({error.strerror}); "
            f"set {key} to a writable folder."
        )

    def _begin(self) -> None:
        """Write `config.yaml` of a new run, once nobody else is at work in its directory."""
        if self.resumed:
            return
        if self.last.is_file():
            raise ConfigError(
                f"Another process has begun a run in {self.path} meanwhile; name another run_dir, or add --resume=True "
                "once it has ended."
            )
        try:
            text = yaml.safe_dump(self._config.plain(), allow_unicode=True, sort_keys=True)
            with replacing(self.path / CONFIG) as part:
                part.write_text(text, encoding="utf-8")
        except OSError as error:
            raise self._not_writable(error) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the directory, which is open, for this process; two that train in it would undo each other's epochs.

        The `config.yaml` of a new run is written then.

        Raises
        ------
        ConfigError
            Another process trains in it, or has meanwhile, or `config.yaml` cannot be written.
        """
        try:
            held = hold(self.path)
        except OSError:  # a file system without locks
            self._begin()
            yield
            return
        if held is None:
            raise ConfigError(
                f"Another process is training in {self.path}; wait until it has ended, or start a run of your own "
                "without --resume."
            )
        try:
            self._begin()
            yield
        finally:
            os.close(held)

    def _claim(self) -> Path:
        self._root.mkdir(parents=True, exist_ok=True)
        number = max(self._numbers(), default=0) + 1
        while True:  # another process may take the same number first
            path = self._numbered(number)
            try:
                path.mkdir()
                return path
            except FileExistsError:
                number += 1

    def _file(self, name: str) -> Path:
        if self.path is None:
            raise CheckpointError("Nothing has been trained in this run yet; train first, or name a checkpoint.")
        return self.path / name

    @property
    def last(self) -> Path:
        """Checkpoint of the latest epoch, all that training needs to go on."""
        return self._file(LAST)

    def best(self, domain: str | None = None) -> Path:
        """Checkpoint of the selected epoch, overall or of one domain."""
        return self._file(BEST if domain is None else f"best_{domain}.pth")

    def check_same_run(self, saved: dict[str, Any], material: Mapping[str, str | None] | None = None) -> None:
        """Refuse to go on with a run that was configured otherwise or learnt from something else.

        Parameters
        ----------
        saved
            The run's `last` checkpoint.
        material
            What `recbole_cdsr.trainer.continuation.material_of` says of the present data; None compares none.

        Raises
        ------
        CheckpointError
            Naming up to five keys that differ, or what was learnt from.
        """
        if saved["fingerprint"] != self._config.fingerprint():
            now, then = self._config.plain(), saved["config"]
            differing = sorted(
                key for key in (now.keys() | then.keys()) - NOT_TRAINING if now.get(key) != then.get(key)
            )
            named = [f"{key} is {now.get(key)!r}, was {then.get(key)!r}" for key in differing[:5]]
            raise CheckpointError(
                f"{self.last} belongs to a run configured otherwise ({'; '.join(named) or 'by another version'}); "
                "resume with the same configuration, or start another run directory."
            )
        changed = [name for name, digest in (material or {}).items() if saved["material"][name] != digest]
        if changed:
            raise CheckpointError(
                f"{self.last} belongs to a run on other {' and '.join(changed)}; what was read for "
                f"'{self._config['dataset']}' has changed since, so start another run directory."
            )


def _was_ended_before_an_epoch(folder: Path) -> bool:
    """Whether a run began in a folder, is at work there no longer, and has kept no epoch that can be gone on with.

    A run that keeps no checkpoints leaves a result; where folders cannot be locked, nobody knows who is at work.
    """
    if not (folder / CONFIG).is_file() or (folder / LAST).is_file() or (folder / RESULT).is_file():
        return False
    return bool([*abandoned([folder])])
