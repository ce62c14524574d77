"""The whole job, from a model's and a dataset's name to a table and a result file."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

import recbole.data.dataset
import torch
from recbole.data.transform import construct_transform
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import get_environment, get_flops, init_logger, init_seed, set_color

from recbole_cdsr import __version__
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.data.dataset import CrossDomainGeneralDataset, CrossDomainSequentialDataset
from recbole_cdsr.data.loaders import prepare_loaders
from recbole_cdsr.data.loading import interaction_files
from recbole_cdsr.data.user_tables import has_user_table
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.files import replacing
from recbole_cdsr.trainer import check_valid_metric, trainer_class_for
from recbole_cdsr.warning_filters import quiet_known_warnings

NOT_APPLICABLE = "n/a"
CrossDomainDataset = CrossDomainSequentialDataset | CrossDomainGeneralDataset


def run_recbole_cdsr(
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
    command_line: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Train a model of ours or of RecBole and judge it under the cross-domain protocol.

    Parameters
    ----------
    model, dataset
        Names; taken from the configuration when None.
    config_file_list, config_dict
        As in `recbole.quick_start.run_recbole`.
    saved
        Keep checkpoints and judge the selected one; without, no run directory is made and the last epoch is judged.
    command_line
        Arguments `--key=value`, which win over everything else; None reads `sys.argv`.

    Returns
    -------
    dict
        What `result_file` is given: `model`, `dataset`, `seed`, `synthetic`, `features`, `best_valid`, `test`,
        `epochs`, `seconds`, `environment` and more; see `docs/results.md`.

    Raises
    ------
    CDSRError
        A mistake the user can mend.
    """
    started = time()
    config = CDSRConfig(model, dataset, config_file_list, config_dict, command_line=command_line)
    _check_writable(config["result_file"])
    interaction_files(Path(config["data_path"]), config["dataset"])  # a wrong name is answered before all else
    init_seed(config["seed"], config["reproducibility"])
    _start_logging(config)
    logger = logging.getLogger()
    logger.info(config)
    config.log_notices(logger)

    data = create_dataset(config)
    logger.info(data)
    train_data, valid_data, test_data = prepare_loaders(config, data)
    check_valid_metric(config["valid_metric"], data.domain_names, valid_data._dataset.evaluation_rows())

    unseen = _rows_out_of_reach(config, valid_data, test_data)
    if unseen:
        logger.warning(unseen)
        return _write(_not_applicable(config, data, unseen, time() - started), config["result_file"])

    features_started = time()
    if getattr(config.model_class, "uses_llm_features", False):
        _ = data.llm_features  # made before the seed is set: it must not matter whether they were there already
    features_seconds = time() - features_started

    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    network = _build_model(config, train_data._dataset)
    logger.info(network)
    _log_flops(config, network, data)

    trainer = trainer_class_for(config["MODEL_TYPE"], config["model"])(config, network)
    trainer.started = started
    with _packages_of_recbole_models(config):
        best_score, best_valid = trainer.fit(train_data, valid_data, saved=saved, show_progress=config["show_progress"])
    if saved and trainer.domain_selection is not None:  # RecBole's best is one epoch; here each domain has its own
        best_valid = trainer.evaluate(valid_data, show_progress=config["show_progress"])
    trainer.evaluate(test_data, load_best_model=saved, show_progress=config["show_progress"])
    trainer.tensorboard.close()

    logger.info("The running environment of this training is as follows:\n" + get_environment(config).draw())
    logger.info(set_color("best valid ", "yellow") + f": {dict(best_valid or {})}")
    logger.info(set_color("test result", "yellow") + f": \n{trainer.report.table()}")
    if data.card is not None and data.card.synthetic:
        logger.warning(f"'{config['dataset']}' is SYNTHETIC data: this table says nothing about real users.")

    selection = trainer.domain_selection
    result = _header(config, data) | {
        "best_valid_score": float(best_score) if math.isfinite(best_score) else None,
        "best_valid": dict(best_valid or {}),
        "best_epoch": trainer.best_epoch if selection is None else dict(selection.epochs),
        "test": trainer.report.as_result_dict(),
        "epochs": len(trainer.train_loss_dict),
        "train_losses": [float(loss) for loss in trainer.train_loss_dict.values()],
        "seconds": {
            "features": features_seconds,
            **trainer.seconds,
            "total": trainer.seconds_before + time() - started,
        },
        "run_dir": str(trainer.run.path) if saved else None,
    }
    if saved:
        _write(result, trainer.run.path / "result.json")
    return _write(result, config["result_file"])


def create_dataset(config: CDSRConfig) -> CrossDomainDataset:
    """The dataset a model takes: windows for sequential models, interactions for the others.

    Raises
    ------
    ConfigError
        The model wants a dataset class of its own (DIEN, KSR, GRU4RecKG), whose rows are not the protocol's.
    """
    own = f"{config['model']}Dataset"
    if config.model_class.__module__.startswith("recbole.") and hasattr(recbole.data.dataset, own):
        raise ConfigError(
            f"{config['model']} takes rows that only RecBole's {own} makes, and here all models share the rows of the "
            "protocol; choose another model."
        )
    sequential = config["MODEL_TYPE"].name == "SEQUENTIAL"
    return (CrossDomainSequentialDataset if sequential else CrossDomainGeneralDataset)(config)


def _start_logging(config: CDSRConfig) -> None:
    try:
        init_logger(config)
    except OSError as error:
        raise ConfigError(
            f"The folder for logs, {Path('log').absolute()}, cannot be written ({error.strerror}); start the command "
            "in a writable folder."
        ) from error
    quiet_known_warnings()


@contextmanager
def _packages_of_recbole_models(config: CDSRConfig) -> Iterator[None]:
    """Some of RecBole's models import what they need when they train (NCL: faiss)."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(f"{config['model']} needs the package {error.name}; install it.") from error


def _log_flops(config: CDSRConfig, network: AbstractRecommender, data: CrossDomainDataset) -> None:
    logger = logging.getLogger()
    try:
        flops = get_flops(network, data, config["device"], logger, construct_transform(config))
    except (AssertionError, NotImplementedError) as error:  # models without `predict`, e.g. SASRecCPR
        logger.warning(f"FLOPs of {config['model']} cannot be counted: {error or 'it predicts no single items'}.")
    else:
        logger.info(set_color("FLOPs", "blue") + f": {flops}")


def _build_model(config: CDSRConfig, dataset: CrossDomainDataset) -> AbstractRecommender:
    try:
        network = config.model_class(config, dataset)
    except (ValueError, NotImplementedError, KeyError) as error:
        if config.model_class.__module__.startswith("recbole_cdsr."):
            raise
        # RecBole's models check their settings and fields with these.
        raise ConfigError(
            f"{config['model']} cannot be built with these settings on '{config['dataset']}' "
            f"({type(error).__name__}: {error}); change the setting or the columns it names."
        ) from error
    return network.to(config["device"])


def _rows_out_of_reach(config: CDSRConfig, *loaders) -> str | None:
    """Why a model with a user table cannot be judged here, if it cannot (protocol, point 3)."""
    if not has_user_table(config.model_class):
        return None
    unseen = {loader._dataset.phase: int(loader._dataset.judged_users_unseen().sum()) for loader in loaders}
    if not any(unseen.values()):
        return None
    return (
        f"{config['model']} has a table of users, and {unseen['valid']} validation and {unseen['test']} test rows "
        "belong to users without a training interaction: n/a. Set fold_in to train on their input histories."
    )


def _header(config: CDSRConfig, data: CrossDomainDataset) -> dict[str, Any]:
    features = data._shared.get("llm_features")
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "synthetic": data.card.synthetic if data.card is not None else None,
        "features": features.provenance if features is not None else None,
        "fold_in": data.fold_in,
        "eval_candidates": config["eval_candidates"],
        "config": config.plain(),
        "card": data.card.to_dict() if data.card is not None else None,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "environment": environment(config["device"]),
    }


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and machine, for result files."""
    import numpy
    import pandas

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


def _not_applicable(config: CDSRConfig, data: CrossDomainDataset, reason: str, seconds: float) -> dict[str, Any]:
    cells = dict.fromkeys(("overall", "domains", "groups"), NOT_APPLICABLE)
    return _header(config, data) | {
        "best_valid_score": None,
        "best_valid": NOT_APPLICABLE,
        "best_epoch": None,
        "test": cells | {name: dict(cells) for name in config["eval_candidates"]},
        "reason": reason,
        "epochs": 0,
        "train_losses": [],
        "seconds": {"features": 0.0, "training": 0.0, "evaluation": 0.0, "total": seconds},
        "run_dir": None,
    }


def _check_writable(path: str | None) -> None:
    """Refuse a result file that could not be written, before hours of training; nothing is created yet."""
    if path is None:
        return
    file = Path(path).absolute()
    if file.is_dir():
        raise ConfigError(f"result_file {path} is a folder; name a file in it.")
    nearest = next(parent for parent in file.parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"result_file {path} cannot be written below {nearest}; name a file in a writable folder.")


def _finite(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(result: dict[str, Any], path: str | Path | None) -> dict[str, Any]:
    if path is None:
        return result
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
    return result
