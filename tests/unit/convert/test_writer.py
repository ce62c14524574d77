"""Files of a converted dataset: the same text as `write_atomic` makes, complete or not there at all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import raw_amazon
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_cdsr.convert.interactions import Interactions
from recbole_cdsr.convert.writer import write_interactions
from recbole_cdsr.data.atomic import write_atomic
from recbole_cdsr.errors import DataError

TOKENS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=5)
TIMES = st.one_of(
    st.integers(-5, 2**33).map(float), st.floats(0, 2e9, allow_nan=False), st.sampled_from([1e15, 1e19, -1e300])
)
RATINGS = st.one_of(st.integers(0, 10).map(lambda half: half / 2), st.just(float("nan")))


def interactions(
    rows: list[tuple[int, int, float, float]], users: list[str], items: list[str], rated: bool
) -> Interactions:
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return Interactions(
        users=np.array(columns[0], dtype=np.int32),
        items=np.array(columns[1], dtype=np.int32),
        times=np.array(columns[2], dtype=np.float64),
        ratings=np.array(columns[3], dtype=np.float32) if rated else None,
        user_tokens=np.array([*users, None], dtype=object)[:-1],
        item_tokens=np.array([*items, None], dtype=object)[:-1],
        item_domains=np.zeros(len(items), dtype=np.int64),
        domain_names=("book",),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), TIMES, RATINGS), max_size=12),
    st.lists(TOKENS, min_size=3, max_size=3),
    st.lists(TOKENS, min_size=3, max_size=3),
    st.booleans(),
)
def test_interactions_are_written_as_write_atomic_does(
    tmp_path_factory: pytest.TempPathFactory, rows: list, users: list[str], items: list[str], rated: bool
) -> None:
    folder = tmp_path_factory.mktemp("written")
    data = interactions(rows, users, items, rated)
    write_interactions(folder / "ours.inter", data)
    frame = pd.DataFrame(
        {
            "user_id": pd.Series(data.user_tokens[data.users], dtype=object),
            "item_id": pd.Series(data.item_tokens[data.items], dtype=object),
            "timestamp": data.times,
        }
    )
    types = {"user_id": "token", "item_id": "token", "timestamp": "float"}
    if rated:
        frame["rating"] = data.ratings
        types = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
    write_atomic(folder / "theirs.inter", frame, types)
    assert (folder / "ours.inter").read_bytes() == (folder / "theirs.inter").read_bytes()


def test_ratings_keep_the_digits_they_had(tmp_path: Path) -> None:
    write_interactions(tmp_path / "a.inter", interactions([(0, 0, 1.0, 3.7), (0, 0, 2.0, 10.0)], ["u"], ["i"], True))
    assert (tmp_path / "a.inter").read_text(encoding="utf-8").splitlines()[1:] == ["u\ti\t3.7\t1", "u\ti\t10\t2"]


@pytest.mark.parametrize("token", ["", "nul\0", "half \ud83c"])
def test_an_id_that_no_file_can_hold_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(DataError, match=r"a\.inter: "):
        write_interactions(tmp_path / "a.inter", interactions([(0, 0, 1.0, 1.0)], [token], ["i"], True))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 300,000 reviews, so that writing them takes a while."""
    raw = tmp_path_factory.mktemp("large") / "raw"
    rows = [raw_amazon.review("2018", f"U{n % 5000}", f"B{n % 700}", 3.0, n) for n in range(1000)]
    for place, category in enumerate(raw_amazon.FILES):
        raw_amazon.write(raw / f"{category}.json", rows * (299 if place == 0 else 1), packed=False)
    return raw


def command(raw: Path, out: Path) -> list[str]:
    arguments = ["--raw", str(raw), "--name", "mini", "--out", str(out), "--domains", "cloth,sport", "--without-text"]
    return [sys.executable, "-m", "recbole_cdsr.cli", "convert", "amazon", *arguments]


def small_dataset(folder: Path) -> dict[str, bytes]:
    """Convert a small dataset to `<folder>/out/mini` and return its files."""
    raw = raw_amazon.write_reviews(folder / "small", "2018")
    assert subprocess.run(command(raw, folder / "out"), capture_output=True, check=False).returncode == 0
    return contents(folder / "out" / "mini")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def full_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # Python ignores the signal and sees the error


def test_a_full_disk_leaves_the_former_dataset(large: Path, tmp_path: Path) -> None:
    before = small_dataset(tmp_path)
    done = subprocess.run(
        command(large, tmp_path / "out"), capture_output=True, text=True, check=False, preexec_fn=full_disk
    )
    assert done.returncode == 2
    assert "mini.inter: cannot be written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path / "out") == ["mini"]
    assert contents(tmp_path / "out" / "mini") == before


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_the_former_dataset(large: Path, tmp_path: Path, how: signal.Signals) -> None:
    before = small_dataset(tmp_path)
    with subprocess.Popen(command(large, tmp_path / "out"), stderr=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        while running.poll() is None:
            if any(path.stat().st_size for path in tmp_path.glob("out/mini.part-*/mini.inter*")):
                running.send_signal(how)  # some of the file is on the disk, and some is not
                break
            time.sleep(0.001)
        said = running.communicate()[1].decode()
    assert running.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert contents(tmp_path / "out" / "mini") == before
    if how == signal.SIGINT:
        assert "recbole-cdsr: interrupted.\n" in said  # and nothing of a run to resume
        assert "Traceback" not in said
        assert os.listdir(tmp_path / "out") == ["mini"]
