"""What the keys take that name columns and say which of them, and which rows, are loaded; RecBole trips over others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_COLUMNS = "a mapping of file suffixes to lists of columns, such as {inter: [user_id, item_id]}"
_INTERVAL = 'an interval, or several with semicolons between them, such as "[3,inf)"'


def fault_in_data_key(key: str, value: Any) -> str | None:
    """What the value of a key must be instead, None where it can be used or the key is none of these.

    Parameters
    ----------
    key
        Of the configuration.
    value
        In the kind of the key's default, not None.
    """
    if key not in _CHECKS:
        return None
    can_be_used, expected = _CHECKS[key]
    return None if can_be_used(value) else expected


# What the dataset adds to a batch, under names that no setting changes.
ROW_ID = "row_id"
TARGET_DOMAIN = "target_domain"


def fields_of_one_name(final: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The keys of two fields that would overwrite each other because they have the same name, if there are any.

    Parameters
    ----------
    final
        The configuration.

    Returns
    -------
    pair of tuple[str, ...], or None
        A field's name is put together from the values of its keys, ``("ITEM_ID_FIELD", "LIST_SUFFIX")``; one that no
        key names has its name there.
    """
    keys_by_name: dict[str, tuple[str, ...]] = {name: (name,) for name in (ROW_ID, TARGET_DOMAIN)}
    for keys in _FIELDS:
        name = "".join(final[key] for key in keys)
        if name in keys_by_name:
            return keys_by_name[name], keys
        keys_by_name[name] = keys
    return None


# The fields that a batch holds of a dataset, whatever the model.
_FIELDS = (
    ("USER_ID_FIELD",),
    ("ITEM_ID_FIELD",),
    ("TIME_FIELD",),
    ("DOMAIN_FIELD",),
    ("ITEM_LIST_LENGTH_FIELD",),
    ("ITEM_ID_FIELD", "LIST_SUFFIX"),
    ("TIME_FIELD", "LIST_SUFFIX"),
    ("NEG_PREFIX", "ITEM_ID_FIELD"),
    ("NEG_PREFIX", "ITEM_ID_FIELD", "LIST_SUFFIX"),
)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _are_columns(value: dict[str, Any]) -> bool:
    return all(_are_texts(columns) for columns in value.values())


def _are_columns_or_all(value: Any) -> bool:
    # RecBole's `"*"` means all columns.
    return isinstance(value, dict) and all(columns == "*" or _are_texts(columns) for columns in value.values())


def _is_interval(text: str) -> bool:
    """As RecBole reads it, but for what it passes over with a warning, so that nothing is filtered."""
    for pair in (part.strip() for part in text.split(";")):
        ends = pair[1:-1].split(",")
        if len(ends) != 2 or pair[0] not in "([" or pair[-1] not in ")]":
            return False
        try:
            low, high = (float(end) for end in ends)
        except ValueError:
            return False
        if not low <= high:
            return False
    return True


def _are_kept_values(value: dict[str, Any]) -> bool:
    # Numbers by an interval, tokens by a list of them.
    return all(isinstance(kept, list) or (isinstance(kept, str) and _is_interval(kept)) for kept in value.values())


def _are_numbers(value: dict[str, Any]) -> bool:
    return all(isinstance(number, int | float) and not isinstance(number, bool) for number in value.values())


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "load_col": (_are_columns_or_all, _COLUMNS),
    "unload_col": (_are_columns, _COLUMNS),
    "unused_col": (_are_columns, _COLUMNS),
    "additional_feat_suffix": (
        lambda value: isinstance(value, str) or _are_texts(value),
        "a list of file suffixes, such as [useremb]",
    ),
    "user_inter_num_interval": (_is_interval, _INTERVAL),
    "item_inter_num_interval": (_is_interval, _INTERVAL),
    "val_interval": (
        _are_kept_values,
        'a mapping of columns to intervals of numbers or lists of tokens, such as {timestamp: "[0,inf)"}',
    ),
    "threshold": (_are_numbers, "a mapping of a column to a number, such as {rating: 3}"),
}
