"""Item vectors and titles of a loaded dataset, by internal id."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from recbole_cdsr.llm import store
from recbole_cdsr.llm.history_texts import ItemWords
from recbole_cdsr.llm.item_features import item_source, permutation, read_items
from recbole_cdsr.llm.prompts import ItemPrompt, item_categories, item_titles
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
    prompt : ItemPrompt
        The wording of item texts, which says which columns are titles and categories.
    """

    frame: pd.DataFrame
    source: store.FeatureSet
    rows: np.ndarray
    vectors: np.ndarray
    provenance: dict[str, Any]
    prompt: ItemPrompt

    def titles(self) -> list[str]:
        """Short names `[n_items]`; "" for padding."""
        return self._of_row(item_titles(self.frame, self.prompt))

    def categories(self) -> list[str]:
        """Categories `[n_items]`; "" where an item has none."""
        return self._of_row(item_categories(self.frame, self.prompt))

    def words(self, item_domain: np.ndarray, domain_names: Sequence[str]) -> ItemWords:
        """Titles, categories and domains as prompts name them."""
        domains = ["", *(domain_names[domain] for domain in item_domain[1:].tolist())]
        return ItemWords(self.titles(), self.categories(), domains)

    def by_id(self, of_row: np.ndarray, padding: int) -> np.ndarray:
        """Numbers of the rows of `.item` `[n]` by internal id `[n_items]`."""
        return np.append(padding, of_row[self.rows])

    def _of_row(self, of_row: list[str]) -> list[str]:
        return ["", *np.array(of_row, dtype=object)[self.rows].tolist()]


def item_table(settings: FeatureSettings, dataset: Any, words_only: bool = False) -> ItemTable:
    """Read or build the item features of a dataset and bring them into the order of its internal ids.

    With `words_only` neither: the table has titles and categories, and vectors of width 0.

    Raises
    ------
    FeatureError
        As `build_llm_features`.
    """
    frame = read_items(settings)
    if words_only:
        source = store.FeatureSet(np.zeros((len(frame), 0), dtype=np.float32), frame["item_id"].tolist(), {})
    else:
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
    return ItemTable(frame, source, rows, vectors, provenance, settings.item_prompt())
