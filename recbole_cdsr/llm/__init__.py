"""LLM features: item prompts, text encoders, text generators, the feature store, profiles.

`build_llm_features(config, dataset)` is the whole way; `build_item_features(folder, name)` its first half,
for a folder without a loaded dataset. `run_requests(generator, requests, cache)` asks a language model anything.
"""

from __future__ import annotations

from recbole_cdsr.llm.batch_files import export_batch, import_batch
from recbole_cdsr.llm.build import build_llm_features
from recbole_cdsr.llm.encoder import SentenceTransformerEncoder, TextEncoder
from recbole_cdsr.llm.encoder_settings import EncoderSettings
from recbole_cdsr.llm.encoder_sources import find_default_encoder
from recbole_cdsr.llm.features import LLMFeatures
from recbole_cdsr.llm.generator import Answer, ChatRequest, OfflineGenerator, TextGenerator
from recbole_cdsr.llm.generator_settings import GeneratorSettings
from recbole_cdsr.llm.item_features import build_item_features
from recbole_cdsr.llm.reduction import pca, pca_over_all, pca_per_domain
from recbole_cdsr.llm.request_limits import Prices, RequestLimits, Shard
from recbole_cdsr.llm.request_plan import plan_requests
from recbole_cdsr.llm.request_runner import run_requests
from recbole_cdsr.llm.response_cache import ResponseCache
from recbole_cdsr.llm.store import FeatureSet, align, load_feature_set, save_feature_set

__all__ = [
    "Answer",
    "ChatRequest",
    "EncoderSettings",
    "FeatureSet",
    "GeneratorSettings",
    "LLMFeatures",
    "OfflineGenerator",
    "Prices",
    "RequestLimits",
    "ResponseCache",
    "SentenceTransformerEncoder",
    "Shard",
    "TextEncoder",
    "TextGenerator",
    "align",
    "build_item_features",
    "build_llm_features",
    "export_batch",
    "find_default_encoder",
    "import_batch",
    "load_feature_set",
    "pca",
    "pca_over_all",
    "pca_per_domain",
    "plan_requests",
    "run_requests",
    "save_feature_set",
]
