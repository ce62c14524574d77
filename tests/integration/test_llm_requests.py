"""Language models over real HTTP: `transformers serve`, and runs that are killed, interrupted, or two at once."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.llm.generator import ChatRequest
from recbole_cdsr.llm.openai_encoder import OpenAIEncoder
from recbole_cdsr.llm.openai_generator import OpenAIGenerator
from recbole_cdsr.llm.request_limits import RequestLimits
from recbole_cdsr.llm.request_plan import plan_requests
from recbole_cdsr.llm.request_runner import run_requests
from recbole_cdsr.llm.response_cache import ResponseCache
from recbole_cdsr.llm.transformers_generator import TransformersGenerator

from ..unit.llm.service import WIDTH, vector_of
from ..unit.llm.tiny_model import save_tiny_model

REPOSITORY = Path(__file__).parents[2]
SERVICE = REPOSITORY / "tests" / "unit" / "llm" / "service.py"
ASK = Path(__file__).with_name("ask.py")


def environment() -> dict[str, str]:
    """The interpreter's own search path, for processes that import what the tests import."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])}


class SeparateService:
    """The well-behaved service in a process of its own, that no client's work slows down."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._address = folder / "address"
        self._process = subprocess.Popen([sys.executable, SERVICE, self._address, str(seconds)], env=environment())
        wait_for(self._address.exists)
        self.url = self._address.read_text()

    def questions(self) -> list[str]:
        """All that was asked, in order."""
        file = Path(f"{self._address}.questions")
        return file.read_text().splitlines() if file.exists() else []

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def wait_for(condition, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@pytest.fixture
def separate(tmp_path, request) -> Iterator[SeparateService]:
    service = SeparateService(tmp_path, getattr(request, "param", 0.02))
    yield service
    service.close()


def asking(service: SeparateService, cache: Path, count: int, concurrency: int) -> subprocess.Popen[str]:
    command = [sys.executable, ASK, service.url, cache, str(count), str(concurrency)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, int]:
    """How many answers a process knew and how many it asked for."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    known, asked = out.split()
    return int(known), int(asked)


def answered(cache: Path) -> int:
    with sqlite3.connect(f"file:{cache}?mode=ro", uri=True) as database:
        return database.execute("SELECT COUNT(*) FROM answers").fetchone()[0]


def test_a_killed_run_goes_on_where_it_was(separate, tmp_path):
    cache = tmp_path / "llm_cache.sqlite"
    process = asking(separate, cache, 1000, 16)
    wait_for(lambda: len(separate.questions()) >= 300)
    process.kill()
    process.communicate()
    kept, begun = answered(cache), len(separate.questions())
    assert 0 < kept < 1000
    assert begun - kept <= 16  # on their way, or answered and not yet on the disk
    known, asked = finished(asking(separate, cache, 1000, 16))
    assert (known, asked) == (kept, 1000 - kept)
    questions = separate.questions()
    assert len(questions) == 1000 + begun - kept
    assert len(set(questions)) == 1000


def test_two_runs_at_once_share_the_work(separate, tmp_path):
    cache = tmp_path / "llm_cache.sqlite"
    processes = [asking(separate, cache, 400, 4) for _ in range(2)]
    counts = [finished(process) for process in processes]
    assert len(separate.questions()) == len(set(separate.questions())) == 400
    assert sum(asked for _, asked in counts) == 400
    assert all(known + asked == 400 for known, asked in counts)


@pytest.mark.parametrize("separate", [0.3], indirect=True)
def test_ctrl_c_keeps_what_is_on_its_way(separate, tmp_path):
    cache = tmp_path / "llm_cache.sqlite"
    process = asking(separate, cache, 400, 8)
    wait_for(lambda: len(separate.questions()) >= 12)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    asked = len(separate.questions())
    assert answered(cache) == asked < 400


@pytest.mark.parametrize("separate", [0.2], indirect=True)
def test_throughput_is_near_what_the_service_allows(separate, tmp_path):
    """32 at once, 200 ms each: 160 a second at most. benchmarks/llm_requests.py measures it; this only sees a fall."""
    generator = OpenAIGenerator("m", base_url=separate.url, concurrency=32)
    requests = [ChatRequest([{"role": "user", "content": f"q{n}"}], "p-1") for n in range(320)]
    with ResponseCache(tmp_path / "llm_cache.sqlite") as cache:
        begun = time.perf_counter()
        report = run_requests(generator, requests, cache).report
        seconds = time.perf_counter() - begun
    assert report.complete
    assert 320 / seconds > 64, f"{320 / seconds:.0f} requests a second"


def test_embeddings_over_http(separate, tmp_path):
    texts = [f"text {n % 70}" for n in range(100)]
    encoder = OpenAIEncoder("e", cache_file=tmp_path / "c.sqlite", base_url=separate.url, batch_size=16)
    vectors = encoder.encode(texts)
    np.testing.assert_array_equal(vectors, np.array([vector_of(text) for text in texts], dtype=np.float32))
    assert vectors.shape == (100, WIDTH)
    assert len(separate.questions()) == 5
    encoder.encode(texts)
    assert len(separate.questions()) == 5


@pytest.mark.slow
def test_transformers_serve_answers_as_the_model_does_itself(tmp_path):
    """A real OpenAI-compatible server with a model of the test's own, offline."""
    pytest.importorskip("openai")
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    model = save_tiny_model(tmp_path / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; sys.exit(main())"
    command = [sys.executable, "-c", code, "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    log = (tmp_path / "serve.log").open("w")
    process = subprocess.Popen([*command, "--device", "cpu"], env=environment(), stdout=log, stderr=log)
    try:
        wait_for(lambda: process.poll() is not None or is_healthy(f"http://127.0.0.1:{port}/health"), 240)
        assert process.poll() is None, (tmp_path / "serve.log").read_text()
        generator = OpenAIGenerator(
            str(model), base_url=f"http://127.0.0.1:{port}/v1", max_new_tokens=8, concurrency=2, tokenizer=str(model)
        )
        texts = ("green tea", "a longer question about porcelain", "Tee für zwei")
        requests = [ChatRequest([{"role": "user", "content": text}], "p-1", text) for text in texts]
        with ResponseCache(tmp_path / "c.sqlite") as cache:
            plan = plan_requests(generator, requests, cache)
            outcome = run_requests(generator, requests, cache, RequestLimits(max_attempts=2))
            assert run_requests(generator, requests, cache).report.asked == 0
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()
    itself = TransformersGenerator(str(model), max_new_tokens=8)
    for request, answer in zip(requests, outcome.answers, strict=True):
        own = itself.generate([request.chat])[0]
        # The server streams its text piece by piece and strips nothing; bytes that are no character count as one each.
        assert answer.text.strip()[:3] == own.text[:3]
        assert answer.completion_tokens <= 8
        assert answer.prompt_tokens == own.prompt_tokens
    assert not plan.estimated
    assert plan.prompt_tokens == outcome.report.prompt_tokens


def is_healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as response:
            return response.status == 200
    except OSError:
        return False
