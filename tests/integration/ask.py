"""Asks a service many questions in a process of its own, for tests that kill or interrupt it.

`python ask.py URL CACHE_FILE QUESTIONS CONCURRENCY` prints how many were known and how many were asked.
"""

from __future__ import annotations

import sys

from recbole_cdsr.llm.generator import ChatRequest
from recbole_cdsr.llm.openai_generator import OpenAIGenerator
from recbole_cdsr.llm.request_limits import RequestLimits
from recbole_cdsr.llm.request_runner import run_requests
from recbole_cdsr.llm.response_cache import ResponseCache


def main() -> int:
    url, cache_file, count, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    generator = OpenAIGenerator("m", base_url=url, concurrency=concurrency)
    requests = [ChatRequest([{"role": "user", "content": f"q{n}"}], "p-1") for n in range(count)]
    try:
        with ResponseCache(cache_file) as cache:
            report = run_requests(generator, requests, cache, RequestLimits()).report
    except KeyboardInterrupt:
        return 130
    print(report.cached, report.asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
