from __future__ import annotations

import json
import os
import signal
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.store import (
    align,
    check_writable,
    feature_paths,
    feature_set_exists,
    hash_strings,
    load_feature_set,
    save_feature_set,
    slug,
)

TOKENS = ["a:1", "a:2", "b:1"]
ENCODER = {"name": "tiny", "revision": "1", "weights_sha256": "f" * 64, "setup_sha256": "e" * 64}
MADE_FROM = {
    "texts_sha256": hash_strings(["one", "two", "three"]),
    "prompt_version": "item_en-1",
    "made_by": "text encoder only (no LLM)",
    "encoder": ENCODER,
}


def matrix(seed: int = 0, width: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, width)).astype(np.float32)


def save(folder, content=None, **changes):
    return save_feature_set(
        folder, "items", "tiny", matrix() if content is None else content, TOKENS, **(MADE_FROM | changes)
    )


def load(folder, tokens=TOKENS, **changes):
    return load_feature_set(folder, "items", "tiny", tokens, expected=MADE_FROM | changes)


def test_a_set_comes_back_mapped_with_its_provenance(tmp_path):
    sidecar = save(tmp_path / "features")
    found = load(tmp_path / "features")
    np.testing.assert_array_equal(found.matrix, matrix())
    assert isinstance(found.matrix, np.memmap)
    assert not found.matrix.flags.writeable
    assert found.provenance == sidecar == json.loads((tmp_path / "features" / "items-tiny.json").read_text())
    assert sidecar["shape"] == [3, 4]
    assert sidecar["pca"] is None
    assert sidecar["package"].startswith("recbole-cdsr ")
    assert sidecar["date"].endswith("+00:00")


def test_the_matrix_file_is_plain_safetensors(tmp_path):
    save(tmp_path)
    np.testing.assert_array_equal(load_file(tmp_path / "items-tiny.safetensors")["matrix"], matrix())
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1  # whoever may read the sidecar may read the matrix


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"texts_sha256": hash_strings(["one", "two", "other"])}, "texts_sha256"),
        ({"prompt_version": "item_en-2"}, "prompt_version"),
        ({"made_by": "an LLM"}, "made_by"),
        ({"encoder": ENCODER | {"name": "other"}}, r"encoder\.name"),
        ({"encoder": ENCODER | {"revision": "2"}}, r"encoder\.revision"),
        ({"encoder": ENCODER | {"weights_sha256": "0" * 64}}, r"encoder\.weights_sha256"),
        ({"encoder": ENCODER | {"setup_sha256": "0" * 64}}, r"encoder\.setup_sha256"),
        ({"clusters": 10}, "clusters"),
        ({"tokens": ["a:1", "b:1", "a:2"]}, "tokens_sha256"),
        ({"tokens": ["a:1", "a:2"]}, "tokens_sha256"),
    ],
)
def test_every_stale_field_is_named_with_file_and_remedy(tmp_path, changes, field):
    save(tmp_path)
    with pytest.raises(
        FeatureError, match=rf"items-tiny\.json is stale: {field} was .* now; delete .*builds them anew"
    ) as error:
        load(tmp_path, **changes)
    assert "\n" not in str(error.value)


def test_kind_and_format_are_compared_too(tmp_path):
    save(tmp_path)
    for field, value in (("kind", "profiles"), ("format", 99)):
        content = json.loads((tmp_path / "items-tiny.json").read_text()) | {field: value}
        (tmp_path / "items-tiny.json").write_text(json.dumps(content))
        with pytest.raises(FeatureError, match=f"stale: {field} was {value}"):
            load(tmp_path)
        save(tmp_path)


def test_what_is_not_known_now_is_not_compared(tmp_path):
    save(tmp_path)
    assert len(load(tmp_path, encoder={"name": "tiny", "weights_sha256": None}, prompt_version=None).matrix) == 3


def rewrite(folder, content, keep_id=True):
    identity = json.loads((folder / "items-tiny.json").read_text())["matrix_sha256"] if keep_id else "0"
    save_file({"matrix": content}, folder / "items-tiny.safetensors", metadata={"matrix_sha256": identity})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.full((3, 4), np.nan, dtype=np.float32), "holds NaN or infinite numbers"),
        (np.where(np.arange(12).reshape(3, 4) == 9, np.inf, 0).astype(np.float32), "row 2"),
        (matrix(width=5), r"float32 \[3, 5\], but float32 \[3, 4\]"),
        (matrix()[:2], r"float32 \[2, 4\], but float32 \[3, 4\] with 3 rows"),
        (matrix().astype(np.float64), "float64"),
    ],
)
def test_damaged_matrices_are_refused(tmp_path, content, message):
    save(tmp_path)
    rewrite(tmp_path, content)
    with pytest.raises(FeatureError, match=message):
        load(tmp_path)


def test_matrix_of_another_sidecar_is_refused(tmp_path):
    save(tmp_path)
    rewrite(tmp_path, matrix(seed=1), keep_id=False)
    with pytest.raises(FeatureError, match=r"not the matrix that items-tiny\.json describes"):
        load(tmp_path)


def test_cut_short_missing_or_unreadable_files_are_refused(tmp_path):
    with pytest.raises(FeatureError, match="no feature set"):
        load(tmp_path)
    save(tmp_path)
    stored = (tmp_path / "items-tiny.safetensors").read_bytes()
    for length in (0, 5, 40, len(stored) - 1):
        (tmp_path / "items-tiny.safetensors").write_bytes(stored[:length])
        with pytest.raises(FeatureError, match="not a complete safetensors file"):
            load(tmp_path)
    (tmp_path / "items-tiny.safetensors").unlink()
    with pytest.raises(FeatureError, match="missing although its sidecar"):
        load(tmp_path)
    for content in ("{", "[]"):
        (tmp_path / "items-tiny.json").write_text(content)
        with pytest.raises(FeatureError, match="not a JSON"):
            load(tmp_path)


def test_nothing_bad_is_ever_written(tmp_path):
    for content in (matrix() * np.float32(np.nan), matrix()[:2], matrix()[0]):
        with pytest.raises(FeatureError, match="nothing was written"):
            save(tmp_path, content)
    assert not list(tmp_path.iterdir())


# Every file operation of a save that a kill can fall between.
@pytest.mark.filterwarnings("ignore:This process")
@pytest.mark.parametrize(
    ("overwriting", "event"), [(False, event) for event in range(5)] + [(True, event) for event in range(5)]
)
def test_a_save_killed_at_any_point_leaves_a_whole_set_or_none(tmp_path, event, overwriting):
    if overwriting:
        save(tmp_path)
    child = os.fork()
    if child == 0:
        seen = 0

        def kill_at_the_event(name: str, arguments: tuple) -> None:
            nonlocal seen
            if name in ("os.rename", "os.remove") and str(tmp_path) in str(arguments[0]):
                if seen == event:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

        try:
            sys.addaudithook(kill_at_the_event)
            save(tmp_path, matrix(seed=1))
        finally:
            os._exit(0)  # reached only if there are fewer events than this test believes
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    if feature_set_exists(tmp_path, "items", "tiny"):
        stored = load(tmp_path).matrix
        assert any(np.array_equal(stored, matrix(seed)) for seed in ((0, 1) if overwriting else (1,)))
    else:
        with pytest.raises(FeatureError, match="no feature set"):
            load(tmp_path)
    save(tmp_path, matrix(seed=2))  # what was left behind is in nobody's way
    np.testing.assert_array_equal(load(tmp_path).matrix, matrix(seed=2))


@pytest.mark.filterwarnings("ignore:This process")
def test_a_set_stays_readable_while_another_run_makes_the_very_same(tmp_path):
    save(tmp_path)
    child = os.fork()
    if child == 0:
        try:
            for _ in range(200):
                save(tmp_path)
        finally:
            os._exit(0)
    reads = 0
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        np.testing.assert_array_equal(load(tmp_path).matrix, matrix())
        reads += 1
    assert reads > 10


def test_a_folder_that_cannot_be_written_is_named_with_its_key(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "features"):
        with pytest.raises(FeatureError, match=r"file.* cannot be written .*llm_features_dir"):
            check_writable(folder)
        with pytest.raises(FeatureError, match=r"file.* cannot be written .*llm_features_dir"):
            save(folder)
    check_writable(tmp_path / "new" / "features")
    assert not list((tmp_path / "new" / "features").iterdir())


def test_rows_follow_the_tokens_asked_for(tmp_path):
    save(tmp_path)
    rows = load(tmp_path).align(np.array(["b:1", "a:1", "b:1"]))
    np.testing.assert_array_equal(rows, matrix()[[2, 0, 2]])
    rows[:] = 0.0  # a copy: the mapped file stays as it is
    np.testing.assert_array_equal(load(tmp_path).matrix, matrix())


def test_tokens_without_a_row_and_repeated_rows_are_refused():
    with pytest.raises(FeatureError, match=r"2 of 3 items have no features \(first 'c:1'\)"):
        align(matrix(), TOKENS, ["a:1", "c:1", "c:2"])
    with pytest.raises(FeatureError, match="'a:1' is there twice"):
        align(matrix(), ["a:1", "b:1", "a:1"], ["b:1"])


def test_hashes_tell_lists_apart_that_join_to_the_same_text():
    lists = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"], ["c", "ab"]]
    assert len({hash_strings(strings) for strings in lists}) == len(lists)


def test_file_names_made_of_encoder_names():
    assert slug("sentence-transformers/all-MiniLM-L6-v2") == "all-minilm-l6-v2"
    assert slug("../../etc/My Model!/") == "my-model"
    assert slug("模型") == "unnamed"
    assert feature_paths("f", "items", "all-minilm-l6-v2.5")[0].name == "items-all-minilm-l6-v2.5.safetensors"
