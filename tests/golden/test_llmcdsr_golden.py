"""LLMCDSR against the numbers of the official code, for every `llmcdsr*.npz` in the golden folder.

The folder is `$RECBOLE_CDSR_GOLDEN`, by default this one; all sizes and settings come from each file's `meta`.
Results go through the methods that training calls: the recall network, `meta_step`, `joint_loss`, and `losses` of the
pre-training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import GoldenDataset, Settings, assert_same, files_of, part, read

from recbole_cdsr.interop import load_official, official_places
from recbole_cdsr.model.collaborative_textual import CollaborativeTextualModel
from recbole_cdsr.model.inner_step import ADAM_EPS
from recbole_cdsr.model.llmcdsr import LLMCDSR, MetaStep
from recbole_cdsr.model.losses import pairwise_nce
from recbole_cdsr.model.noisy_sequences import NoisySequences
from recbole_cdsr.model.settings import thread_settings
from recbole_cdsr.model.training_sequences import TrainingSequences

FILES = files_of("llmcdsr")
# Adam's meta-gradient divides by numbers near 0, so that little of it is left in single precision.
META_TOLERANCES = {
    "sgd": {np.dtype("float64"): 1e-9, np.dtype("float32"): 1e-5},
    "adam": {np.dtype("float64"): 1e-6, np.dtype("float32"): 0.1},
}


@dataclass
class Golden:
    """One file's arrays and settings, and the texts and rows made of them."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]

    def settings(self, inner: str = "sgd") -> Settings:
        meta = self.meta
        return Settings(
            "LLMCDSR",
            MAX_ITEM_LIST_LENGTH=meta["maxlen"],
            hidden_size=meta["hidden"],
            n_layers=meta["num_blocks"],
            n_heads=meta["num_heads"],
            hidden_dropout_prob=0.0,
            attn_dropout_prob=0.0,
            n_recalled=meta["k"],
            adam_betas=meta["betas"],
            inner_optimizer=inner,
            inner_learning_rate=meta[f"shadow_lr_{inner}"],
            inner_eps="official",
            mask_padding=False,
            positions="column",
        )

    def model(self, inner: str = "sgd") -> LLMCDSR:
        meta = self.meta
        model = LLMCDSR(self.settings(inner), GoldenDataset(meta, (1 + meta["nA"] + meta["nB"], meta["tdim"]))).double()
        model.inner_step = replace(model.inner_step, eps=model.inner_step.eps * (meta["eps"] / ADAM_EPS))  # has no key
        load_official(model, part(self.arrays, "state/") | part(self.arrays, "selector/"), "LLMCDSR")
        for domain, name in enumerate("AB"):
            projection, items = (self.arrays[f"in/{kind}_{name}"] for kind in ("text_projection", "cf_items"))
            model.recall_network.set_domain(domain, torch.from_numpy(projection), torch.from_numpy(items))
        return model.train()

    def rows(self, prefix: str, suffix: str = "") -> TrainingSequences:
        """Left-padded windows as rows of real tokens."""
        items, targets, negatives = (self.arrays[f"{prefix}_{kind}{suffix}"] for kind in ("seq", "pos", "neg"))
        real = items > 0
        return TrainingSequences(
            torch.from_numpy(real.sum(axis=1)),
            *(torch.from_numpy(column[real].astype(np.int64)) for column in (items, targets, negatives)),
        )

    @property
    def into(self) -> torch.Tensor:
        return torch.from_numpy(1 - self.arrays["in/gen_domain"])

    def noisy(self, model: LLMCDSR) -> NoisySequences:
        """The noisy rows before recall: where an id of the user's recall list stands, a place for it."""
        layout = self.rows("out/noisy")
        rows = layout.packed.rows
        recalled = torch.from_numpy(self.arrays["out/recalled"])  # [E, k]
        match = layout.items[:, None] == recalled[rows]  # [T, k]
        sources = torch.where(match.any(1), rows * recalled.shape[1] + match.int().argmax(1), -1)
        emptied = TrainingSequences(
            layout.lengths, layout.items.masked_fill(match.any(1), 0), layout.targets, layout.negatives
        )
        texts, into = torch.from_numpy(self.arrays["in/gen_emb"]), self.into
        projected = torch.stack([model.recall_network.project(t, o) for t, o in zip(texts, into.tolist(), strict=True)])
        counts = torch.from_numpy(self.arrays["in/gen_len"])
        return NoisySequences(emptied, sources, projected, counts, into, torch.full_like(into, recalled.shape[1]))

    def meta_step(self, inner: str) -> tuple[LLMCDSR, MetaStep]:
        model = self.model(inner)
        return model, model.meta_step(self.rows("in/ori"), self.noisy(model), self.rows("in/meta"))


def load(file: Path) -> Golden:
    return Golden(*read(file))


@pytest.fixture(scope="module", params=FILES, ids=[file.stem for file in FILES])
def golden(request: pytest.FixtureRequest) -> Golden:
    return load(request.param)


def test_states_of_the_backbone(golden: Golden) -> None:
    model, rows = golden.model(), golden.rows("in/ori")
    states = model.encode(rows.packed, model.item_embedding(rows.items))
    assert_same(states, golden.arrays["out/feats"][golden.arrays["in/ori_seq"] > 0])


def test_recommendation_loss(golden: Golden) -> None:
    assert_same(golden.model().joint_loss(golden.rows("in/ori"), None), golden.arrays["out/rec_loss"])


@pytest.mark.parametrize(("domain", "name"), enumerate("AB"))
def test_pooled_texts(golden: Golden, domain: int, name: str) -> None:
    network = golden.model().recall_network
    texts, counts = (torch.from_numpy(golden.arrays[f"in/{key}"]) for key in ("gen_emb", "gen_len"))
    pooled, weights = network.pool(network.project(texts, domain), counts, torch.full_like(counts, domain))
    assert_same(pooled, golden.arrays[f"out/pooled_{name}"])
    padding = torch.arange(texts.shape[1]) >= counts[:, None]
    assert not weights[padding].any()
    assert torch.allclose(weights.sum(1), torch.ones(len(counts), dtype=torch.float64))


def test_recalled_items(golden: Golden) -> None:
    model = golden.model()
    assert np.array_equal(model.recalled_items(golden.noisy(model)).numpy(), golden.arrays["out/recalled"])


def test_filled_rows(golden: Golden) -> None:
    model = golden.model()
    noisy = golden.noisy(model)
    filled = noisy.filled(model.recalled_items(noisy))
    windows = golden.arrays["out/noisy_seq"]
    assert np.array_equal(filled.items.numpy(), windows[windows > 0])
    of_other_domain = (windows > 0) & ((windows > golden.meta["nA"]) == (golden.arrays["in/gen_domain"] == 0)[:, None])
    assert len(noisy.pseudo_positions) == of_other_domain.sum()  # in short windows there may be none left


@pytest.mark.parametrize("inner", ["adam", "sgd"])
def test_shadow_and_meta_losses(golden: Golden, inner: str) -> None:
    _, step = golden.meta_step(inner)
    assert_same(step.shadow_loss, golden.arrays[f"out/shadow_loss_{inner}"])
    assert_same(step.meta_loss, golden.arrays[f"out/meta_loss_{inner}"])


@pytest.mark.parametrize("inner", ["adam", "sgd"])
def test_meta_gradients(golden: Golden, inner: str) -> None:
    model, step = golden.meta_step(inner)
    (gradient,) = torch.autograd.grad(step.meta_loss, [model.recall_network.pooling])
    for domain, name in enumerate("AB"):
        expected = golden.arrays[f"out/meta_grad_{inner}_pooler_{name}"]
        assert_same(gradient[domain : domain + 1], expected, tolerance=META_TOLERANCES[inner][expected.dtype])


def test_the_real_step_agrees_with_and_without_what_the_shadow_step_found(golden: Golden) -> None:
    model, step = golden.meta_step("sgd")
    parameters = [p for p in model.parameters() if p is not model.recall_network.pooling]
    real, noisy = golden.rows("in/ori"), golden.noisy(model)
    results = []
    for known in (None, step.known):
        loss = model.joint_loss(real, noisy, known)
        results.append((loss, torch.autograd.grad(loss, parameters)))
    (plain, gradients), (shared, shared_gradients) = results
    # The same rows, and the same items recalled, so the loss is that of the shadow step too.
    assert_same(plain, golden.arrays["out/shadow_loss_sgd"])
    assert_same(shared, golden.arrays["out/shadow_loss_sgd"])
    for one, other in zip(gradients, shared_gradients, strict=True):
        assert_same(one, other.numpy())


def pretraining(golden: Golden) -> tuple[CollaborativeTextualModel, TrainingSequences]:
    settings = golden.settings()
    model = CollaborativeTextualModel(
        golden.arrays["in/pretrain_text"],
        thread_settings(settings, "column"),
        golden.meta["cl_weight"],
        golden.meta["temperature"],
    ).double()
    load_official(model, part(golden.arrays, "pretrain_state/"), "LLMCDSR pre-training")
    return model, golden.rows("in/pretrain")


def test_pretraining_losses(golden: Golden) -> None:
    model, batch = pretraining(golden)
    recommendation, alignment = model.losses(batch)
    assert_same(recommendation, golden.arrays["out/pretrain_rec_loss"])
    assert_same(alignment, golden.arrays["out/pretrain_cl_loss_aligned"])


def test_pretraining_gradients(golden: Golden) -> None:
    model, batch = pretraining(golden)
    model.total_loss(batch).backward()
    assert_same(model.projection.weight.grad, golden.arrays["out/pretrain_grad_aligned_projection"])
    table = model.item_embedding.weight
    assert_same(table.grad, golden.arrays["out/pretrain_grad_aligned_item_emb"])


def test_the_official_pairing_of_texts_and_items_is_the_shifted_one(golden: Golden) -> None:
    """Text i with item i − 1 gives the official loss, so what differs from ours is that pairing alone."""
    model, batch = pretraining(golden)
    ids = torch.cat([group.flatten() for group in batch.item_groups]).unique()
    shifted = pairwise_nce(model.projection(model.texts[ids]), model.item_embedding(ids - 1), model.temperature)
    assert_same(shifted, golden.arrays["out/pretrain_cl_loss"])


def test_every_official_tensor_has_a_place(golden: Golden) -> None:
    assert (
        official_places(golden.model(), "LLMCDSR").keys()
        == (part(golden.arrays, "state/") | part(golden.arrays, "selector/")).keys()
    )
