"""There are files to compare with: without any, the comparisons would pass by not running."""

from __future__ import annotations

import pytest
from golden_files import FOLDER, files_of


@pytest.mark.parametrize("model", ["lecdsr", "llm4cdsr", "llmcdsr"])
def test_there_are_golden_files(model: str) -> None:
    assert files_of(model), f"no {model}*.npz in {FOLDER}"
