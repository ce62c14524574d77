from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.llm import batch_files
from recbole_cdsr.llm.batch_files import export_batch, import_batch
from recbole_cdsr.llm.generator import ChatRequest, OfflineGenerator, request_key
from recbole_cdsr.llm.openai_encoder import OpenAIEncoder
from recbole_cdsr.llm.openai_generator import OpenAIGenerator
from recbole_cdsr.llm.request_limits import RequestLimits, Shard
from recbole_cdsr.llm.request_runner import run_requests
from recbole_cdsr.llm.response_cache import ResponseCache

from .service import completion, embeddings


@pytest.fixture
def generator(service) -> OpenAIGenerator:
    return OpenAIGenerator("m", base_url=service.url, max_new_tokens=16, extra_parameters={"top_p": 0.9})


def questions(count: int) -> list[ChatRequest]:
    return [ChatRequest([{"role": "user", "content": f"q{n} für"}], "p-1", f"user {n}") for n in range(count)]


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def result(request: dict, body: dict | None = None, status: int = 200, error: dict | None = None) -> str:
    """A line as the Batch API writes it."""
    body = completion(f"about {request['body']['messages'][-1]['content']}") if body is None else body
    response = None if error and status == 0 else {"status_code": status, "request_id": "r", "body": body}
    return json.dumps({"id": "batch_req_1", "custom_id": request["custom_id"], "response": response, "error": error})


def test_a_file_of_requests_holds_what_would_be_asked(generator, cache, tmp_path):
    path = tmp_path / "batches" / "requests.jsonl"
    exported = export_batch(path, generator, [*questions(3), *questions(2)], cache)
    assert (exported.files, exported.requests, exported.known) == ((path,), 3, 0)
    lines = lines_of(path)
    assert [line["custom_id"] for line in lines] == [request_key(generator, request) for request in questions(3)]
    assert lines[0] == {
        "custom_id": lines[0]["custom_id"],
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "m",
            "messages": [{"role": "user", "content": "q0 für"}],
            "max_tokens": 16,
            "temperature": 0.0,
            "top_p": 0.9,
        },
    }


def test_results_answer_the_run_whatever_their_order_and_nothing_is_asked_twice(generator, cache, tmp_path, service):
    path, results, errors = (tmp_path / name for name in ("requests.jsonl", "results.jsonl", "errors.jsonl"))
    export_batch(path, generator, questions(10), cache)
    lines = lines_of(path)
    written = [result(line) for line in lines[:5]]
    written[2] = result(lines[2], completion("", "stop"))
    written[3] = result(lines[3], completion("cut", "length"))
    written += [written[0], ""]
    random.Random(3).shuffle(written)
    results.write_text("\n".join(written) + "\n" + result(lines[9])[:50])  # a download that was cut off
    errors.write_text(
        "\n".join(
            [
                result(lines[5], {"error": {"code": "content_filter", "message": "policy"}}, 400),
                result(lines[6], {"error": {"message": "server had an error"}}, 500),
                result(lines[7], error={"code": "batch_expired", "message": "not run in time"}, status=0),
                result(lines[0], {"error": {"message": "too late"}}, 500),
            ]
        )
    )
    first = import_batch(results, cache)
    assert (first.lines, first.answered, first.empty, first.truncated) == (7, 5, 1, 1)
    assert len(first.damaged) == 1
    assert (first.prompt_tokens, first.completion_tokens) == (50, 20)
    second = import_batch(errors, cache)
    assert (second.answered, second.refused, second.known) == (1, 1, 1)
    assert {entry.label for entry in second.failed} == {"user 6", "user 7"}
    assert "not run in time" in " ".join(entry.reason for entry in cache.given_up())
    assert import_batch(results, cache).answered == 0

    assert export_batch(tmp_path / "rest.jsonl", generator, questions(10), cache).requests == 4
    outcome = run_requests(generator, questions(10), cache)
    assert (outcome.report.cached, outcome.report.asked) == (6, 4)
    assert {received.asked for received in service.requests} == {f"q{n} für" for n in (6, 7, 8, 9)}
    assert cache.given_up() == []
    (content,) = cache.content()  # what was imported is filed like what was asked
    assert (content.backend, content.model, content.prompt_version, content.answers) == ("openai", "m", "p-1", 10)


def test_what_is_exported_again_keeps_its_former_answer_until_there_is_a_new_one(generator, cache, tmp_path):
    file, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    again = RequestLimits(ask_again=frozenset({"truncated"}))
    export_batch(file, generator, questions(3), cache)
    lines = lines_of(file)
    results.write_text("\n".join(result(line, completion("cut", "length")) for line in lines))
    import_batch(results, cache)
    assert export_batch(file, generator, questions(3), cache, again).requests == 3
    assert [answer.text for answer in run_requests(generator, questions(3), cache).answers] == ["cut"] * 3
    written = [result(lines[0], completion("whole")), result(lines[1], {"error": {"message": "oops"}}, 500)]
    results.write_text("\n".join(written))
    imported = import_batch(results, cache)
    assert (imported.answered, imported.known, imported.in_vain, imported.failed) == (1, 0, 1, [])
    assert [answer.text for answer in run_requests(generator, questions(3), cache).answers] == ["whole", "cut", "cut"]
    assert import_batch(results, cache).known == 1  # the very same results once more


@pytest.mark.parametrize("order", ["old, new", "new, old", "old, new, old", "both in one", "both in one, new first"])
def test_an_older_file_of_results_is_not_taken_for_the_answers_that_are_asked_again(generator, cache, tmp_path, order):
    file = tmp_path / "requests.jsonl"
    again = RequestLimits(ask_again=frozenset({"truncated"}))
    files: dict[str, Path] = {}

    def results(name: str, *answers: str) -> None:
        files[name] = tmp_path / f"{name}.jsonl"
        lines = zip(lines_of(file), answers, strict=True)
        files[name].write_text("".join(result(line, completion(answer, "length")) + "\n" for line, answer in lines))

    export_batch(file, generator, questions(2), cache)
    results("oldest", "a", "b")
    import_batch(files["oldest"], cache)
    export_batch(file, generator, questions(2), cache, again)
    results("old", "<think>so</think>a b", "b c")
    import_batch(files["old"], cache)
    assert export_batch(file, generator, questions(2), cache, again).requests == 2
    results("new", "a b c", "b c d")
    both = files["old"].read_text(), files["new"].read_text()
    for name, content in {"both in one": both, "new first": both[::-1]}.items():
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("".join(content))

    names = {"both in one, new first": ["new first"]}.get(order, order.split(", "))
    imported = [import_batch(files[name], cache) for name in ["oldest", *names, "oldest"]]
    assert sum(report.answered for report in imported) == 2
    assert imported[0].known == imported[-1].known == 2
    assert [answer.text for answer in run_requests(generator, questions(2), cache).answers] == ["a b c", "b c d"]
    assert not cache.exported([line["custom_id"] for line in lines_of(file)])


def test_results_of_a_lost_cache_are_kept_all_the_same(generator, cache, tmp_path):
    with ResponseCache(tmp_path / "lost.sqlite") as lost:
        export_batch(tmp_path / "requests.jsonl", generator, questions(2), lost)
    (tmp_path / "results.jsonl").write_text("\n".join(map(result, lines_of(tmp_path / "requests.jsonl"))))
    imported = import_batch(tmp_path / "results.jsonl", cache)
    assert (imported.answered, imported.not_exported) == (2, 2)
    assert run_requests(generator, questions(2), cache).report.cached == 2


def test_requests_in_a_batch_file_are_asked_with_a_warning(generator, cache, tmp_path, caplog):
    export_batch(tmp_path / "requests.jsonl", generator, questions(2), cache)
    run_requests(generator, questions(2), cache)
    assert "2 of the requests stand in a batch file" in caplog.text


def test_more_than_a_file_may_hold_goes_on_in_another(generator, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_files, "MAX_REQUESTS", 4)
    exported = export_batch(tmp_path / "r.jsonl", generator, questions(10), cache)
    assert [file.name for file in exported.files] == ["r.jsonl", "r-2.jsonl", "r-3.jsonl"]
    assert [len(lines_of(file)) for file in exported.files] == [4, 4, 2]
    monkeypatch.setattr(batch_files, "MAX_BYTES", 500)
    exported = export_batch(tmp_path / "s.jsonl", generator, questions(4), cache)
    assert len(exported.files) > 1
    assert all(file.stat().st_size <= 500 for file in exported.files)
    assert sum(len(lines_of(file)) for file in exported.files) == 4


def test_a_smaller_export_leaves_no_file_of_a_larger_one_behind(generator, cache, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(batch_files, "MAX_REQUESTS", 2)
    caplog.set_level("INFO")
    export_batch(tmp_path / "r.jsonl", generator, questions(8), cache)
    (tmp_path / "r-3-notes.jsonl").write_text("mine")
    exported = export_batch(tmp_path / "r.jsonl", generator, questions(3), cache)
    assert [file.name for file in exported.files] == ["r.jsonl", "r-2.jsonl"]
    assert [file.name for file in exported.removed] == ["r-3.jsonl", "r-4.jsonl"]
    assert sorted(file.name for file in tmp_path.glob("*.jsonl")) == ["r-2.jsonl", "r-3-notes.jsonl", "r.jsonl"]
    assert (
        f"Removed, for an earlier export wrote it: {tmp_path / 'r-3.jsonl'}, {tmp_path / 'r-4.jsonl'}." in caplog.text
    )


@pytest.mark.parametrize("kept", ["results", "exported"])
def test_a_numbered_file_that_is_no_part_of_the_export_stays(generator, cache, tmp_path, kept):
    file = tmp_path / "r-2.jsonl"
    if kept == "results":
        file.write_text('{"id": "batch_req_1"}\n')
    else:
        export_batch(file, generator, questions(5)[3:], cache)
    before = file.read_text()
    assert export_batch(tmp_path / "r.jsonl", generator, questions(3), cache).removed == ()
    assert file.read_text() == before


def test_requests_that_are_out_already_are_exported_with_a_warning(generator, cache, tmp_path, caplog):
    file, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    assert export_batch(file, generator, questions(3), cache).waiting == 0
    assert "before" not in caplog.text
    assert export_batch(file, generator, questions(5), cache).waiting == 3
    assert "3 of the 5 requests were exported before" in caplog.text
    caplog.clear()
    lines = lines_of(file)
    failed = [result(line, {"error": {"message": "oops"}}, 500) for line in lines[1:]]
    results.write_text("\n".join([result(lines[0]), *failed]))
    import_batch(results, cache)
    assert export_batch(file, generator, questions(5), cache).requests == 4
    run_requests(generator, questions(2), cache)
    assert "before" not in caplog.text  # they came back
    assert caplog.text.count("stand in a batch file") == 1  # since they were exported once more
    assert export_batch(file, generator, questions(5), cache).waiting == 3


@pytest.mark.parametrize("name", ["r.jsonl", "r-2.jsonl"])
@pytest.mark.parametrize("content", ["results", "text", "bytes"])
def test_a_file_that_holds_no_requests_is_not_replaced(generator, cache, tmp_path, monkeypatch, name, content):
    monkeypatch.setattr(batch_files, "MAX_REQUESTS", 2)
    export_batch(tmp_path / "elsewhere.jsonl", generator, questions(1), cache)
    (line,) = lines_of(tmp_path / "elsewhere.jsonl")
    written = {"results": result(line).encode(), "text": b"mine\n", "bytes": b"\xff\x00"}[content]
    (tmp_path / name).write_bytes(written)
    with pytest.raises(FeatureError, match=rf"{name} is there and is no file of requests"):
        export_batch(tmp_path / "r.jsonl", generator, questions(3), cache)
    assert (tmp_path / name).read_bytes() == written
    assert sorted(file.name for file in tmp_path.glob("r*")) == [name]
    assert set(cache.exported([request_key(generator, request) for request in questions(3)])) == {line["custom_id"]}
    (tmp_path / name).write_bytes(b"")  # whose content nobody misses
    assert export_batch(tmp_path / "r.jsonl", generator, questions(3), cache).requests == 3


def test_shards_export_their_own_part(generator, cache, tmp_path):
    counts = [
        export_batch(
            tmp_path / f"{index}.jsonl", generator, questions(20), cache, RequestLimits(shard=Shard(index, 2))
        ).requests
        for index in (1, 2)
    ]
    assert sum(counts) == 20
    assert min(counts) > 0


def test_vectors_come_by_batch_file_too(service, cache, tmp_path):
    encoder = OpenAIEncoder("e", cache_file=cache.path, base_url=service.url)
    texts = ["tea", "cup", "tea", ""]
    assert encoder.export_batch(tmp_path / "requests.jsonl", texts, cache).requests == 2
    lines = lines_of(tmp_path / "requests.jsonl")
    assert (lines[0]["url"], lines[0]["body"]) == ("/v1/embeddings", {"model": "e", "input": "tea"})
    results = [result(line, embeddings([line["body"]["input"]])) for line in lines]
    (tmp_path / "results.jsonl").write_text("\n".join(reversed(results)))
    assert import_batch(tmp_path / "results.jsonl", cache).answered == 2
    vectors = encoder.encode(texts)
    assert service.requests == []
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not vectors[3].any()


def test_files_that_are_no_results_are_refused(generator, cache, tmp_path):
    export_batch(tmp_path / "requests.jsonl", generator, questions(2), cache)
    with pytest.raises(FeatureError, match="not the file of requests"):
        import_batch(tmp_path / "requests.jsonl", cache)
    with pytest.raises(FeatureError, match="cannot be read"):
        import_batch(tmp_path / "nowhere.jsonl", cache)
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00\x01" * 10)
    with pytest.raises(FeatureError, match="holds no result"):
        import_batch(tmp_path / "bytes.jsonl", cache)
    (tmp_path / "empty.jsonl").write_text("")
    assert import_batch(tmp_path / "empty.jsonl", cache).lines == 0


def test_only_services_have_batch_files(cache, tmp_path):
    with pytest.raises(ConfigError, match="llm_generator=openai"):
        export_batch(tmp_path / "r.jsonl", OfflineGenerator("extractive"), questions(1), cache)
    assert not (tmp_path / "r.jsonl").exists()


def test_a_file_that_cannot_be_written_is_one_line(generator, cache, tmp_path):
    (tmp_path / "folder").write_text("")
    with pytest.raises(FeatureError, match="cannot be written"):
        export_batch(tmp_path / "folder" / "r.jsonl", generator, questions(1), cache)
