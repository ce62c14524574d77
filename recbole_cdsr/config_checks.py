"""What values a configuration key takes: kinds, ranges, choices, and the keys that are refused."""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from recbole_cdsr import config_llm_keys as llm_keys
from recbole_cdsr.config_data import fault_in_data_key, fields_of_one_name
from recbole_cdsr.config_values import Setting
from recbole_cdsr.errors import ConfigError, WrongValueError
from recbole_cdsr.model import injection_settings as injection

# Keys of ours (and of RecBole's overall settings) whose default is null, with the kind they take when they are set.
NULLABLE: dict[str, type] = {
    "run_dir": str,
    "result_file": str,
    "llm_encoder": str,
    "llm_features_dir": str,
    "item_features_file": str,
    "llm_permute_seed": int,
    "prompt_files": dict,
    "model": str,
    "dataset": str,
    "transform": str,
    "clip_grad_norm": dict,
    "preload_weight": dict,
    "discretization": dict,
    "threshold": dict,
    "alias_of_user_id": list,
    "alias_of_item_id": list,
    "alias_of_entity_id": list,
    "alias_of_relation_id": list,
    "normalize_all": bool,
    "seq_len": dict,
    "val_interval": dict,
    "normalize_field": list,
    "numerical_features": list,
    "unload_col": dict,
    "unused_col": dict,
    **llm_keys.NULLABLE,
    **injection.NULLABLE,
}
# What a mapping or list of RecBole's looks like, where its default does not show it.
EXAMPLES: dict[str, str] = {
    "clip_grad_norm": "{max_norm: 5}",
    "prompt_files": "{analyser: my_prompt.yaml}",
    **llm_keys.EXAMPLES,
    **injection.EXAMPLES,
}
# RecBole's model YAML gives these a whole number by default, but its models read other kinds just as well.
REAL_VALUED = frozenset(
    [
        "reg_weight",
        "w_max",
        "w_min",
        "global_ratio",
        "spatial_ratio",
        "topk_factor",
        "dropout_prob",
        "hidden_dropout_prob",
        "resolution",
        "negative_weight",
    ]
)
WHOLE_OR_TRUTH = frozenset({"use_proj_bias", "post_remove_context", "context_norm", "xgb_verbose_eval"})
ANY_KIND = frozenset({"gpu_id", "metrics", "topk", "eval_candidates", "exclude_history", "reranker_CAN_NUM"})
# One number, or a text of several with commas between them; `500,100` on a command line reads as a list.
NUMBERS_AS_TEXT = frozenset({"gpu_id", "reranker_CAN_NUM"})
# Strings that mean something only when they are there; other keys with a string default may be null.
NEVER_NULL = frozenset(
    [
        "data_path",
        "checkpoint_dir",
        "learner",
        "valid_metric",
        "USER_ID_FIELD",
        "ITEM_ID_FIELD",
        "TIME_FIELD",
        "DOMAIN_FIELD",
        "LIST_SUFFIX",
        "ITEM_LIST_LENGTH_FIELD",
        "NEG_PREFIX",
        "field_separator",
        "seq_separator",
        "select",
        "ties",
        "candidate_domains",
        "profile_generator",
        "profile_encoding",
        "profile_style",
        "pseudo_generator",
        "pseudo_extraction",
        "prompt_language",
        *llm_keys.NEVER_NULL,
    ]
)
# Field names are told apart by these, columns and rows split by them; a folder has a name.
NEVER_EMPTY = frozenset({"LIST_SUFFIX", "NEG_PREFIX", "field_separator", "seq_separator", "checkpoint_dir"})
# Numbers that may be left out for "as it comes", though their default is one.
MAY_BE_NULL = frozenset({"global_dim"})
CHOICES: dict[str, tuple[Any, ...]] = {
    "select": ("overall", "per_domain"),
    "ties": ("half", "recbole"),
    "candidate_domains": ("target", "all"),
    "exclude_history": (True, False, "recbole"),
    injection.KEY: injection.MODES,
    "loss_type": ("BPR", "CE", "BCE", "MSE", "NLL", "bpr", "bce"),  # which of them, the model says
    "rm_dup_inter": ("first", "last", False),
    "transform": ("mask_itemseq", "inverse_itemseq", "crop_itemseq", "reorder_itemseq", "user_defined"),
    **llm_keys.CHOICES,
}
REFUSED: dict[str, str] = {
    "benchmark_filename": "pre-split files are found by their names, <name>.train.inter, .valid.inter, .test.inter",
    "save_dataset": "it writes a pickle, and pickles are neither written nor read here",
    "dataset_save_path": "it names a pickle, and pickles run code when they are read",
    "save_dataloaders": "it writes a pickle, and pickles are neither written nor read here",
    "dataloaders_save_path": "it names a pickle, and pickles run code when they are read",
    "local_rank": "it belongs to runs of several processes, which are not built yet",
    **llm_keys.REFUSED,
}


def _at_least(bound: float) -> tuple[Callable[[float], bool], str]:
    return (lambda value: value >= bound), f"{bound} or more"


_POSITIVE = (lambda value: value > 0, "more than 0")
_DECIMALS = (lambda value: 0 <= value <= 100, "from 0 to 100")
_DROPOUT = (lambda value: 0 <= value < 1, "at least 0 and less than 1")
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "epochs": _at_least(0),
    "train_batch_size": _at_least(1),
    "eval_batch_size": _at_least(1),
    "learning_rate": _POSITIVE,
    "weight_decay": _at_least(0),
    "stopping_step": _at_least(0),
    "stopping_updates": _at_least(0),
    "MAX_ITEM_LIST_LENGTH": _at_least(1),
    **dict.fromkeys(["hidden_size", "embedding_size", "inner_size", "n_heads", "num_layers"], _at_least(1)),
    "n_layers": _at_least(0),  # of none, LightGCN is matrix factorisation
    "initializer_range": _at_least(0),
    "layer_norm_eps": _POSITIVE,
    "hidden_dropout_prob": _DROPOUT,
    "attn_dropout_prob": _DROPOUT,
    "dropout_prob": _DROPOUT,
    "worker": _at_least(0),
    "seed": (lambda value: 0 <= value < 2**32, "from 0 to 4294967295"),
    "eval_seed": _at_least(0),
    "metric_decimal_place": _DECIMALS,
    "loss_decimal_place": _DECIMALS,
    "llm_batch_size": _at_least(1),
    "profile_clusters": _at_least(1),
    "pseudo_max_names": _at_least(1),
    "pseudo_min_names": _at_least(1),
    "pseudo_shots": _at_least(0),
    "pseudo_seed": _at_least(0),
    "prompt_history_tokens": _at_least(1),
    **{key: _at_least(least) for key, least in llm_keys.AT_LEAST.items()},
    **dict.fromkeys(llm_keys.MORE_THAN_0, _POSITIVE),
    **{key: _at_least(1) for key in injection.AT_LEAST_1},
    **dict.fromkeys(injection.MORE_THAN_0, _POSITIVE),
}
_KIND_NAMES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a mapping",
}


def as_origin(origin: str) -> str:
    """Where a value came from, for the middle of a sentence."""
    return f"in {origin}" if ", line " in origin else f"from {origin}"


def fault(key: str, setting: Setting, expected: str) -> ConfigError:
    """One sentence: which key, which value, where it came from, what is expected instead."""
    shown = repr(setting.value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return ConfigError(f"{key} is {shown} {as_origin(setting.origin)}; it must be {expected}.")


@contextmanager
def locating(given: Mapping[str, Setting]) -> Iterator[None]:
    """Have a wrong value that is found in this block told with where it was given."""
    try:
        yield
    except WrongValueError as error:
        if error.key not in given:
            raise
        raise fault(error.key, replace(given[error.key], value=error.value), error.expected) from None


def kind_of_default(key: str, defaults: Mapping[str, Any]) -> type | None:
    """The kind that values of `key` have; None where any will do."""
    if key in ANY_KIND:
        return None
    if defaults.get(key) is None or NULLABLE.get(key) in (dict, list):
        return NULLABLE.get(key)
    kind = type(defaults[key])
    if kind is int and key in REAL_VALUED:
        return float
    return kind if kind in (bool, int, float, str, list) else None


def typed_value(key: str, setting: Setting, defaults: Mapping[str, Any]) -> Any:
    """The value of a setting, in the kind of the key's default.

    Raises
    ------
    ConfigError
        It has another kind, or is out of the key's range or choices.
    """
    kind, value = kind_of_default(key, defaults), setting.value
    if secret := llm_keys.fault_in_secret(key, value):
        raise ConfigError(f"{key} ({as_origin(setting.origin)}) {secret}")
    if key in NUMBERS_AS_TEXT and isinstance(value, list):
        value = ",".join(str(number) for number in value)
    if kind is str and setting.text is not None and not isinstance(value, str):
        # `--dataset=2021` and `--learner=None` mean texts; only a key that may be empty takes None for nothing.
        value = None if value is None and _nullable(key, defaults) else setting.text
    if value is None and (kind is None or _nullable(key, defaults)):
        return None
    if isinstance(value, str) and "\0" in value:  # which no path and no environment variable takes
        raise fault(key, setting, "a text without a null character")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is list and isinstance(value, tuple):
        value = list(value)
    if kind is int and key in WHOLE_OR_TRUTH and isinstance(value, bool):
        return value
    if kind is not None and type(value) is not kind:
        raise fault(key, setting, f"{_KIND_NAMES[kind]}{_example(key, defaults)}")
    if kind is int and not -(2**63) <= value < 2**63:
        raise fault(key, setting, "a whole number of 64 bits")
    if isinstance(value, float) and kind is float and not math.isfinite(value) and key in RANGES:
        raise fault(key, setting, "a finite number")
    if key in RANGES and isinstance(value, int | float) and not isinstance(value, bool):
        within, description = RANGES[key]
        if not within(value):
            raise fault(key, setting, description)
    if key == "clip_grad_norm" and not _is_clipping(value):
        raise fault(
            key, setting, f"a mapping of max_norm and, if need be, norm_type, more than 0{_example(key, defaults)}"
        )
    if expected := fault_in_data_key(key, value):
        raise fault(key, setting, expected)
    if key == "encoding" and not _is_encoding(value):
        raise fault(key, setting, "the name of a text encoding, such as utf-8")
    if key in NEVER_EMPTY and not value:
        raise fault(key, setting, "a text that is not empty")
    if key in CHOICES and not any(type(value) is type(choice) and value == choice for choice in CHOICES[key]):
        raise fault(key, setting, "one of " + ", ".join(str(choice) for choice in CHOICES[key]))
    return value


def _is_clipping(value: Mapping[str, Any]) -> bool:
    numbers = [float("inf") if each == "inf" else each for each in value.values()]  # PyTorch takes the word as well
    return {"max_norm"} <= set(value) <= {"max_norm", "norm_type"} and all(
        isinstance(number, int | float) and not isinstance(number, bool) and number > 0 for number in numbers
    )


def _is_encoding(name: str) -> bool:
    try:
        codecs.lookup(name)
    except (LookupError, ValueError):  # ValueError: a null character
        return False
    return True


def _nullable(key: str, defaults: Mapping[str, Any]) -> bool:
    default = defaults.get(key)
    return (
        default is None
        or (isinstance(default, list) and bool(default))
        or key in MAY_BE_NULL
        or (isinstance(default, str) and key not in NEVER_NULL and default != "None")
    )


def _example(key: str, defaults: Mapping[str, Any]) -> str:
    default = defaults.get(key)
    if key in EXAMPLES:
        return f", such as {EXAMPLES[key]}"
    return "" if default is None else f", such as its default {default!r}"


def check_refused(settings: Mapping[str, Setting]) -> None:
    """Refuse what cannot be honoured: pickles, RecBole's benchmark files, runs of several processes."""
    for key, reason in REFUSED.items():
        setting = settings.get(key)
        if setting is not None and setting.value is not None and setting.value is not False:
            raise ConfigError(f"{key} ({as_origin(setting.origin)}) cannot be used: {reason}; remove it.")
    for key in ("nproc", "world_size"):
        setting = settings.get(key)
        if setting is None:
            continue
        if not isinstance(setting.value, int) or isinstance(setting.value, bool):
            raise fault(key, setting, "1: runs of several processes are not built yet")
        if setting.value > 1 or (key == "nproc" and setting.value != 1):
            raise ConfigError(
                f"{key}={setting.value} ({as_origin(setting.origin)}): runs of several processes are not built "
                f"yet; remove it or write {key}=1."
            )


def check_fields_have_own_names(final: Mapping[str, Any], settings: Mapping[str, Setting]) -> None:
    """Refuse names under which one field would overwrite another."""
    if (pair := fields_of_one_name(final)) is None:
        return
    keys = [key for key in dict.fromkeys([*pair[0], *pair[1]]) if key in final]
    origins = {key: as_origin(settings[key].origin) if key in settings else "from the defaults" for key in keys}
    told = " and ".join(f"{key} is {final[key]!r} {origins[key]}" for key in keys)
    fields = " and ".join(" + ".join(field) for field in pair)
    raise ConfigError(f"{told}, which makes one field of {fields}; give each a name of its own.")


def check_model_reads_no_pickle(model: str, final: Mapping[str, Any]) -> None:
    """Refuse the one model of RecBole that unpickles a file of the dataset's folder."""
    if model == "LDiffRec" and (final.get("n_cate") or 1) > 1:
        raise ConfigError(
            f"n_cate={final['n_cate']}: LDiffRec would unpickle item_emb.npy from the dataset's folder, and files "
            "of others run no code here; leave n_cate at 1."
        )
