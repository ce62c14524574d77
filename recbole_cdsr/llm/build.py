"""From a dataset and its configuration to `LLMFeatures`: build what is missing, check what is there."""

from __future__ import annotations

from typing import Any

from recbole_cdsr.data.card_features import note_features
from recbole_cdsr.llm.features import LLMFeatures
from recbole_cdsr.llm.item_table import ItemTable, item_table
from recbole_cdsr.llm.profile_features import profile_table
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.llm.spending import spent_together


@spent_together()
def build_llm_features(config: Any, dataset: Any, items: ItemTable | None = None) -> LLMFeatures:
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
        Needs `dataset_name`, `card`, `iid_field`, `uid_field`, `id2token`, `item_num`, `user_num`, and for profiles
        `training_histories()`.
    items : ItemTable, optional
        The dataset's items, where they have been read already.

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
    items = items or item_table(settings, dataset)
    made_by = f"items: {items.provenance['made_by']}, {items.provenance['encoder']['name']}"
    table, profile_provenance = None, None
    if settings.use_profiles:
        table, profile_provenance = profile_table(settings, dataset, items)
        made_by += f"; profiles: {profile_provenance['made_by']}"
    for kind, of_kind in (("items", items.provenance), ("profiles", profile_provenance)):
        if of_kind is not None:
            note_features(settings.dataset_dir, settings.dataset_name, dataset.card, kind, of_kind)
    provenance = {
        "made_by": made_by,
        "llm": ((profile_provenance or {}).get("generator") or {}).get("llm"),
        "items": items.provenance,
        "profiles": profile_provenance,
        "permute_seed": settings.permute_seed,
    }
    return LLMFeatures(items.vectors, table, provenance)
