"""A configuration as plain data for checkpoints and results, and the fingerprint of its training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from recbole_cdsr import config_llm_keys
from recbole_cdsr.config_values import Plain, plain_copy
from recbole_cdsr.model import injection_settings

TORCH_BETAS = [0.9, 0.999]
# What RecBole derives from the rest, or what belongs to this process: never part of a saved configuration.
DERIVED = frozenset(
    [
        "MODEL_TYPE",
        "MODEL_INPUT_TYPE",
        "eval_type",
        "device",
        "single_spec",
        "local_rank",
        "valid_neg_sample_args",
        "test_neg_sample_args",
        "valid_metric_bigger",
        "dataset_save_path",
        "dataloaders_save_path",
    ]
)
# What does not change the parameters that an epoch of training ends with.
NOT_TRAINING = frozenset(
    [
        "epochs",
        "stopping_step",
        "stopping_updates",
        "eval_batch_size",
        "show_progress",
        "result_file",
        "checkpoint_dir",
        "run_dir",
        "resume",
        "state",
        "gpu_id",
        "use_gpu",
        "log_wandb",
        "wandb_project",
        "data_path",
        "metrics",
        "topk",
        "metric_decimal_place",
        "loss_decimal_place",
        "llm_features_dir",
        *config_llm_keys.NOT_TRAINING,
    ]
)


def plain_settings(values: Mapping[str, Any], data_folder: str, data_root: str) -> dict[str, Plain]:
    """The settings among `values`, as plain data.

    Parameters
    ----------
    values
        A final configuration.
    data_folder, data_root
        Where the dataset was found, and the folder of datasets as it was configured, which replaces it.
    """
    plain: dict[str, Plain] = {}
    for key, value in values.items():
        if key in DERIVED:
            continue
        try:
            plain[key] = plain_copy(value)
        except ValueError:
            continue  # something a loader or a trainer put there, not a setting
    if plain["data_path"] == data_folder:
        plain["data_path"] = data_root
    negatives = plain["train_neg_sample_args"]
    if isinstance(negatives, dict) and negatives["distribution"] == "none":
        plain["train_neg_sample_args"] = None  # as it is written; RecBole spells it out
    return plain


def is_off(value: object) -> bool:
    """Whether a setting says what a release that does not know it does. A zero is a number, and says more."""
    return value is None or value is False


def fingerprint(plain: Mapping[str, Plain]) -> str:
    """8 hexadecimal digits over the settings that influence training; see `CDSRConfig.fingerprint`."""

    def canonical(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: canonical(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [canonical(entry) for entry in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    training = {key: canonical(value) for key, value in plain.items() if key not in NOT_TRAINING}
    if training.get(injection_settings.KEY) in (None, injection_settings.OFF):
        for key in (injection_settings.KEY, *injection_settings.READ_BY):  # nothing reads them
            training.pop(key, None)
    training["llm_features_dir"] = None  # runs from when it counted, and was not set
    for key in ("trim_windows", "llm_injection_whiten"):
        if not training.get(key):  # as without the key
            training.pop(key, None)
    if training.get("adam_betas") in (None, TORCH_BETAS):  # as without the key
        training.pop("adam_betas", None)
    if plain.get("metric_decimal_place") != 4:  # validations are compared as they are rounded
        training["metric_decimal_place"] = plain.get("metric_decimal_place")
    training["eval_candidates"] = training["eval_candidates"][:1]  # the entry that selects the model
    return hashlib.sha256(json.dumps(training, sort_keys=True).encode()).hexdigest()[:8]
