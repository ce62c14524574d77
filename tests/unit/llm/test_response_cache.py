from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr import processes
from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm import request_claims
from recbole_cdsr.llm.generator import Answer
from recbole_cdsr.llm.response_cache import CacheEntry, GivenUp, ResponseCache


def entry(name: str, prompt_version: str = "p-1") -> CacheEntry:
    content = [{"role": "user", "content": name}]
    return CacheEntry(f"{name:0>64}", "openai", "m", {"temperature": 0.0}, prompt_version, content, f"user {name}")


A, B, C = entry("a"), entry("b"), entry("c")
KEYS = [A.key, B.key, C.key]


def test_answers_come_back_as_they_were(path):
    vector = np.array([1.5, -2.0], dtype=np.float32)
    with ResponseCache(path) as cache:
        cache.store([(A, Answer("Tee für zwei ☕", 10, 4, "stop"))])
        cache.store([(B, Answer(None, 7, 0, "content_filter", "withheld")), (C, Answer(None, 3, 0, vector=vector))])
    with ResponseCache(path) as cache:
        found = cache.get([*KEYS, "d" * 64])
        assert set(found) == set(KEYS)
        assert found[A.key] == Answer("Tee für zwei ☕", 10, 4, "stop", cached=True)
        assert found[B.key].refused
        assert found[B.key].error == "withheld by a content filter"
        np.testing.assert_array_equal(found[C.key].vector, vector)
        (content,) = cache.content()
        assert (content.answers, content.prompt_tokens, content.completion_tokens) == (3, 20, 4)


def test_thoughts_are_kept_and_nobody_reads_them(path):
    thinking = entry("thinking")
    with ResponseCache(path) as cache:
        cache.store([(A, Answer("<think>tea?</think>\nLikes tea.")), (thinking, Answer("<think>tea?</think>"))])
        found = cache.get([A.key, thinking.key])
        assert found[A.key].text == "Likes tea."
        assert found[thinking.key].kinds == {"empty"}
    assert ("<think>tea?</think>",) in sqlite3.connect(path).execute("SELECT text FROM answers").fetchall()


def test_half_a_character_can_be_kept(path):
    broken = replace(A, content=[{"role": "user", "content": "\ud83d"}])
    with ResponseCache(path) as cache:
        cache.store([(broken, Answer("x"))])
        cache.note_export([broken], "file")
        assert cache.exported([A.key])[A.key].content == broken.content


def test_the_first_answer_stays(path):
    with ResponseCache(path) as cache:
        cache.store([(A, Answer("first"))])
        cache.store([(A, Answer("second"))])
        assert cache.get([A.key])[A.key].text == "first"


def test_an_answer_that_is_replaced_is_put_aside(path):
    with ResponseCache(path) as cache:
        cache.store([(A, Answer("bad")), (B, Answer("good"))])
        cache.store([(A, Answer("better")), (B, Answer("late")), (C, Answer("new"))], replacing={A.key, C.key})
        assert [cache.get(KEYS)[key].text for key in KEYS] == ["better", "good", "new"]
    kept = sqlite3.connect(path).execute("SELECT text FROM former").fetchall()
    assert kept == [("bad",)]
    with ResponseCache(path) as cache:
        cache.store([(A, Answer("best"))], replacing=[A.key])
    kept = sqlite3.connect(path).execute("SELECT text FROM former").fetchall()
    assert sorted(kept) == [("bad",), ("better",)]


def test_an_answer_that_is_asked_again_can_be_claimed_until_there_is_a_newer_one(path):
    with ResponseCache(path) as mine, ResponseCache(path) as theirs:
        mine.store([(A, Answer("bad"))])
        assert mine.claim([A.key]) == ([], [])
        old = {A.key: "2026-01-01T00:00:00+00:00"}
        sqlite3.connect(path, isolation_level=None).execute("UPDATE answers SET date = ?", (old[A.key],))
        assert mine.dates(KEYS) == old
        assert mine.claim([A.key], old) == ([A.key], [])
        assert theirs.claim([A.key], old) == ([], [A.key])
        mine.store([(A, Answer("better"))], replacing=[A.key])
        assert theirs.claim([A.key], old) == ([], [])


def test_a_claim_holds_as_long_as_its_run_lives(path):
    with ResponseCache(path) as mine, ResponseCache(path) as theirs:
        assert mine.claim([A.key, B.key]) == ([A.key, B.key], [])
        assert mine.claim([A.key]) == ([A.key], [])
        assert theirs.claim(KEYS) == ([C.key], [A.key, B.key])
        mine.store([(A, Answer("answered"))])
        assert theirs.claim([A.key, B.key]) == ([], [B.key])  # A is answered: neither to ask nor to wait for
        mine.release([B.key])
        assert theirs.claim([B.key]) == ([B.key], [])


def test_a_closed_run_holds_no_claims(path):
    with ResponseCache(path) as cache:
        cache.claim(KEYS)
    with ResponseCache(path) as cache:
        assert cache.claim(KEYS) == (KEYS, [])


def _claim_and_wait(path, claimed) -> None:
    cache = ResponseCache(path)
    cache.claim(KEYS)
    claimed.set()
    time.sleep(60)


def test_claims_of_a_killed_process_are_void_at_once_even_before_its_parent_took_note(path):
    context = multiprocessing.get_context("spawn")
    claimed = context.Event()
    process = context.Process(target=_claim_and_wait, args=(path, claimed))
    process.start()
    try:
        assert claimed.wait(60)
        with ResponseCache(path) as cache:
            assert cache.claim(KEYS) == ([], KEYS)
            os.kill(process.pid, 9)
            deadline = time.monotonic() + 10
            while cache.claim(KEYS)[1] and time.monotonic() < deadline:
                time.sleep(0.02)
            assert cache.claim(KEYS) == (KEYS, [])
    finally:
        process.kill()
        process.join()


def test_claims_of_another_machine_lapse_when_they_are_not_renewed(path, monkeypatch):
    with ResponseCache(path) as far, ResponseCache(path) as here:
        with monkeypatch.context() as patch:
            patch.setattr(processes, "_host", lambda: "another machine")
            far.claim(KEYS)
        assert here.claim(KEYS) == ([], KEYS)
        monkeypatch.setattr(request_claims, "CLAIM_SECONDS", 0.0)
        assert here.claim(KEYS) == (KEYS, [])


def test_given_up_requests_are_listed_until_they_are_answered(path):
    with ResponseCache(path) as cache:
        cache.claim(KEYS)
        cache.give_up([GivenUp(A.key, "user a", "status 500"), GivenUp(B.key, "user b", "status 500")])
        cache.give_up([GivenUp(B.key, "user b", "no answer within 5 s")])
        assert cache.given_up() == [
            GivenUp(A.key, "user a", "status 500"),
            GivenUp(B.key, "user b", "no answer within 5 s"),
        ]
        with ResponseCache(path) as other:
            assert other.claim([A.key, B.key, C.key]) == ([A.key, B.key], [C.key])
        cache.store([(A, Answer("at last"))])
        assert [given_up.label for given_up in cache.given_up()] == ["user b"]


def test_caches_of_several_machines_become_one(path, tmp_path):
    other = tmp_path / "other.sqlite"
    with ResponseCache(path) as cache, ResponseCache(other) as far:
        cache.store([(A, Answer("ours"))])
        far.store([(A, Answer("theirs")), (B, Answer("theirs"))])
        assert cache.take_from(other) == 1
        assert {key: answer.text for key, answer in cache.get(KEYS).items()} == {A.key: "ours", B.key: "theirs"}
        with pytest.raises(FeatureError, match="no response cache"):
            cache.take_from(tmp_path / "nowhere.sqlite")


BAD = [
    Answer("cut", 1, 1, "length"),
    Answer(" "),
    Answer("<think>so"),
    Answer(None, 1, 0, "content_filter", "withheld"),
]


@pytest.mark.parametrize("bad", BAD, ids=["truncated", "blank", "thoughts only", "withheld"])
def test_of_two_caches_the_answer_that_needs_not_be_asked_again_counts_in_both(path, tmp_path, bad):
    other = tmp_path / "other.sqlite"
    good = Answer("good", 1, 1, "stop")
    with ResponseCache(path) as cache, ResponseCache(other) as far:
        cache.store([(A, bad), (B, good), (C, bad)])
        far.store([(A, good), (B, bad), (C, Answer("cut elsewhere", 1, 1, "length"))])
        cache.note_export([A, B, C], "requests.jsonl")
        assert [cache.take_from(other) for _ in range(2)] == [1, 0]
        assert [far.take_from(path) for _ in range(2)] == [1, 0]
        assert [cache.get(KEYS)[key].text for key in KEYS[:2]] == ["good", "good"]
        assert [far.get(KEYS)[key].text for key in KEYS[:2]] == ["good", "good"]
        assert cache.get([C.key])[C.key].says_the_same(bad)
        assert far.get([C.key])[C.key].text == "cut elsewhere"
        assert {key: len(answers) for key, answers in cache.former(KEYS).items()} == {A.key: 1}
        assert cache.former(KEYS)[A.key][0].says_the_same(bad)
        assert far.former(KEYS)[B.key][0].says_the_same(bad)
        assert set(cache.exported(KEYS)) == {B.key, C.key}


STORE_AND_DIE = """
import os, sys
from recbole_cdsr.llm.generator import Answer
from recbole_cdsr.llm.response_cache import CacheEntry, ResponseCache
cache = ResponseCache(sys.argv[1])
for number in range(int(sys.argv[2])):
    cache.store([(CacheEntry(f"{number:064x}", "openai", "m", {}, "p", "q" * 300), Answer("a" * 200, 1, 1, "stop"))])
os.kill(os.getpid(), 9)
"""


def copied(path: Path, to: Path) -> int:
    """How many answers a copy of the one file holds."""
    shutil.copy(path, to)
    with ResponseCache(to, read_only=True) as cache:
        return sum(content.answers for content in cache.content())


def test_a_copy_of_the_one_file_has_nearly_all_after_a_kill_and_all_after_an_end(path, tmp_path):
    path.parent.mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", STORE_AND_DIE, str(path), "200"], env=environment, check=False, timeout=120)
    assert 150 <= copied(path, tmp_path / "killed.sqlite") <= 200
    with ResponseCache(path) as cache, ResponseCache(path, read_only=True):  # so that another process has it open
        cache.store([(entry("one more"), Answer("x"))])
        cache.close()
        assert copied(path, tmp_path / "ended.sqlite") == 201


def test_a_copy_without_tables_is_one_sentence(path, tmp_path):
    broken = tmp_path / "broken.sqlite"
    with sqlite3.connect(broken) as database:
        database.execute("CREATE TABLE something (key TEXT)")
    with ResponseCache(path) as cache, pytest.raises(FeatureError, match=r"broken\.sqlite-wal beside it") as raised:
        cache.take_from(broken)
    assert "\n" not in str(raised.value)
    torn = tmp_path / "torn.sqlite"
    with ResponseCache(tmp_path / "whole.sqlite") as whole:
        whole.store([(entry(str(number)), Answer("a" * 500)) for number in range(100)])
    content = (tmp_path / "whole.sqlite").read_bytes()
    torn.write_bytes(content[:20480] + b"\xff" * (len(content) - 20480))
    with ResponseCache(path) as cache, pytest.raises(FeatureError, match="copy it again"):
        cache.take_from(torn)
    (tmp_path / "empty.sqlite").write_bytes(b"")
    with ResponseCache(path) as cache, pytest.raises(FeatureError, match="holds no answers"):
        cache.take_from(tmp_path / "empty.sqlite")


def test_looking_makes_nothing(path):
    with ResponseCache(path, read_only=True) as cache:
        assert cache.get(KEYS) == {}
        assert cache.content() == []
    assert not path.parent.exists()
    with ResponseCache(path) as cache:
        cache.store([(A, Answer("x"))])
        with ResponseCache(path, read_only=True) as looking:
            assert set(looking.get(KEYS)) == {A.key}


def _write_many(path, start) -> None:
    with ResponseCache(path) as cache:
        for number in range(start, start + 100):
            cache.store([(entry(str(number)), Answer(str(number)))])


def test_several_processes_write_at_once(path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(path, 100 * number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with ResponseCache(path) as cache:
        assert [content.answers for content in cache.content()] == [300]


class TestNotACache:
    def refused(self, path: Path) -> str:
        with pytest.raises(FeatureError) as raised:
            ResponseCache(path)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    def test_a_file_in_the_place_of_its_folder(self, tmp_path):
        (tmp_path / "features").write_text("")
        assert "cannot be written" in self.refused(tmp_path / "features" / "llm_cache.sqlite")

    def test_a_folder_in_its_place(self, path):
        path.mkdir(parents=True)
        assert "llm_cache_file" in self.refused(path)

    def test_some_other_file(self, path):
        path.parent.mkdir()
        path.write_text("this is a text, and a rather long one, so that SQLite has something to look at" * 20)
        assert "not a database" in self.refused(path)
        assert path.read_text().startswith("this is a text")

    def test_a_format_of_the_future(self, path):
        ResponseCache(path).close()
        with sqlite3.connect(path) as database:
            database.execute("UPDATE meta SET value = '99' WHERE name = 'format'")
        assert "format 99" in self.refused(path)

    @pytest.mark.skipif(os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="root writes everywhere")
    def test_a_folder_that_must_not_be_written(self, path):
        path.parent.mkdir()
        path.parent.chmod(0o555)
        code = (
            "import sys; sys.path[:0] = sys.argv[2:]\n"
            "from recbole_cdsr.llm.response_cache import ResponseCache\n"
            "from recbole_cdsr.errors import FeatureError\n"
            "try: ResponseCache(sys.argv[1])\n"
            "except FeatureError as error: print(error)\n"
        )
        command = [sys.executable, "-c", code, str(path), *filter(None, sys.path)]
        if os.geteuid() == 0:
            command = ["/usr/bin/setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        finally:
            path.parent.chmod(0o755)
        assert "cannot be written" in run.stdout, run.stderr
        assert not path.exists()


def test_a_new_cache_is_opened_by_many_at_once(tmp_path):
    """SQLite answers "database is locked" at once to whoever switches a new file to its log while another does."""
    refused = []

    def open_it(path, together):
        together.wait()
        try:
            with ResponseCache(path):
                pass
        except FeatureError as error:
            refused.append(error)

    for turn in range(40):
        together = threading.Barrier(8)
        openers = [threading.Thread(target=open_it, args=(tmp_path / f"{turn}.sqlite", together)) for _ in range(8)]
        for opener in openers:
            opener.start()
        for opener in openers:
            opener.join()
    assert not refused
