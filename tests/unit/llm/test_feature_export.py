"""`recbole-cdsr features export`: what RecBole alone, without this package, reads from the files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recbole_cdsr.cli import main
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.errors import DataError, FeatureError
from recbole_cdsr.llm import build_item_features
from recbole_cdsr.llm.feature_export import float32_texts, write_embeddings
from recbole_cdsr.quick_start import create_dataset

from .feature_dataset import N_USERS, write_dataset

# RecBole by itself: what `get_preload_weight` gives for each token.
BY_RECBOLE = """
import json, sys
import numpy as np

np.float_, np.complex_, np.unicode_ = np.float64, np.complex128, np.str_  # as NumPy 1 has them
from recbole.config import Config
from recbole.data.dataset import SequentialDataset

settings_file, data_path, out = sys.argv[1:]
sys.argv = sys.argv[:1]
changes = {"data_path": data_path, "use_gpu": False, "train_neg_sample_args": None}
config = Config("SASRec", "toy", [settings_file], changes)
dataset = SequentialDataset(config)
assert "recbole_cdsr" not in sys.modules
arrays, of_field = {}, {"iid": "item_id", "uid": "user_id"}
for field in config["preload_weight"]:
    arrays[field] = dataset.get_preload_weight(field)
    arrays[f"{field}_tokens"] = dataset.field2id_token[of_field[field]].astype(str)
np.savez(out, **arrays)
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "data")
    return tmp_path / "data"


def export(capsys: pytest.CaptureFixture[str], data: Path, *arguments: str, code: int = 0) -> str:
    """Run `features export`; what it printed, or its complaint."""
    capsys.readouterr()
    assert main(["features", "export", *arguments, f"--data_path={data}", "--show_progress=False"]) == code
    output = capsys.readouterr()
    return output.out if code == 0 else output.err.splitlines()[-1]


def read_by_recbole(settings: str, data: Path) -> dict[str, np.ndarray]:
    """The weights that plain RecBole has with these lines of YAML as its configuration."""
    file, out = data.parent / "mine.yaml", data.parent / "weights.npz"
    file.write_text(settings, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-c", BY_RECBOLE, str(file), str(data), str(out)]
    done = subprocess.run(command, cwd=data.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(out) as arrays:
        return dict(arrays)


def of_tokens(tokens: np.ndarray, matrix: np.ndarray) -> dict[str, bytes]:
    return {str(token): row.tobytes() for token, row in zip(tokens, matrix.astype(np.float32), strict=True)}


def test_recbole_alone_reads_our_rows(data, capsys):
    # One item that needs quoting, one that stands in .item only.
    for file in (data / "toy").iterdir():
        file.write_text(file.read_text().replace("food:3\t", '"food ""3"""\t'))
    lines = export(capsys, data, "toy", "--format", "recbole", "--what", "items,profiles")
    assert "144 x 384, written; made by text encoder only (no LLM), sentence-transformers/all-MiniLM-L6-v2" in lines
    assert "40 x 384, written; made by offline extractive profiler (no LLM)" in lines
    assert yaml.safe_load(lines) == {
        "additional_feat_suffix": ["itememb", "useremb"],
        "load_col": {
            "inter": ["user_id", "item_id", "timestamp"],
            "item": ["item_id", "domain"],
            "itememb": ["iid", "item_emb"],
            "useremb": ["uid", "user_emb"],
        },
        "alias_of_item_id": ["iid"],
        "alias_of_user_id": ["uid"],
        "preload_weight": {"iid": "item_emb", "uid": "user_emb"},
    }
    dataset = create_dataset(CDSRConfig("LLM4CDSR", "toy", command_line=[f"--data_path={data}"]))
    items, profiles = dataset.llm_features.items, dataset.llm_features.profiles
    theirs = read_by_recbole(lines, data)
    assert 'food "3"' in theirs["iid_tokens"]
    assert of_tokens(theirs["iid_tokens"], theirs["iid"]) == of_tokens(dataset.field2id_token["item_id"], items)
    assert of_tokens(theirs["uid_tokens"], theirs["uid"]) == of_tokens(dataset.field2id_token["user_id"], profiles)
    assert theirs["iid"].shape == (145, 384)
    assert theirs["uid"].shape == (N_USERS + 1, 384)
    assert np.abs(theirs["iid"][1:]).sum(axis=1).min() > 0
    assert not theirs["iid"][0].any()


@pytest.mark.parametrize("control", [[], ["--llm_permute_seed=1"]])
def test_a_run_of_ours_takes_the_settings_too(data, capsys, control):
    lines = export(capsys, data, "toy", *control)
    (data.parent / "mine.yaml").write_text(lines, encoding="utf-8")
    settings = [f"--data_path={data}", *control]
    dataset = create_dataset(CDSRConfig("SASRec", "toy", ["mine.yaml"], command_line=settings))
    weights = dataset.get_preload_weight("iid").astype(np.float32)
    assert np.array_equal(weights, dataset.llm_features.items)
    first = dataset.field2token_id["item_id"]["food:1"]
    as_encoded = build_item_features(data / "toy", "toy", show_progress=False)
    assert np.array_equal(weights[first], as_encoded.matrix[1]) == (not control)


def test_columns_and_settings_of_the_dataset_are_kept(data, capsys):
    inter = data / "toy" / "toy.inter"
    header, *rows = inter.read_text().splitlines()
    inter.write_text("\n".join([f"{header}\tiid:float\tseen:token", *(f"{row}\t1\tfood:1" for row in rows)]) + "\n")
    (data.parent / "own.yaml").write_text(
        "load_col: {inter: [user_id, item_id, timestamp, iid, seen]}\nalias_of_item_id: [seen]\n"
    )
    settings = yaml.safe_load(export(capsys, data, "toy", "--config_files=own.yaml"))
    assert settings["load_col"]["inter"] == ["user_id", "item_id", "timestamp", "iid", "seen"]
    assert settings["load_col"]["itememb"] == ["llm_iid", "item_emb"]
    assert settings["alias_of_item_id"] == ["seen", "llm_iid"]
    assert settings["preload_weight"] == {"llm_iid": "item_emb"}
    assert (data / "toy" / "toy.itememb").read_text().startswith("llm_iid:token\titem_emb:float_seq\n")


def test_a_file_is_replaced_only_when_told_to(data, capsys):
    file = data / "toy" / "toy.itememb"
    file.write_text("iid:token\titem_emb:float_seq\nfood:1\t1 2\n")
    assert "is there with another content; replace it with --overwrite" in export(capsys, data, "toy", code=2)
    assert len(file.read_text().splitlines()) == 2
    assert list(file.parent.glob("*.part")) == []
    assert ", written; made by" in export(capsys, data, "toy", "--overwrite")
    assert len(file.read_text().splitlines()) == 145
    assert ", there already; made by" in export(capsys, data, "toy")
    assert len(file.read_text().splitlines()) == 145


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["toy", "--format=csv"], "invalid choice: 'csv'"),
        (["toy", "--what=pseudo"], "--what is 'pseudo'; it must be one or more of items, profiles"),
        (["toy", "--what=profiles", "--profile_generator=none"], "no profiles to export"),
        (["toy", "--out=nowhere"], "--out is nowhere, which is no folder"),
        (["tox"], "Dataset 'tox' is not there"),
    ],
)
def test_a_mistake_gets_one_line(data, capsys, arguments, answer):
    assert answer in export(capsys, data, *arguments, code=2)
    assert list(data.rglob("*emb")) == []


@given(arrays(np.float32, (2, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_any_float32_reads_back_the_same(matrix):
    texts = float32_texts(matrix)
    back = np.array([[float(number) for number in row.split(" ")] for row in texts])
    assert back.astype(np.float32).tobytes() == matrix.tobytes()


def test_numbers_have_the_fewest_digits():
    generator = np.random.default_rng(3)
    matrix = (generator.standard_normal((300, 30)) * 10.0 ** generator.integers(-8, 8, (300, 30))).astype(np.float32)
    for text, number in zip(" ".join(float32_texts(matrix)).split(" "), matrix.ravel(), strict=True):
        assert digits(text) == digits(str(number))
    assert float32_texts(np.array([[0.1, 1, -0.0, 1e-30]], dtype=np.float32)) == ["0.1 1.0 -0.0 1e-30"]
    assert float32_texts(np.array([[0.1, 100, 2.5e-7]], dtype=np.float32)) == ["0.1 100 2.5e-07"]


def digits(number: str) -> int:
    return len(number.lstrip("-").partition("e")[0].replace(".", "").strip("0"))


def test_rows_that_recbole_cannot_read_are_refused_and_nothing_is_left(tmp_path):
    matrix = np.full((2, 15_000), 0.12345678, dtype=np.float32)
    with pytest.raises(FeatureError, match=r"RecBole's reader takes 131,072; choose an encoder"):
        write_embeddings(tmp_path / "a.itememb", ("iid", "item_emb"), ["x", "y"], matrix)
    with pytest.raises(DataError, match="is empty"):
        write_embeddings(tmp_path / "a.itememb", ("iid", "item_emb"), ["x", ""], matrix[:, :2])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(FeatureError, match="cannot be written"):
        write_embeddings(tmp_path / "no" / "a.itememb", ("iid", "item_emb"), ["x"], np.ones((1, 2), dtype=np.float32))


def test_slices_do_not_show(tmp_path, monkeypatch):
    matrix = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    tokens = [f"i{row}" for row in range(7)]
    write_embeddings(tmp_path / "whole", ("iid", "item_emb"), tokens, matrix)
    monkeypatch.setattr("recbole_cdsr.llm.feature_export._NUMBERS_AT_ONCE", 9)
    write_embeddings(tmp_path / "sliced", ("iid", "item_emb"), tokens, matrix)
    assert (tmp_path / "sliced").read_bytes() == (tmp_path / "whole").read_bytes()
    assert json.loads(f"[{(tmp_path / 'whole').read_text().splitlines()[1].split()[1]}]")[0] == pytest.approx(
        float(matrix[0, 0]), rel=1e-7
    )
