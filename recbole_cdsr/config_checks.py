"""What values a configuration key takes: kinds, ranges, choices, metrics, and the keys that are refused."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from recbole_cdsr import config_llm_keys as llm_keys
from recbole_cdsr.config_names import did_you_mean
from recbole_cdsr.config_values import Setting
from recbole_cdsr.errors import ConfigError
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
        "q",
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
# Field names are told apart by these, columns and rows split by them.
NEVER_EMPTY = frozenset({"LIST_SUFFIX", "NEG_PREFIX", "field_separator", "seq_separator"})
# Numbers that may be left out for "as it comes", though their default is one.
MAY_BE_NULL = frozenset({"global_dim"})
CHOICES: dict[str, tuple[Any, ...]] = {
    "select": ("overall", "per_domain"),
    "ties": ("half", "recbole"),
    "candidate_domains": ("target", "all"),
    "exclude_history": (True, False, "recbole"),
    injection.KEY: injection.MODES,
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
_DROPOUT = (lambda value: 0 <= value < 1, "at least 0 and less than 1")
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "epochs": _at_least(0),
    "train_batch_size": _at_least(1),
    "eval_batch_size": _at_least(1),
    "learning_rate": _POSITIVE,
    "weight_decay": _at_least(0),
    "stopping_step": _at_least(0),
    "MAX_ITEM_LIST_LENGTH": _at_least(1),
    "hidden_dropout_prob": _DROPOUT,
    "attn_dropout_prob": _DROPOUT,
    "dropout_prob": _DROPOUT,
    "worker": _at_least(0),
    "seed": (lambda value: 0 <= value < 2**32, "from 0 to 4294967295"),
    "eval_seed": _at_least(0),
    "metric_decimal_place": _at_least(0),
    "loss_decimal_place": _at_least(0),
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


def kind_of_default(key: str, defaults: Mapping[str, Any]) -> type | None:
    """The kind that values of `key` have; None where any will do."""
    if key in ANY_KIND:
        return None
    if defaults.get(key) is None or NULLABLE.get(key) in (dict, list):
        return NULLABLE.get(key)
    kind = type(defaults[key])
    if kind is int and key in REAL_VALUED:
        return float
    return kind if kind in (bool, int, float, str) else None


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
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is int and key in WHOLE_OR_TRUTH and isinstance(value, bool):
        return value
    if kind is not None and type(value) is not kind:
        raise fault(key, setting, f"{_KIND_NAMES[kind]}{_example(key, defaults)}")
    if isinstance(value, float) and kind is float and not math.isfinite(value) and key in RANGES:
        raise fault(key, setting, "a finite number")
    if key in RANGES and isinstance(value, int | float) and not isinstance(value, bool):
        within, description = RANGES[key]
        if not within(value):
            raise fault(key, setting, description)
    if key == "clip_grad_norm" and not {"max_norm"} <= set(value) <= {"max_norm", "norm_type"}:
        raise fault(key, setting, f"a mapping of max_norm and, if need be, norm_type{_example(key, defaults)}")
    if key == "encoding" and not _is_encoding(value):
        raise fault(key, setting, "the name of a text encoding, such as utf-8")
    if key in NEVER_EMPTY and not value:
        raise fault(key, setting, "a text that is not empty")
    if key in CHOICES and not any(type(value) is type(choice) and value == choice for choice in CHOICES[key]):
        raise fault(key, setting, "one of " + ", ".join(str(choice) for choice in CHOICES[key]))
    return value


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


def check_model_reads_no_pickle(model: str, final: Mapping[str, Any]) -> None:
    """Refuse the one model of RecBole that unpickles a file of the dataset's folder."""
    if model == "LDiffRec" and (final.get("n_cate") or 1) > 1:
        raise ConfigError(
            f"n_cate={final['n_cate']}: LDiffRec would unpickle item_emb.npy from the dataset's folder, and files "
            "of others run no code here; leave n_cate at 1."
        )


def as_list(value: Any) -> list[Any]:
    """A list of one for a single value; a text is split at its commas."""
    if isinstance(value, str):
        return [entry.strip() for entry in value.split(",") if entry.strip()]
    return list(value) if isinstance(value, list | tuple) else [value]


def ranking_metrics() -> dict[str, str]:
    """RecBole's ranking metrics, lower case -> the name of the class."""
    from recbole.evaluator.register import metric_types, metrics_dict
    from recbole.utils import EvaluatorType

    return {
        name: metric.__name__ for name, metric in metrics_dict.items() if metric_types[name] == EvaluatorType.RANKING
    }


def check_metrics(setting: Setting) -> list[str]:
    """The names of RecBole's ranking metrics, spelled as RecBole spells them, each once."""
    from recbole.evaluator.register import metrics_dict

    ranking, names = ranking_metrics(), as_list(setting.value)
    if not names or not all(isinstance(name, str) for name in names):
        raise fault("metrics", setting, "a list of metrics, such as [Hit, NDCG, MRR]")
    for name in names:
        if name.lower() in ranking:
            continue
        if name.lower() in metrics_dict:
            raise ConfigError(
                f"metrics names {name} ({as_origin(setting.origin)}), which rates single scores, and the protocol "
                "ranks candidates; use ranking metrics such as Hit, NDCG, MRR or Recall."
            )
        hint = did_you_mean(name, ranking.values())
        raise ConfigError(
            f"metrics names {name} ({as_origin(setting.origin)}), which RecBole does not have"
            + (hint if hint != "." else f"; there are {', '.join(sorted(ranking.values()))}.")
        )
    return list(dict.fromkeys(ranking[name.lower()] for name in names))


def check_topk(setting: Setting) -> list[int]:
    """The cut-offs, each once."""
    cut_offs = setting.value if isinstance(setting.value, list | tuple) else [setting.value]
    if not cut_offs or not all(type(k) is int and k >= 1 for k in cut_offs):
        raise fault("topk", setting, "a whole number from 1, or a list of them such as [5, 10]")
    return list(dict.fromkeys(cut_offs))


def check_valid_metric(setting: Setting, metrics: list[str], topk: list[int], select: str) -> str:
    """`<metric>@<k>`, one of `metrics` and `topk`, with `_<domain>` behind it to select by one domain.

    Returns the metric as RecBole spells it and the domain in lower case; whether the domain exists is for the
    trainer to say, which knows the data.
    """
    from recbole.evaluator.base_metric import TopkMetric
    from recbole.evaluator.register import metrics_dict

    choices = []
    for name in metrics:
        has_cut_off = issubclass(metrics_dict[name.lower()], TopkMetric)
        choices += [f"{name}@{k}" for k in topk] if has_cut_off else [name]
    value = setting.value.strip()
    matched = re.fullmatch(r"([A-Za-z]+(?:@[0-9]+)?)(?:_([A-Za-z0-9_-]+))?", value)
    by_lower = {choice.lower(): choice for choice in choices}
    if matched is None or matched[1].lower() not in by_lower:
        raise ConfigError(
            f"valid_metric is {value!r} {as_origin(setting.origin)}, but metrics and topk give {', '.join(choices)}; "
            "name one of these (with _<domain> behind it to select by one domain), or extend metrics or topk."
        )
    if matched[2] is None:
        return by_lower[matched[1].lower()]
    if select == "per_domain":
        raise ConfigError(
            f"valid_metric is {value!r} {as_origin(setting.origin)}, which selects by one domain, and select is "
            f"per_domain; write valid_metric: {by_lower[matched[1].lower()]}, or select: overall."
        )
    return f"{by_lower[matched[1].lower()]}_{matched[2].lower()}"


def check_eval_args(setting: Setting) -> tuple[dict[str, Any], list[str] | None, list[str]]:
    """Read what a user gave as `eval_args`.

    Returns
    -------
    (eval_args, candidates, unknown)
        `split`, `order`, `group_by` as far as given; what `mode` says about candidates as entries of
        `eval_candidates` (None: nothing); keys that mean nothing.

    Raises
    ------
    ConfigError
        A split or order that would depend on the model or on chance, labelled evaluation, or an unreadable value.
    """
    given = setting.value
    if not isinstance(given, dict):
        raise fault("eval_args", setting, "a mapping with the keys split, order, group_by and mode")
    where = as_origin(setting.origin)
    fixed = "the split is fixed before the model is known: leave-one-out, or files that are split already"
    split = given.get("split")
    if split is not None and split != {"LS": "valid_and_test"}:
        raise ConfigError(
            f"eval_args.split is {split!r} {where}, but {fixed}; remove split, or write {{LS: valid_and_test}}."
        )
    if given.get("order", "TO") != "TO":
        raise ConfigError(
            f"eval_args.order is {given['order']!r} {where}, but {fixed}, in order of time; remove order, or write TO."
        )
    if given.get("group_by", "user") != "user":
        raise ConfigError(
            f"eval_args.group_by is {given['group_by']!r} {where}, but {fixed}, for each user; remove group_by, or "
            "write user."
        )
    unknown = [key for key in given if key not in ("split", "order", "group_by", "mode")]
    return (
        {key: given[key] for key in ("split", "order", "group_by") if given.get(key)},
        _candidates(setting),
        unknown,
    )


def _candidates(setting: Setting) -> list[str] | None:
    mode = setting.value.get("mode")
    if mode is None:
        return None
    # Validation first: the first candidate set is the one that selects the model.
    modes = [mode.get(split) for split in ("valid", "test")] if isinstance(mode, dict) else [mode]
    entries = list(dict.fromkeys(str(entry).lower() for entry in modes if entry is not None))
    if "labeled" in entries:
        raise ConfigError(
            f"eval_args.mode is labeled {as_origin(setting.origin)}, but the protocol ranks candidates; write full, "
            "uniN or popN."
        )
    if not entries or not all(re.fullmatch(r"full|(?:uni|pop)[1-9][0-9]*", entry) for entry in entries):
        raise ConfigError(
            f"eval_args.mode is {mode!r} {as_origin(setting.origin)}; write full, uniN or popN, such as uni100."
        )
    return entries


def check_eval_candidates(setting: Setting) -> list[str]:
    """`eval_candidates` as a list of `full`, `uniN`, `popN`."""
    from recbole_cdsr.evaluator.candidates import parse_candidates

    entries = [entry.lower() if isinstance(entry, str) else entry for entry in as_list(setting.value)]
    try:
        return [spec.name for spec in parse_candidates(entries)]
    except ConfigError as error:
        raise ConfigError(f"{str(error).rstrip('.')} ({as_origin(setting.origin)}).") from None
