"""From a dataset and its configuration to `LLMFeatures`: build what is missing, check what is there."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from recbole_cdsr.llm import store
from recbole_cdsr.llm.features import LLMFeatures
from recbole_cdsr.llm.item_features import item_source, permutation, read_items
from recbole_cdsr.llm.profile_features import profile_table
from recbole_cdsr.llm.prompts import item_titles
from recbole_cdsr.llm.settings import FeatureSettings


def build_llm_features(config: Any, dataset: Any) -> LLMFeatures:
    """LLM features of a dataset by internal id; what its lazy `llm_features` calls.

    Parameters
    ----------
    config : mapping or RecBole Config
        Read by `config[key]`; a missing key or None means the default: `data_path` (the dataset's folder),
        `DOMAIN_FIELD` (`domain`), `llm_encoder` (all-MiniLM-L6-v2), `llm_batch_size` (128), `llm_features_dir`
        (`<data_path>/features`), `item_features_file` (none: encode the item text), `use_profiles` (true),
        `profile_generator` (`extractive` or `none`), `profile_encoding` (`vectors` or `text`),
        `profile_clusters` (10), `llm_permute_seed` (none; an integer permutes the items' text within each
        domain, a control experiment), `device` (`cpu`), `show_progress` (true).
    dataset : CrossDomainDataset
        Needs `dataset_name`, `iid_field`, `uid_field`, `id2token`, `item_num`, `user_num`, and for profiles
        `training_histories()`.

    Returns
    -------
    LLMFeatures

    Raises
    ------
    FeatureError
        When stored features are stale or damaged, an item has none, the encoder is refused, or nothing can be
        written.
    ConfigError
        When a key has a value it cannot have.
    """
    settings = FeatureSettings(config, dataset.dataset_name)
    frame = read_items(settings)
    source = item_source(settings, frame)
    tokens = dataset.id2token(dataset.iid_field, np.arange(1, dataset.item_num))
    rows = store.rows_of(source.tokens, tokens)  # [n_items - 1], the row of .item of each internal id from 1
    item_provenance = source.provenance
    if settings.permute_seed is not None:
        rows = permutation(frame, settings.permute_seed)[rows]
        item_provenance = item_provenance | {"permute_seed": settings.permute_seed}
        logging.getLogger().warning(
            f"Control experiment: llm_permute_seed={settings.permute_seed} gives the items of each domain each "
            "other's text."
        )
    items = np.zeros((dataset.item_num, source.matrix.shape[1]), dtype=np.float32)  # [n_items, D]
    items[1:] = source.matrix[rows]
    made_by = f"items: {item_provenance['made_by']}, {item_provenance['encoder']['name']}"
    table, profile_provenance = None, None
    if settings.use_profiles:
        titles = ["", *np.array(item_titles(frame), dtype=object)[rows]]  # [n_items]
        table, profile_provenance = profile_table(settings, dataset, source, rows, items, titles)
        made_by += f"; profiles: {profile_provenance['made_by']}"
    provenance = {
        "made_by": made_by,
        "llm": None,
        "items": item_provenance,
        "profiles": profile_provenance,
        "permute_seed": settings.permute_seed,
    }
    return LLMFeatures(items, table, provenance)
