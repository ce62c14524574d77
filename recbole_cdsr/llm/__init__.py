"""LLM features: item prompts, text encoders, the feature store, profiles.

`build_llm_features(config, dataset)` is the whole way; `build_item_features(folder, name)` its first half,
for a folder without a loaded dataset.
"""

from __future__ import annotations

from recbole_cdsr.llm.build import build_llm_features
from recbole_cdsr.llm.encoder import SentenceTransformerEncoder, TextEncoder
from recbole_cdsr.llm.encoder_sources import find_default_encoder
from recbole_cdsr.llm.features import LLMFeatures
from recbole_cdsr.llm.item_features import build_item_features
from recbole_cdsr.llm.reduction import pca, pca_over_all, pca_per_domain
from recbole_cdsr.llm.store import FeatureSet, align, load_feature_set, save_feature_set

__all__ = [
    "FeatureSet",
    "LLMFeatures",
    "SentenceTransformerEncoder",
    "TextEncoder",
    "align",
    "build_item_features",
    "build_llm_features",
    "find_default_encoder",
    "load_feature_set",
    "pca",
    "pca_over_all",
    "pca_per_domain",
    "save_feature_set",
]
