"""What a run leaves behind: its result as plain data and as a JSON file, described in `docs/results_format.md`."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import pandas
import recbole
import torch

from recbole_cdsr import __version__
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.data.dataset import CrossDomainDataset
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.files import replacing
from recbole_cdsr.model.injection_settings import variant
from recbole_cdsr.trainer.judging import excludes_history

NOT_APPLICABLE = "n/a"


def header(config: CDSRConfig, data: CrossDomainDataset) -> dict[str, Any]:
    """What was run, on what data, with whose features, by which command, on which machine."""
    settings = config.plain()
    return {
        "model": config["model"],
        "variant": variant(config),
        "dataset": config["dataset"],
        "seed": config["seed"],
        "synthetic": data.card.synthetic if data.card is not None else None,
        "features": data.features_provenance,
        "pseudo_items": data.pseudo_items_provenance,
        "fold_in": data.fold_in,
        "eval_candidates": config["eval_candidates"],
        "excludes_history": excludes_history(config),
        "config": {key: _from_here(value) if isinstance(value, str) else value for key, value in settings.items()},
        "card": data.card.to_dict() if data.card is not None else None,
        "command": _from_here(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "environment": environment(config["device"]),
    }


def of_run(
    config: CDSRConfig, data: CrossDomainDataset, trainer: Any, best_score: float, best_valid: dict[str, float]
) -> dict[str, Any]:
    """The result of a run, but for its directory and its times.

    Parameters
    ----------
    config, data
        Of the run.
    trainer
        Has trained, and has judged the test split last.
    best_score, best_valid
        What it selected by, and all metrics of the selected state on the validation split.
    """
    selection = trainer.domain_selection
    return header(config, data) | {
        "injection": getattr(trainer.model, "llm_injection", None),
        "best_valid_score": float(best_score) if math.isfinite(best_score) else None,
        "best_valid": best_valid,
        "best_epoch": trainer.best_epoch if selection is None else dict(selection.epochs),
        "test": trainer.report.as_result_dict(),
        "notes": trainer.notes,
        "epochs": len(trainer.train_loss_dict),
        "budget": trainer.ended_by_cap,
        "train_losses": [float(loss) for loss in trainer.train_loss_dict.values()],
        "valid_scores": [{"epoch": epoch, "score": score} for epoch, score in trainer.valid_scores.items()],
    }


def not_applicable(config: CDSRConfig, data: CrossDomainDataset, reason: str, seconds: float) -> dict[str, Any]:
    """The result of a model that the protocol has nothing to judge by on this dataset."""
    cells = dict.fromkeys(("overall", "domains", "groups"), NOT_APPLICABLE)
    return header(config, data) | {
        "injection": None,
        "best_valid_score": None,
        "best_valid": NOT_APPLICABLE,
        "best_epoch": None,
        "test": cells | {name: dict(cells) for name in config["eval_candidates"]},
        "notes": {},
        "reason": reason,
        "epochs": 0,
        "budget": False,
        "train_losses": [],
        "valid_scores": [],
        "seconds": {"features": 0.0, "training": 0.0, "evaluation": 0.0, "total": seconds},
        "run_dir": None,
    }


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and machine."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "recbole_cdsr": __version__,
        "recbole": recbole.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pandas": pandas.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": gpu or device.type,
    }


def check_writable(path: str | None) -> None:
    """Refuse a result file that could not be written, before hours of training; nothing is created yet.

    Raises
    ------
    ConfigError
        It is a folder, a pipe or a device, or lies in a folder that cannot be written.
    """
    if path is None:
        return
    file = Path(path).absolute()
    if file.is_dir():
        raise ConfigError(f"result_file {path} is a folder; name a file in it.")
    if file.exists() and not file.is_file():
        raise ConfigError(f"result_file {path} is no regular file; name another one.")
    nearest = next(parent for parent in file.parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"result_file {path} cannot be written below {nearest}; name a file in a writable folder.")


def write(result: dict[str, Any], path: str | Path) -> None:
    """Write a result as JSON.

    Raises
    ------
    ConfigError
        The file cannot be written, saying where else the result is.
    """
    file = Path(path)
    # A card is YAML and may hold dates. Nothing in a result may make hours of training fail here.
    text = json.dumps(_finite(result), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        kept = f"; the result is in {result['run_dir']}" if result["run_dir"] else ""
        raise ConfigError(f"The result file {file} could not be written ({error.strerror}){kept}.") from error


def run_directory(path: Path) -> str:
    """A run's directory as a result names it: relative to the working directory where it lies below it."""
    return _from_here(str(path))


def _from_here(text: str) -> str:
    """Paths below the working directory without its name in front, which means nothing on another machine."""
    here = rf"(?<![^\s=,:\"'\[]){re.escape(os.getcwd())}"
    text = re.sub(rf"{here}/*(?=[\s,\"'\]]|$)", ".", text)
    return re.sub(rf"{here}/+", "", text)


def _finite(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
