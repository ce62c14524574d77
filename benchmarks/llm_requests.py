"""Requests a second that the runner gets from a service that answers after a fixed time, and what it costs in CPU.

    python benchmarks/llm_requests.py [--requests 3200] [--seconds 0.2] [--concurrency 32] [--least 0.8]

The service is the one of the tests, in a process of its own. At a concurrency of 32 and 200 ms it allows 160 requests a
second; the exit code is 1 when less than `--least` of that is reached. Every answer is committed to the response cache
as it arrives, and a second run reads them all from there.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import Stopwatch

from recbole_cdsr.llm.generator import ChatRequest
from recbole_cdsr.llm.openai_generator import OpenAIGenerator
from recbole_cdsr.llm.request_runner import run_requests
from recbole_cdsr.llm.response_cache import ResponseCache

ROOT = Path(__file__).parents[1]
SERVICE = ROOT / "tests" / "unit" / "llm" / "service.py"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3200)
    parser.add_argument("--seconds", type=float, default=0.2, help="the service takes for an answer")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument(
        "--least", type=float, default=0.8, help="part of what the service allows that has to be reached"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder) / "address"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
        service = subprocess.Popen([sys.executable, SERVICE, address, str(options.seconds)], env=environment)
        try:
            while not address.exists():
                time.sleep(0.05)
            reached = measure(address.read_text(), Path(folder) / "llm_cache.sqlite", options)
        finally:
            service.kill()
            service.wait()
    return 0 if reached >= options.least else 1


def measure(url: str, cache_file: Path, options: argparse.Namespace) -> float:
    """Ask, print what was reached, and return it as a part of what the service allows."""
    generator = OpenAIGenerator("m", base_url=url, concurrency=options.concurrency)
    chats = ([{"role": "user", "content": f"question {n} {'x' * 400}"}] for n in range(options.requests))
    requests = [ChatRequest(chat, "p-1") for chat in chats]
    allowed = options.concurrency / options.seconds
    with ResponseCache(cache_file) as cache:
        with Stopwatch() as first:
            run_requests(generator, requests, cache)
        with Stopwatch() as again:
            run_requests(generator, requests, cache)
    rate = options.requests / first.wall
    print(f"{rate:.1f} requests/s of {allowed:.0f} that the service allows: {rate / allowed:.1%}")
    print(
        f"CPU: {1000 * first.processor / options.requests:.2f} ms a request; from the cache: {again.wall:.2f} s for all"
    )
    print(f"load average of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return rate / allowed


if __name__ == "__main__":
    sys.exit(main())
