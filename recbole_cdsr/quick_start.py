"""The whole job, from a model's and a dataset's name to a table and a result file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import time
from typing import Any

import recbole.data.dataset
from recbole.data.transform import construct_transform
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import get_environment, get_flops, init_logger, init_seed, set_color

from recbole_cdsr import results
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.config_checks import locating
from recbole_cdsr.config_reading import setting
from recbole_cdsr.data.dataset import CrossDomainDataset, CrossDomainGeneralDataset, CrossDomainSequentialDataset
from recbole_cdsr.data.loaders import JudgedRowsLoader, prepare_loaders
from recbole_cdsr.data.loading import interaction_files
from recbole_cdsr.data.user_tables import has_user_table
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.evaluator.rank_table import rank_table, save_rank_table
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.llm.spending import spent_together
from recbole_cdsr.memory import is_out_of_memory
from recbole_cdsr.model import trimmed_windows
from recbole_cdsr.model.injection import inject, plan_injection
from recbole_cdsr.model.injection_settings import KEY, OFF
from recbole_cdsr.trainer import check_valid_metric, trainer_class_for
from recbole_cdsr.trainer.random_states import random_states, restore_random_states
from recbole_cdsr.warning_filters import quiet_known_warnings


@spent_together()
def run_recbole_cdsr(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
    command_line: Sequence[str] | None = None,
    on_validation: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Train a model of ours, of RecBole or of one's own and judge it under the cross-domain protocol.

    Parameters
    ----------
    model, dataset
        Names; taken from the configuration when None. A model of one's own is given as its class.
    config_file_list, config_dict
        As in `recbole.quick_start.run_recbole`.
    saved
        Keep checkpoints and judge the selected one; without, no run directory is made and the last epoch is judged.
    command_line
        Arguments `--key=value`, which win over everything else; None reads `sys.argv`.
    on_validation
        Called after each validation with the epoch (0-based) and the score that the selection goes by, when the epoch
        has been kept. What it raises ends the training and is raised here; a run that is resumed goes on after it.

    Returns
    -------
    dict
        What `result_file` is given: `model`, `dataset`, `seed`, `synthetic`, `features`, `best_valid`, `test`,
        `epochs`, `seconds`, `environment` and more; see `docs/results_format.md`.

    Raises
    ------
    CDSRError
        A mistake the user can mend.
    """
    started = time()
    config = CDSRConfig(model, dataset, config_file_list, config_dict, command_line=command_line)
    check_before_loading(config)
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
        return _keep(results.not_applicable(config, data, unseen, time() - started), config)
    _warn_of_undiluted_overlap(config, data)

    features_started = time()
    if getattr(config.model_class, "uses_llm_features", False):
        _ = data.llm_features  # made before the seed is set: it must not matter whether they were there already
        if reads_pseudo_items(config.model_class, config):
            _ = data.pseudo_items
        if config["training_profiles"] == "prefix":
            _ = data.prefix_profiler
    features_seconds = time() - features_started

    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    network = build_model(config, train_data._dataset)
    features_seconds += inject_features(config, network, data)
    if config[trimmed_windows.KEY]:
        trimmed_windows.trim(network)
    network = network.to(config["device"])
    logger.info(network)
    _log_flops(config, network, data)

    trainer = trainer_class_for(config["MODEL_TYPE"], config["model"])(config, network)
    trainer.started = started
    with closing(trainer.tensorboard), _packages_of_recbole_models(config):
        best_score, best_valid = trainer.fit(
            train_data,
            valid_data,
            saved=saved,
            show_progress=config["show_progress"],
            callback_fn=on_validation,
        )
    if saved and trainer.domain_selection is not None:  # RecBole's best is one epoch; here each domain has its own
        best_valid = trainer.evaluate(valid_data, show_progress=config["show_progress"])
    trainer.evaluate(test_data, load_best_model=saved, show_progress=config["show_progress"])

    logger.info("The running environment of this training is as follows:\n" + get_environment(config).draw())
    logger.info(set_color("best valid ", "yellow") + f": {dict(best_valid or {})}")
    logger.info(set_color("test result", "yellow") + f": \n{trainer.report.table()}")
    if data.card is not None and data.card.synthetic:
        logger.warning(f"'{config['dataset']}' is SYNTHETIC data: this table says nothing about real users.")

    total = trainer.seconds_before + time() - started
    result = results.of_run(config, data, trainer, best_score, dict(best_valid or {})) | {
        "seconds": {"features": features_seconds, **trainer.seconds, "total": total},
        "run_dir": results.run_directory(trainer.run.path) if saved else None,
    }
    if saved:
        results.write(result, trainer.run.path / "result.json")
    _keep(result, config)
    if saved:  # after the results: the longest file is the first that a full disk refuses
        ranks = rank_table(trainer.report, test_data._dataset.evaluation_rows(), data)
        save_rank_table(trainer.run.path / "test_ranks.tsv", ranks)
    return result


def check_before_loading(config: CDSRConfig) -> None:
    """Refuse what can be told from a configuration and the names of files, before any data are read.

    Raises
    ------
    ConfigError, DataError
        The run cannot be made: its dataset is not there, its result file cannot be written, or the model does not
        take the settings.
    """
    results.check_writable(config["result_file"])
    if config[trimmed_windows.KEY]:
        trimmed_windows.check_trimmable(config["model"])
    interaction_files(Path(config["data_path"]), config["dataset"])
    _check_rows_are_shared(config)
    trainer_class_for(config["MODEL_TYPE"], config["model"])
    with locating(config.given):
        check_model_settings(config.model_class, config)


def check_model_settings(model_class: type, config: Mapping[str, Any]) -> None:
    """Refuse what a model, or the making of features that it reads, does not take.

    Raises
    ------
    ConfigError
        Naming key and value.
    """
    if hasattr(model_class, "check_settings"):
        model_class.check_settings(config)
    if getattr(model_class, "uses_llm_features", False):
        FeatureSettings(config, config["dataset"]).check_writers(reads_pseudo_items(model_class, config))
    elif setting(config, KEY, OFF) != OFF:
        FeatureSettings(config, config["dataset"])


def reads_pseudo_items(model_class: type, config: Mapping[str, Any]) -> bool:
    """Whether a model learns from pseudo items under these settings."""
    return getattr(model_class, "uses_pseudo_items", False) and config["augmentation"] != "none"


def create_dataset(config: CDSRConfig) -> CrossDomainDataset:
    """The dataset a model takes: windows for sequential models, interactions for the others.

    Raises
    ------
    ConfigError
        The model wants a dataset class of its own (DIEN, KSR, GRU4RecKG), whose rows are not the protocol's.
    """
    _check_rows_are_shared(config)
    sequential = config["MODEL_TYPE"].name == "SEQUENTIAL"
    try:
        return (CrossDomainSequentialDataset if sequential else CrossDomainGeneralDataset)(config)
    except (ValueError, LookupError, NotImplementedError) as error:
        # RecBole answers settings about columns (normalize_field, preload_weight, alias_of_item_id, ...) with these.
        raise ConfigError(
            f"'{config['dataset']}' cannot be loaded with these settings ({type(error).__name__}: {error}); change the "
            "setting or the columns it names."
        ) from error


def _check_rows_are_shared(config: CDSRConfig) -> None:
    own = f"{config['model']}Dataset"
    if config.model_class.__module__.startswith("recbole.") and hasattr(recbole.data.dataset, own):
        raise ConfigError(
            f"{config['model']} takes rows that only RecBole's {own} makes, and here all models share the rows of the "
            "protocol; choose another model."
        )


def _keep(result: dict[str, Any], config: CDSRConfig) -> dict[str, Any]:
    if config["result_file"] is not None:
        results.write(result, config["result_file"])
    return result


def _start_logging(config: CDSRConfig) -> None:
    try:
        Path("log", config["model"]).mkdir(parents=True, exist_ok=True)  # RecBole trips when two runs make it at once
        if not logging.getLogger().handlers:  # else a program keeps its own log, and RecBole's file would stay empty
            init_logger(config)
    except OSError as error:
        raise ConfigError(
            f"The folder for logs, {Path('log').absolute()}, cannot be written ({error.strerror}); start the command "
            "in a writable folder."
        ) from error
    quiet_known_warnings()


# How RecBole's models, and PyTorch's layers in them, say that a setting or a field is not what they can be built with.
_TOLD_BY_RECBOLE_MODELS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError),
    *(TypeError, ValueError),
)


@contextmanager
def _room_for_tables(config: CDSRConfig) -> Iterator[None]:
    """A size that no memory holds is a setting to be changed."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(
            f"{config['model']} is too large for the memory with these settings on '{config['dataset']}' "
            f"({str(error).splitlines()[0]}); make it smaller."
        ) from error


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


def build_model(config: CDSRConfig, dataset: CrossDomainDataset) -> AbstractRecommender:
    """A new model on a training split, without injected features.

    Raises
    ------
    ConfigError
        It cannot be built with these settings on these data.
    """
    try:
        with _room_for_tables(config):
            network = config.model_class(config, dataset)
    except _TOLD_BY_RECBOLE_MODELS as error:
        if config.model_class.__module__.startswith("recbole_cdsr."):
            raise
        raise ConfigError(
            f"{config['model']} cannot be built with these settings on '{config['dataset']}' "
            f"({type(error).__name__}: {error}); change the setting or the columns it names."
        ) from error
    return network


def inject_features(config: CDSRConfig, network: AbstractRecommender, data: CrossDomainDataset) -> float:
    """Put LLM features into a new model's tables if that is asked for; returns the seconds spent on features."""
    plan = plan_injection(network, config, data.item_num, data.user_num)
    if plan is None:
        return 0.0
    started = time()
    if not plan.user_tables:
        config["use_profiles"] = False  # nothing would read them
    drawn = random_states(config["device"])
    features = data.llm_features
    restore_random_states(drawn)  # it must not matter whether they were there already
    seconds = time() - started
    with _room_for_tables(config):
        inject(network, plan, features)
    return seconds


def _rows_out_of_reach(config: CDSRConfig, *loaders: JudgedRowsLoader) -> str | None:
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


def _warn_of_undiluted_overlap(config: CDSRConfig, data: CrossDomainDataset) -> None:
    """Folding in gives a model with a user table the whole histories of the users whom an overlap ratio has split."""
    if data.card is None or data.card.split != "loo" or not data.fold_in:
        return
    ratio = data.card.converter.get("options", {}).get("overlap_ratio", 1)
    if ratio < 1:
        logging.getLogger().warning(
            f"'{config['dataset']}' keeps {100 * ratio:g}% of its overlapped users overlapped in training, but fold_in "
            f"lets {config['model']}, which has a table of users, also train on the judged users' whole histories: the "
            "ratio does not apply to it. Without fold_in it is reported n/a."
        )
