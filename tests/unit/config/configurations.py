"""Configurations and config files, made in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_cdsr.config import CDSRConfig

OURS = "LLM4CDSR"


def make(
    model: str | type | None = "BPR",
    dataset: str | None = "douban",
    files: str | Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    command_line: Sequence[str] = (),
) -> CDSRConfig:
    """A configuration that nothing of the test run's own command line gets into."""
    return CDSRConfig(model, dataset, files, settings, list(command_line))


def write(path: Path, text: str) -> str:
    """Write a config file and name it."""
    path.write_text(text, encoding="utf-8")
    return str(path)
