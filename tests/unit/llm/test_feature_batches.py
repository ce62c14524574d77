"""`recbole-cdsr features build --batch-export`: step by step, without asking anybody."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from recbole_cdsr.llm import batch_files

from .feature_dataset import llm
from .service import completion


def test_batch_files_go_out_and_come_back_step_by_step(features, data, tmp_path):
    file, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    keys = llm("http://127.0.0.1:9/v1", "--what=pseudo")  # nobody listens there

    def answer(text: str) -> int:
        requests = [json.loads(line) for line in file.read_text().splitlines()]
        lines = [
            {"custom_id": request["custom_id"], "response": {"status_code": 200, "body": completion(text)}}
            for request in reversed(requests)
        ]
        results.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return len(requests)

    said = features("build", *keys, "--batch-export", str(file))
    assert "Pseudo items, generation: 40 requests were written" in said
    assert answer("I would take a Kettle, a Toaster and an Oven.") == 40
    said = features("build", *keys, "--batch-import", str(results), "--batch-export", str(file))
    assert "40 results: 40 new answers" in said
    assert "Pseudo items, names: " in said
    assert answer("1. Kettle\n2. Toaster\n3. Oven") == 3  # one for each domain, for the first answers are equal
    features("import", str(results))
    assert "nothing is left to write" in features("build", *keys, "--batch-export", str(file))
    assert "pseudo items: LLM m (3 examples); 40 single-domain" in features("build", *keys)


def test_the_second_step_of_a_batch_is_what_a_build_would_ask(features, data, tmp_path, service):
    """A reasoning model's thoughts are no part of the question that is made of its answer, however that is asked."""
    thought = "<think>Kettles, perhaps?</think>\nI would take a Kettle, a Toaster and an Oven."
    file, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    keys = llm(service.url, "--what=pseudo")
    for text in (thought, "<think>Easy.</think>1. Kettle\n2. Toaster\n3. Oven"):
        features("build", *keys, "--batch-export", str(file))
        requests = [json.loads(line) for line in file.read_text().splitlines()]
        assert not any("perhaps" in request["body"]["messages"][-1]["content"] for request in requests)
        lines = [
            {"custom_id": request["custom_id"], "response": {"status_code": 200, "body": completion(text)}}
            for request in requests
        ]
        results.write_text("".join(json.dumps(line) + "\n" for line in lines))
        features("import", str(results))
    assert "pseudo items, all steps: 0 requests to ask" in features("build", *keys, "--dry-run")
    assert "pseudo items: LLM m (3 examples); 40 single-domain" in features("build", *keys)
    assert not service.requests


def test_all_files_of_requests_are_named(features, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_files, "MAX_REQUESTS", 15)
    keys = llm("http://127.0.0.1:9/v1", "--what=pseudo")  # nobody listens there
    said = features("build", *keys, "--batch-export", str(tmp_path / "r.jsonl"))
    files = ", ".join(str(tmp_path / name) for name in ("r.jsonl", "r-2.jsonl", "r-3.jsonl"))
    assert f"40 requests were written to {files};" in said


REFUSED = {"status_code": 400, "body": {"error": {"message": "maximum context length is 8"}}}
FAILED = {"status_code": 500, "body": {"error": {"message": "server had an error"}}}


@pytest.mark.parametrize(("failure", "given_up"), [(REFUSED, True), (FAILED, False)], ids=["refused", "failed"])
def test_the_next_step_waits_for_what_may_be_answered_only(features, tmp_path, failure, given_up):
    file, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    keys = llm("http://127.0.0.1:9/v1", "--what=pseudo")  # nobody listens there

    def answer(response: Callable[[int], dict[str, Any]]) -> None:
        requests = [json.loads(line) for line in file.read_text().splitlines()]
        lines = [{"custom_id": of["custom_id"], "response": response(place)} for place, of in enumerate(requests)]
        results.write_text("".join(json.dumps(line) + "\n" for line in lines))
        features("import", str(results))

    features("build", *keys, "--batch-export", str(file))
    good = {"status_code": 200, "body": completion("I would take a Kettle, a Toaster and an Oven.")}
    answer(lambda place: failure if place < 2 else good)
    said = features("build", *keys, "--batch-export", str(file))
    if not given_up:
        assert "Pseudo items, generation: 2 requests were written" in said
        return
    assert "Pseudo items, names: " in said
    answer(lambda place: {"status_code": 200, "body": completion("1. Kettle\n2. Toaster\n3. Oven")})
    said = features("build", *keys, "--batch-export", str(file))
    assert "every request for all users is asked (2 given up)" in said
