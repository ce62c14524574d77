"""Item vectors and titles of a loaded dataset, by internal id."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from recbole_cdsr.llm import store
from recbole_cdsr.llm.item_features import item_source, permutation, read_items
from recbole_cdsr.llm.prompts import item_titles
from recbole_cdsr.llm.settings import FeatureSettings


@dataclass(frozen=True)
class ItemTable:
    """The items of a dataset as its features see them.

    Attributes
    ----------
    frame : pandas.DataFrame
        The `.item` file as text.
    source : FeatureSet
        The item features in the order of `.item`.
    rows : np.ndarray
        int64 `[n_items - 1]`, the row of `source` whose text each internal id from 1 has.
    vectors : np.ndarray
        float32 `[n_items, D]`, `source` by internal id; row 0 is zero.
    provenance : dict
        Of the item features.
    """

    frame: pd.DataFrame
    source: store.FeatureSet
    rows: np.ndarray
    vectors: np.ndarray
    provenance: dict[str, Any]

    def titles(self) -> list[str]:
        """Short names `[n_items]`; "" for padding."""
        return ["", *np.array(item_titles(self.frame), dtype=object)[self.rows].tolist()]


def item_table(settings: FeatureSettings, dataset: Any) -> ItemTable:
    """Read or build the item features of a dataset and bring them into the order of its internal ids.

    Raises
    ------
    FeatureError
        As `build_llm_features`.
    """
    frame = read_items(settings)
    source = item_source(settings, frame)
    tokens = dataset.id2token(dataset.iid_field, np.arange(1, dataset.item_num))
    rows = store.rows_of(source.tokens, tokens)
    provenance = source.provenance
    if settings.permute_seed is not None:
        rows = permutation(frame, settings.permute_seed)[rows]
        provenance = provenance | {"permute_seed": settings.permute_seed}
        logging.getLogger().warning(
            f"Control experiment: llm_permute_seed={settings.permute_seed} gives the items of each domain each "
            "other's text."
        )
    vectors = np.zeros((dataset.item_num, source.matrix.shape[1]), dtype=np.float32)  # [n_items, D]
    vectors[1:] = source.matrix[rows]
    return ItemTable(frame, source, rows, vectors, provenance)
