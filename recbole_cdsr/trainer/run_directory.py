"""The directory of a run: configuration, checkpoints, result. Nothing trained is overwritten by a later run."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.errors import CheckpointError, ConfigError

LAST = "last.pth"
BEST = "best.pth"


class RunDirectory:
    """Where one run lives.

    By default `<checkpoint_dir>/<Model>-<dataset>-<seed>-<fingerprint>`, with `-2`, `-3`, … when a run of that name is
    there already; with `resume`, the newest of them that holds a checkpoint. `run_dir` names it outright.

    Parameters
    ----------
    config
        Keys `checkpoint_dir`, `run_dir`, `resume`, `model`, `dataset`, `seed`.

    Raises
    ------
    ConfigError
        `run_dir` holds a run already and `resume` is not set, or it cannot be created.
    """

    def __init__(self, config: CDSRConfig) -> None:
        self.resumed = False
        try:
            self.path = self._named(config) if config["run_dir"] else self._derived(config)
        except OSError as error:
            raise ConfigError(
                f"The run directory cannot be created under {config['run_dir'] or config['checkpoint_dir']} "
                f"({error.strerror}); set checkpoint_dir to a writable folder."
            ) from error
        if not self.resumed:
            text = yaml.safe_dump(config.plain(), allow_unicode=True, sort_keys=True)
            (self.path / "config.yaml").write_text(text, encoding="utf-8")

    def _named(self, config: CDSRConfig) -> Path:
        path = Path(config["run_dir"])
        if (path / LAST).is_file():
            if not config["resume"]:
                raise ConfigError(f"run_dir {path} holds a run already; add --resume=True to go on, or name another.")
            self.resumed = True
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _derived(self, config: CDSRConfig) -> Path:
        root = Path(config["checkpoint_dir"])
        root.mkdir(parents=True, exist_ok=True)
        name = f"{config['model']}-{config['dataset']}-{config['seed']}-{config.fingerprint()}"
        pattern = re.compile(re.escape(name) + r"(?:-(\d+))?")
        numbers = sorted(
            int(match[1] or 1) for path in root.iterdir() if (match := pattern.fullmatch(path.name)) and path.is_dir()
        )
        if config["resume"]:
            for number in reversed(numbers):
                path = root / (name if number == 1 else f"{name}-{number}")
                if (path / LAST).is_file():
                    self.resumed = True
                    return path
        number = (numbers[-1] if numbers else 0) + 1
        while True:  # another process may take the same number first
            path = root / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
                return path
            except FileExistsError:
                number += 1

    @property
    def last(self) -> Path:
        """Checkpoint of the latest epoch, all that training needs to go on."""
        return self.path / LAST

    def best(self, domain: str | None = None) -> Path:
        """Checkpoint of the selected epoch, overall or of one domain."""
        return self.path / (BEST if domain is None else f"best_{domain}.pth")

    def check_same_run(self, saved: dict, config: CDSRConfig) -> None:
        """Refuse to go on with a run that was configured otherwise.

        Raises
        ------
        CheckpointError
            Naming up to five keys that differ.
        """
        if saved["fingerprint"] == config.fingerprint():
            return
        now, then = config.plain(), saved["config"]
        differing = sorted(key for key in now.keys() | then.keys() if now.get(key) != then.get(key))
        raise CheckpointError(
            f"{self.last} belongs to a run configured otherwise ({', '.join(differing[:5])}); "
            "resume with the same configuration, or start another run directory."
        )
