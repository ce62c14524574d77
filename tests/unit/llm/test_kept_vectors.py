"""An encoding that ends early is gone on with, and gives what it would have given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.item_features import encoded_items, read_items
from recbole_cdsr.llm.kept_vectors import KeptVectors
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.llm.text_batches import encode_in_batches

TEXTS = [f"text {number} {'x' * (number % 5)}" for number in range(20)]
ENCODER = {"name": "some/encoder", "weights_sha256": "ab"}


def vector_of(text: str) -> list[float]:
    return [float(len(text)), float(text.split()[1])]


class Encoder:
    """Two numbers for each text; notes what it is given, and fails when it comes to a text."""

    def __init__(self, fails_at: str | None = None, provenance: dict[str, str] = ENCODER) -> None:
        self.seen: list[str] = []
        self.fails_at, self.provenance = fails_at, provenance

    def __call__(self, texts: list[str]) -> np.ndarray:
        if self.fails_at in texts:
            raise KeyboardInterrupt
        self.seen += texts
        return np.array([vector_of(text) for text in texts], dtype=np.float32)

    def encode(self, texts: Sequence[str], kept: KeptVectors | None, batch_size: int = 3) -> np.ndarray:
        provenance: Callable[[], dict[str, str]] = lambda: self.provenance  # noqa: E731
        return encode_in_batches(texts, lambda: 2, self, batch_size, provenance, "try another", False, kept)


EXPECTED = Encoder().encode(TEXTS, None)


def interrupted(folder: Path, texts: Sequence[str] = TEXTS, **encoder) -> list[str]:
    """The texts that were encoded before an interrupt."""
    stopped = Encoder("text 11 x", **encoder)
    with pytest.raises(KeyboardInterrupt), KeptVectors(folder) as kept:
        stopped.encode(texts, kept)
    assert 0 < len(stopped.seen) < len(texts)
    return stopped.seen


def gone_on(folder: Path, texts: Sequence[str] = TEXTS, **encoder) -> list[str]:
    """The texts that are encoded by a call that ends; its vectors are right, and nothing is left of it."""
    second = Encoder(**encoder)
    with KeptVectors(folder) as kept:
        np.testing.assert_array_equal(second.encode(texts, kept), [vector_of(text) for text in texts])
    return second.seen


def test_an_interrupted_encoding_goes_on_with_the_rest(tmp_path, caplog):
    caplog.set_level("INFO")
    seen = interrupted(tmp_path)
    rest = gone_on(tmp_path)
    assert sorted(seen + rest) == sorted(TEXTS)
    assert f"{len(seen)} of 20 different texts were encoded before an interruption." in caplog.messages
    assert list(tmp_path.iterdir()) == []
    assert len(gone_on(tmp_path)) == 20


def test_a_killed_process_leaves_what_it_encoded(tmp_path):
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import numpy as np
from recbole_cdsr.llm.kept_vectors import KeptVectors
from recbole_cdsr.llm.text_batches import encode_in_batches
calls = []
def encode(texts):
    calls.append(texts)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.array([[len(text), text.split()[1]] for text in texts], dtype=np.float32)
with KeptVectors(Path({str(tmp_path)!r})) as kept:
    encode_in_batches({TEXTS!r}, lambda: 2, encode, 3, lambda: {ENCODER!r}, "", False, kept)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == -signal.SIGKILL
    assert len(gone_on(tmp_path)) == 20 - 9
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", [{"texts": [*TEXTS[1:], "text 99"]}, {"provenance": ENCODER | {"dtype": "half"}}])
def test_other_texts_and_another_encoder_begin_anew(tmp_path, other):
    interrupted(tmp_path)
    assert len(gone_on(tmp_path, **other)) == 20
    assert len(gone_on(tmp_path)) < 20  # the first one is kept still


@pytest.mark.parametrize("cut", [1, 8, 9, 31, 33, 40])
def test_a_record_that_is_cut_short_and_all_after_it_are_encoded_again(tmp_path, cut):
    interrupted(tmp_path)
    (path,) = tmp_path.iterdir()
    os.truncate(path, cut)
    assert len(gone_on(tmp_path)) == 20 - 3 * (cut // 32)  # 8 bytes before three rows of two numbers


def test_a_damaged_record_and_all_after_it_are_encoded_again(tmp_path):
    interrupted(tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[32 + 12] ^= 1
    path.write_bytes(content)
    assert len(gone_on(tmp_path)) == 17


def test_a_second_interruption_adds_to_what_the_first_left(tmp_path):
    first = interrupted(tmp_path)
    again = Encoder(fails_at=min(TEXTS, key=len))  # among the last, for the longest come first
    with pytest.raises(KeyboardInterrupt), KeptVectors(tmp_path) as kept:
        again.encode(TEXTS, kept)
    assert len(again.seen) >= 3
    assert len(gone_on(tmp_path)) == 20 - len(first) - len(again.seen)


def test_two_processes_at_once_do_not_mix_their_vectors(tmp_path):
    with KeptVectors(tmp_path) as first, KeptVectors(tmp_path) as second:
        assert first.of(ENCODER, TEXTS, 2) is not None
        assert second.of(ENCODER, TEXTS, 2) is None
        np.testing.assert_array_equal(Encoder().encode(TEXTS, second), EXPECTED)


def test_vectors_that_are_no_numbers_are_refused_at_once_and_not_kept(tmp_path):
    class Broken(Encoder):
        def __call__(self, texts: list[str]) -> np.ndarray:
            vectors = super().__call__(texts)
            vectors[[text == "text 11 x" for text in texts], 1] = np.nan
            return vectors

    broken = Broken()
    says = "some/encoder gave NaN or infinite numbers for the text 'text 11 x'; try another"
    with pytest.raises(FeatureError, match=says), KeptVectors(tmp_path) as kept:
        broken.encode(TEXTS, kept)
    assert len(broken.seen) < 20
    assert "text 11 x" in gone_on(tmp_path)


def test_a_disk_that_is_full_costs_only_the_keeping(tmp_path, caplog):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (70, limits[1]))
        assert len(gone_on(tmp_path)) == 20
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert len([message for message in caplog.messages if "an interrupted encoding will begin anew" in message]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_nobody_went_on_with_for_a_month_is_removed(tmp_path):
    interrupted(tmp_path)
    interrupted(tmp_path, provenance=ENCODER | {"revision": "new"})
    old, new = sorted(tmp_path.iterdir())
    os.utime(old, (0, 0))
    gone_on(tmp_path, TEXTS[:5])
    assert list(tmp_path.iterdir()) == [new]


def test_item_features_are_kept_until_they_are_stored(tmp_path, encoder, monkeypatch):
    rows = [f"i{number}\td\ta title of {number}\n" for number in range(40)]
    (tmp_path / "toy.item").write_text("item_id:token\tdomain:token\ttitle:token_seq\n" + "".join(rows))
    keys = {"data_path": str(tmp_path), "show_progress": False, "llm_batch_size": 1}
    settings = FeatureSettings(keys, "toy")
    encoded: list[str] = []
    whole = type(encoder)._encoded

    def interrupted_once(self, texts: list[str]) -> np.ndarray:
        if len(encoded) == 16:
            encoded.append("interrupted")
            raise KeyboardInterrupt
        encoded.extend(texts)
        return whole(self, texts)

    monkeypatch.setattr(type(encoder), "_encoded", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        encoded_items(settings, read_items(settings))
    features = tmp_path / "features"
    assert [path.suffixes for path in features.iterdir()] == [[".vectors", ".part"]]
    made = encoded_items(settings, read_items(settings)).matrix
    assert len(encoded) == 41
    assert sorted(path.suffix for path in features.iterdir()) == [".json", ".safetensors"]
    np.testing.assert_array_equal(made, encoded_items(settings, read_items(settings), force=True).matrix)
