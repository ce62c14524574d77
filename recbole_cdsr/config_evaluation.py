"""What the keys of the evaluation take: metrics, cut-offs, what selects the model, the split, the candidates."""

from __future__ import annotations

import re
from typing import Any

from recbole_cdsr.config_checks import as_origin, fault
from recbole_cdsr.config_names import did_you_mean
from recbole_cdsr.config_values import Setting
from recbole_cdsr.errors import ConfigError

# A metric's value at every rank and cut-off is a table of topk squared.
LARGEST_TOPK = 5000


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
    if not cut_offs or not all(type(k) is int and 1 <= k <= LARGEST_TOPK for k in cut_offs):
        raise fault("topk", setting, f"a whole number from 1 to {LARGEST_TOPK}, or a list of them such as [5, 10]")
    return list(dict.fromkeys(cut_offs))


def check_tail_ratio(setting: Setting | None, metrics: list[str]) -> None:
    """RecBole's TailPercentage compares it with numbers; None leaves its default."""
    value = None if setting is None else setting.value
    if "TailPercentage" in metrics and (isinstance(value, bool) or not isinstance(value, int | float | None)):
        raise fault("tail_ratio", setting, "a share of the items such as 0.1, or a number of interactions above 1")


def metrics_at(metrics: list[str], topk: list[int]) -> list[str]:
    """What `metrics` and `topk` give: `NDCG@10`, or the name alone of a metric without cut-off."""
    # The one ranking metric of RecBole's without a cut-off.
    return [each for name in metrics for each in ([name] if name == "GAUC" else [f"{name}@{k}" for k in topk])]


def check_valid_metric(setting: Setting, metrics: list[str], topk: list[int], select: str) -> str:
    """`<metric>@<k>`, one of `metrics` and `topk`, with `_<domain>` behind it to select by one domain.

    Returns the metric as RecBole spells it and the domain in lower case; whether the domain exists is for the
    trainer to say, which knows the data.
    """
    choices = metrics_at(metrics, topk)
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
