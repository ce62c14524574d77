from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _visible_devices(monkeypatch):
    """RecBole's Config writes its gpu_id into the environment; later tests must see the machine as it is."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before or "0")
    if before is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
