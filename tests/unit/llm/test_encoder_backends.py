"""Feature sets made with a decoder LLM and with an embeddings service."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.item_features import encoded_items, read_items
from recbole_cdsr.llm.settings import FeatureSettings

from .service import Reply, vector_of, well_behaved
from .tiny_model import save_tiny_model

TITLES = ["Green tea", "Black tea", "Cordless drill", "Hammer", "Green tea"]


@pytest.fixture
def folder(tmp_path) -> Path:
    rows = [f"d:{place}\td\t{title}\n" for place, title in enumerate(TITLES)]
    (tmp_path / "toy.item").write_text("item_id:token\tdomain:token\ttitle:token_seq\n" + "".join(rows))
    return tmp_path


def settings(folder: Path, **keys) -> FeatureSettings:
    return FeatureSettings({"data_path": str(folder), "show_progress": False} | keys, "toy")


def items(found: FeatureSettings):
    return encoded_items(found, read_items(found))


def test_a_decoder_llm_makes_item_features_under_its_own_name(folder, tiny_model):
    keys = {"llm_encoder_backend": "transformers", "llm_encoder": str(tiny_model)}
    last = items(settings(folder, **keys))
    mean = items(settings(folder, llm_encoder_pooling="mean", **keys))
    assert last.matrix.shape == mean.matrix.shape == (5, 32)
    assert not np.allclose(last.matrix, mean.matrix)
    np.testing.assert_array_equal(last.matrix[0], last.matrix[4])
    assert last.provenance["encoder"]["pooling"] == "last"
    assert last.provenance["made_by"] == "states of a language model, used as text encoder"
    files = sorted(path.name for path in (folder / "features").glob("*.json"))
    assert files == ["items-tiny-last.json", "items-tiny-mean.json"]
    with pytest.raises(FeatureError, match=r"encoder\.max_tokens was 512"):
        items(settings(folder, llm_encoder_max_tokens=3, **keys))


@pytest.mark.parametrize("gone", [False, True], ids=["here", "gone"])
def test_the_number_format_is_compared_where_it_is_named(folder, tmp_path, gone):
    model = save_tiny_model(tmp_path / "models" / "tiny")
    keys = {"llm_encoder_backend": "transformers", "llm_encoder": str(model)}
    made = items(settings(folder, llm_dtype="bfloat16", **keys))
    if gone:
        shutil.rmtree(model)
    for dtype in ("bfloat16", "auto"):
        np.testing.assert_array_equal(items(settings(folder, llm_dtype=dtype, **keys)).matrix, made.matrix)
    with pytest.raises(FeatureError, match=r"encoder\.dtype was bfloat16 when it was made and is float32 now"):
        items(settings(folder, llm_dtype="float32", **keys))


def test_an_edited_copy_of_the_wording_has_a_set_beside_that_of_the_packages(folder, tiny_model, tmp_path):
    keys = {"llm_encoder_backend": "transformers", "llm_encoder": str(tiny_model)}
    wording = (resources.files("recbole_cdsr.llm") / "prompt_files" / "item_en.yaml").read_text(encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(wording.replace("max_chars: 100", "max_chars: 3", 1), encoding="utf-8")
    packaged = settings(folder, **keys)
    edited = settings(folder, prompt_files={"item": str(own)}, **keys)
    made = [items(found).provenance["matrix_sha256"] for found in (packaged, edited)]
    assert made[0] != made[1]
    assert [items(found).provenance["matrix_sha256"] for found in (packaged, edited)] == made


def test_a_service_makes_them_once(folder, service):
    keys = {"llm_encoder_backend": "openai", "llm_encoder": "e", "llm_base_url": service.url, "llm_batch_size": 2}
    made = items(settings(folder, **keys))
    np.testing.assert_array_equal(made.matrix, np.array([vector_of(title) for title in TITLES], dtype=np.float32))
    asked = len(service.requests)
    assert asked == 2
    np.testing.assert_array_equal(items(settings(folder, **keys)).matrix, made.matrix)
    for path in (folder / "features").glob("items-*"):
        path.unlink()
    items(settings(folder, **keys))  # the set is gone, what was paid for is not
    assert len(service.requests) == asked


def test_a_service_that_gives_nonsense_leaves_no_feature_set(folder, service):
    def behave(received, nth):
        reply = well_behaved(received, nth)
        reply.body["data"][0]["embedding"][0] = float("nan")
        return Reply(reply.body)

    service.behave = behave
    keys = {"llm_encoder_backend": "openai", "llm_encoder": "e", "llm_base_url": service.url}
    with pytest.raises(FeatureError, match="NaN"):
        items(settings(folder, **keys))
    assert list((folder / "features").glob("items-*")) == []
