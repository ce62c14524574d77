from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.encoder import TextEncoder
from recbole_cdsr.llm.transformers_encoder import TransformersEncoder

from .tiny_model import save_tiny_model

TEXTS = ["tea", "a much longer text about the history of porcelain cups", "tea", "", "cup"]


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_vectors_are_the_pooled_states_whatever_stands_in_the_batch(tiny_model, pooling):
    encoder = TransformersEncoder(str(tiny_model), pooling=pooling, batch_size=3)
    assert isinstance(encoder, TextEncoder)
    vectors = encoder.encode(TEXTS)
    assert (vectors.dtype, vectors.shape, encoder.dim) == (np.float32, (5, 32), 32)
    tokenizer, model = encoder._tokenizer(), encoder._model()
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = tokenizer(text)["input_ids"] or [tokenizer.pad_token_id]
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0]  # [L, D]
        by_hand = states[-1] if pooling == "last" else states.mean(dim=0)
        np.testing.assert_allclose(vector, by_hand.numpy(), rtol=1e-4, atol=1e-5)


def test_the_two_poolings_are_filed_apart(tiny_model):
    last, mean = (TransformersEncoder(str(tiny_model), pooling=pooling) for pooling in ("last", "mean"))
    assert (last.name, mean.name) == ("tiny:last", "tiny:mean")
    assert not np.allclose(last.encode(["green tea"]), mean.encode(["green tea"]))
    assert len(last.provenance()["weights_sha256"]) == 64


def test_texts_are_cut_at_max_tokens_and_batched_by_length(tiny_model):
    encoder = TransformersEncoder(str(tiny_model), max_tokens=6, batch_size=2)
    shapes = []
    handle = encoder._model().register_forward_pre_hook(
        lambda module, arguments, named: shapes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    vectors = encoder.encode(["x" * 50, "ab", "x" * 40, "cd", "ab"])
    handle.remove()
    assert shapes == [(2, 6), (2, 2)]
    np.testing.assert_allclose(vectors[0], vectors[2], rtol=1e-5)


def test_bfloat16_is_close_to_float32(tiny_model):
    whole = TransformersEncoder(str(tiny_model), pooling="mean").encode(TEXTS)
    half = TransformersEncoder(str(tiny_model), pooling="mean", dtype="bfloat16").encode(TEXTS)
    assert half.dtype == np.float32
    assert np.abs(whole - half).max() < 0.1 * np.abs(whole).max()
    assert not np.array_equal(whole, half)


def test_no_texts_give_no_rows(tiny_model):
    assert TransformersEncoder(str(tiny_model)).encode([]).shape == (0, 32)


def test_nan_is_refused(tmp_path):
    encoder = TransformersEncoder(str(save_tiny_model(tmp_path / "tiny")))
    with torch.no_grad():
        encoder._model().norm.weight.fill_(float("nan"))
    with pytest.raises(FeatureError, match="encoder tiny:last gave NaN"):
        encoder.encode(["tea"])


def test_a_model_that_is_nowhere_is_one_line():
    with pytest.raises(FeatureError, match="llm_encoder: there is no folder"):
        TransformersEncoder("./nowhere")
