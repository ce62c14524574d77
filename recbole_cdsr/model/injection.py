"""LLM features inside any RecBole model that keeps tables of items, without touching the model's code.

`plan_injection` finds the tables, `inject` puts the features in:

========= ==============================================================================================
`init`    the table starts from the principal components of the features and is trained as ever
`adapter` the rows are a trainable adapter of the frozen features
`concat`  the rows are a projection of the model's own table next to the frozen features
`frozen`  the rows are the principal components of the features, fixed; everything else learns
========= ==============================================================================================

In all modes the rows start with the spread that the model gave its own table (`frozen`: length 1 on average), unless
another is set, and rows without features (padding, mask tokens, users without a history) stay the model's own. Features
can be whitened first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from recbole_cdsr.config_names import did_you_mean
from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.llm.features import LLMFeatures
from recbole_cdsr.llm.reduction import principal_axes, project, whitening_axes
from recbole_cdsr.model.injected_embedding import (
    AdaptedEmbedding,
    ConcatenatedEmbedding,
    FrozenEmbedding,
    InjectedEmbedding,
)
from recbole_cdsr.model.injection_settings import KEY, OFF, InjectionSettings

# Rows that an item table may have beyond the items: a mask token.
SPECIAL_ITEMS = 1
ITEM_TABLE = "item_embedding"


@dataclass(frozen=True)
class InjectionPlan:
    """Which of a model's embeddings take features.

    Attributes
    ----------
    settings : InjectionSettings
        Mode and sizes.
    item_tables, user_tables : tuple of str
        Names of the embeddings, dotted where they lie in a sub-module.
    """

    settings: InjectionSettings
    item_tables: tuple[str, ...]
    user_tables: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """How features were brought into a table, so that those of further items can be brought there alike.

    Attributes
    ----------
    axes : tuple of np.ndarray or None
        Mean and principal axes that they were projected on, divided by the spread along them when whitened.
    shift : np.ndarray or None
        ``[D]``, what was subtracted afterwards.
    factor : float
        What they were multiplied with in the end.
    """

    axes: tuple[np.ndarray, np.ndarray] | None
    shift: np.ndarray | None
    factor: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float32 ``[m, D]`` to float32 ``[m, D']``."""
        rows = features if self.axes is None else project(features, *self.axes)
        return ((rows if self.shift is None else rows - self.shift) * self.factor).astype(np.float32)


def plan_injection(model: nn.Module, config: Mapping[str, Any], n_items: int, n_users: int) -> InjectionPlan | None:
    """Find the tables that take features; None when nothing is to be injected.

    A table of items is the embedding named `item_embedding`, and every other whose name contains `item` and that has a
    row per item (or one more, a mask token); a table of users has `user` in its name, a row per user and the width of a
    table of items. `frozen` leaves tables of users to the model, so that something of them can be learnt.
    `llm_item_tables` and `llm_user_tables` name them outright.

    Parameters
    ----------
    model : nn.Module
        As the model's own code built it.
    config : mapping
        Keys `llm_injection`, `llm_item_tables`, `llm_user_tables`, `llm_injection_std`, `llm_injection_whiten`,
        `llm_injection_dim`, `llm_adapter_hidden`.
    n_items, n_users : int
        Rows of the features, padding included.

    Raises
    ------
    ConfigError
        The model keeps no table of items, a named one is not there or has too few rows, or a table's weights are also
        used elsewhere in the model.
    """
    settings = InjectionSettings.read(config)
    if settings.mode == OFF:
        return None
    name = type(model).__name__
    tables = {path: module for path, module in model.named_modules() if isinstance(module, nn.Embedding)}
    if settings.item_tables is None:
        items = tuple(path for path, table in tables.items() if _holds_items(path, table, n_items, n_users))
        if not items:
            raise ConfigError(_nothing_found(name, settings.mode, tables, n_items))
    else:
        items = _named(name, tables, "llm_item_tables", settings.item_tables, n_items)
    if settings.user_tables is not None:
        users = _named(name, tables, "llm_user_tables", settings.user_tables, n_users)
    elif settings.mode == "frozen":
        users = ()
    else:
        widths = {tables[path].embedding_dim for path in items}
        users = tuple(
            path
            for path, table in tables.items()
            if path not in items
            and "user" in _last(path)
            and table.num_embeddings == n_users
            and (table.embedding_dim in widths if widths else _is_wide(table))
        )
    if not items and not users:
        raise ConfigError(f"{KEY} is {settings.mode!r}, but no table of {name} is left to take features; remove {KEY}.")
    twice = set(items) & set(users)
    if twice:
        raise ConfigError(f"{min(twice)} is named in llm_item_tables and in llm_user_tables; keep it in one of them.")
    for path in (*items, *users):
        _check_replaceable(model, path, tables[path], settings.mode)
    return InjectionPlan(settings, items, users)


def inject(model: nn.Module, plan: InjectionPlan, features: LLMFeatures) -> dict[str, Any]:
    """Put features into the planned tables.

    Parameters
    ----------
    model : nn.Module
        Changed in place, and given the attribute `llm_injection`, the returned value.
    plan : InjectionPlan
        Of this model.
    features : LLMFeatures
        Of the dataset. Without profiles, tables of users stay as they are.

    Returns
    -------
    dict
        Plain data: `mode`, and for every table `name`, `of` (items or users), `rows` with features, `own_rows`,
        `width`, `features` (their width) and `used` (how many of the features, or of their principal axes, the rows are
        made of).

    Raises
    ------
    FeatureError
        There is nothing in the features to tell rows apart.
    ConfigError
        Nothing trainable would be left of the model.
    """
    settings, report = plan.settings, []
    kinds = [("items", plan.item_tables, features.items), ("users", plan.user_tables, features.profiles)]
    for of, paths, matrix in kinds:
        if paths and matrix is None:
            logging.getLogger().info(f"There are no user profiles: {', '.join(paths)} stays as it is.")
            continue
        for path in paths:
            # Users described by the same encoder as items are laid along the items' axes, so that the two can be
            # compared from the first step.
            axes_of = features.items if of == "users" and _one_space(features) else matrix
            table = model.get_submodule(path)
            new, used = _injected(table, np.asarray(matrix), np.asarray(axes_of), settings, of)
            if new is not None:
                _replace(model, table, new)
            rows = int(_known(matrix).sum())
            report.append(
                {
                    "name": path,
                    "of": of,
                    "rows": rows,
                    "own_rows": table.num_embeddings - rows,
                    "width": table.embedding_dim,
                    "features": matrix.shape[1],
                    "used": used,
                }
            )
    own = {id(module.own) for module in model.modules() if isinstance(module, InjectedEmbedding)}
    if not any(parameter.requires_grad and id(parameter) not in own for parameter in model.parameters()):
        raise ConfigError(
            f"With {KEY} {settings.mode!r} there is nothing left to train in {type(model).__name__}; choose init, "
            "adapter or concat."
        )
    model.llm_injection = {"mode": settings.mode, "tables": report}
    for table in report:
        axes = f", {table['used']} axes of them," if table["used"] < table["features"] else ""
        logging.getLogger().info(
            f"LLM features injected ({settings.mode}): {table['name']}, {table['rows']} {table['of']} of "
            f"{table['features']} features{axes} into width {table['width']}; {table['own_rows']} rows of its own."
        )
    return model.llm_injection


# ---------------------------------------------------------------------------------------------------- finding tables
def _last(path: str) -> str:
    return path.rpartition(".")[2].lower()


def _is_wide(table: nn.Embedding) -> bool:
    return table.embedding_dim > 1  # a bias of items is no table of theirs


def _holds_items(path: str, table: nn.Embedding, n_items: int, n_users: int) -> bool:
    if _last(path) == ITEM_TABLE:
        return table.num_embeddings >= n_items
    if "item" not in _last(path) or not _is_wide(table):
        return False
    # NNCF's `item_neigh_embedding` holds users.
    of_users = table.num_embeddings == n_users != n_items
    return n_items <= table.num_embeddings <= n_items + SPECIAL_ITEMS and not of_users


def _named(
    model: str, tables: Mapping[str, nn.Embedding], key: str, paths: tuple[str, ...], n_rows: int
) -> tuple[str, ...]:
    for path in paths:
        if path not in tables:
            there = f"; it has {', '.join(tables)}." if tables else ", and it has none at all."
            hint = did_you_mean(path, tables)
            raise ConfigError(f"{key} names {path!r}, which is no embedding of {model}{there if hint == '.' else hint}")
        if tables[path].num_embeddings < n_rows:
            raise ConfigError(
                f"{key} names {path}, which has {tables[path].num_embeddings} rows, and there are {n_rows} to "
                "describe, padding included; name a table with a row for each."
            )
    return paths


def _nothing_found(model: str, mode: str, tables: Mapping[str, nn.Embedding], n_items: int) -> str:
    fitting = [path for path, table in tables.items() if table.num_embeddings == n_items and _is_wide(table)]
    if fitting:
        return (
            f"{KEY} is {mode!r}, but no embedding of {model} says by its name that it holds items; name those that do, "
            f"as in llm_item_tables: [{', '.join(fitting)}]."
        )
    return (
        f"{KEY} is {mode!r}, but {model} has no embedding with a row for each item; remove {KEY}, or choose another "
        "model."
    )


def _check_replaceable(model: nn.Module, path: str, table: nn.Embedding, mode: str) -> None:
    if mode == "init":  # written in place: whoever shares the weights goes on sharing them
        return
    name = type(model).__name__
    for other, module in model.named_modules():
        if module is not table and any(parameter is table.weight for parameter in module._parameters.values()):
            raise ConfigError(f"{path} of {name} shares its weights with {other}; only {KEY} 'init' keeps that.")
    if table.max_norm is not None or table.scale_grad_by_freq or table.sparse:
        raise ConfigError(
            f"{path} of {name} is an embedding with max_norm, scale_grad_by_freq or sparse; only {KEY} 'init' keeps "
            "that."
        )


# ----------------------------------------------------------------------------------------------- putting features in
def _one_space(features: LLMFeatures) -> bool:
    """Whether items and users were described by the same encoder."""
    encoders = [(features.provenance.get(part) or {}).get("encoder") for part in ("items", "profiles")]
    widths = features.items.shape[1] == features.profiles.shape[1]
    return widths and encoders[0] is not None and encoders[0] == encoders[1]


def _known(matrix: np.ndarray) -> np.ndarray:
    """bool ``[n]``: rows that have features; padding and users without a history are zero."""
    return np.any(matrix != 0, axis=1)


def _injected(
    table: nn.Embedding, matrix: np.ndarray, axes_of: np.ndarray, settings: InjectionSettings, of: str
) -> tuple[InjectedEmbedding | None, int]:
    """The embedding in place of `table` (None for `init`, which writes into it) and the number of axes it uses."""
    known = _known(matrix)  # [n]
    _check_spread(matrix[known], of)
    weight = table.weight.detach()
    mask = torch.zeros(len(weight), dtype=torch.bool)  # [n_rows], n_rows ≥ n
    mask[: len(known)] = torch.from_numpy(known)
    own_std, own_factor = float(weight[mask.to(weight.device)].std()), 1.0
    if not own_std > 0:  # a table of zeros (TransRec's users)
        own_std = table.embedding_dim**-0.5
    elif settings.std is not None:
        own_factor = settings.std / own_std
    std = settings.std or own_std

    axes_by = whitening_axes if settings.whiten else principal_axes

    if settings.mode in ("init", "frozen"):
        mean, axes = axes_by(axes_of[_known(axes_of)], table.embedding_dim)
        components = project(matrix[known], mean, axes)  # [n_known, kept]
        kept = components.shape[1]
        if settings.mode == "frozen":
            std = settings.std or kept**-0.5
        factor = std / _root_mean_square(components)
        components *= factor
        if settings.mode == "init":
            with torch.no_grad():  # columns beyond the components stay the model's own
                rows = mask.nonzero().squeeze(1).to(weight.device)
                table.weight[rows, :kept] = torch.from_numpy(components).to(weight)
            return None, kept
        vectors = torch.zeros(weight.shape)
        vectors[mask, :kept] = torch.from_numpy(components)
        fixed = FrozenEmbedding(table, mask.to(weight.device), vectors.to(weight))
        fixed.described_by = FeatureRows((mean, axes), None, factor)
        return fixed, kept

    reduced_by = None
    if settings.whiten or settings.dim is not None:
        reduced_by = axes_by(matrix[known], settings.dim or matrix.shape[1])
    frozen = matrix[known] if reduced_by is None else project(matrix[known], *reduced_by)  # [n_known, D]
    shift = frozen.mean(axis=0)
    frozen -= shift
    factor = frozen.shape[1] ** -0.5 / _root_mean_square(frozen)  # of length 1 on average
    frozen *= factor
    features = torch.zeros(len(weight), frozen.shape[1])
    features[mask] = torch.from_numpy(frozen)
    mask, features = mask.to(weight.device), features.to(weight)
    if settings.mode == "adapter":
        adapted = AdaptedEmbedding(table, mask, features, settings.hidden, std)
        adapted.described_by = FeatureRows(reduced_by, shift, factor)
        return adapted, features.shape[1]
    return ConcatenatedEmbedding(table, mask, features, std, own_factor), features.shape[1]


def _check_spread(rows: np.ndarray, of: str) -> None:
    if len(rows) < 2 or not (rows != rows[0]).any():
        raise FeatureError(
            f"The features of {of} are the same for all, so nothing can be learnt from them; look at what they were "
            "made of."
        )


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _replace(model: nn.Module, table: nn.Embedding, new: InjectedEmbedding) -> None:
    """Put `new` wherever `table` is: a model may know it by several names."""
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            if child is table:
                setattr(module, name, new)
