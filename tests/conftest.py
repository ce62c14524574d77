"""For all tests: no network, and a working directory of their own, in which runs leave their logs and checkpoints."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

# Read when the libraries are imported, so set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if _workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # they share the cores, and so do processes of a test
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(_workers))))

import pytest

import recbole_cdsr  # noqa: F401  (mends RecBole before a test module imports it)


@pytest.fixture(scope="session", autouse=True)
def working_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """RecBole writes log/, log_tensorboard/ and saved/ where it is started: not in the checkout."""
    folder = tmp_path_factory.mktemp("working-directory")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(autouse=True)
def visible_devices() -> Iterator[None]:
    """RecBole's Config writes its gpu_id into the environment; the next test must see the machine as it is."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    yield
    if before is None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = before


@pytest.fixture(scope="session")
def load_tool() -> Callable[[str], ModuleType]:
    """A script of `tools/` as a module, by its name without `.py`."""

    def load_tool(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_tool
