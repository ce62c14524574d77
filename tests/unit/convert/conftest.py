from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

FILES = {
    "num.txt": "3\n2",  # no newline at the end, as some releases have it
    "train_A.txt": "1\t0,1,2\n2\t2,0,1\n",
    "train_B.txt": "1\t3,4,3\n",
    "train_overlap.txt": "1\t0,3,1,4\n",
    "valid.txt": "1\t2,3,0\n2\t4,3,1,2\n",
    "test.txt": "1\t3,0,4\n",
}
PICKLES = {
    "item_set_A.pkl": {"A2": 2, "A0": 0, "A1": 1},  # the dictionary's order is not the index's
    "text_A.pkl": {
        "A0": "Miso\npaste",
        "A1": 'Pan 5" wide',
        "A2": "Tea &amp; \t茶 🍵",
        "XX": "not in item_set",
    },
    "item_set_B.pkl": {"B0": 0, "B1": 1},
    "text_B.pkl": {"B0": "Wok", "B1": ""},
}


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., Path]:
    """Write a miniature LLMCDSR release; keywords replace files (`num__txt="..."`), `None` drops one."""

    def write(**changed: str | bytes | dict | None) -> Path:
        folder = tmp_path / "release"
        folder.mkdir()
        replaced = {name.replace("__", "."): content for name, content in changed.items()}
        assert set(replaced) <= set(FILES) | set(PICKLES)
        for name, content in {**FILES, **PICKLES, **replaced}.items():
            if isinstance(content, dict):
                content = pickle.dumps(content)
            elif isinstance(content, str):
                content = content.encode("utf-8")
            if content is not None:
                (folder / name).write_bytes(content)
        return folder

    return write
