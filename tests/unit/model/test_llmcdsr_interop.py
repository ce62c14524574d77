"""Official LLMCDSR states: what goes where, what may be missing, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from in_memory import random_dataset, settings

from recbole_cdsr.errors import CheckpointError
from recbole_cdsr.interop import load_official
from recbole_cdsr.model.collaborative_textual import CollaborativeTextualModel
from recbole_cdsr.model.llmcdsr import LLMCDSR
from recbole_cdsr.model.settings import thread_settings

SMALL = {"hidden_size": 8, "MAX_ITEM_LIST_LENGTH": 5}


def build(sizes: tuple[int, ...] = (6, 4), **overrides) -> LLMCDSR:
    dataset = random_dataset(list(sizes), n_users=3)
    return LLMCDSR(settings("LLMCDSR", **SMALL, **overrides), dataset)


def official_state(n_items: int, **more: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """A random state in the official shapes."""
    shapes = {"item_emb.weight": (1 + n_items, 8), "pos_emb.weight": (5, 8)}
    for norm in ("attention_layernorms.0", "attention_layernorms.1", "forward_layernorms.0", "forward_layernorms.1"):
        shapes |= {f"{norm}.weight": (8,), f"{norm}.bias": (8,)}
    shapes |= {"last_layernorm.weight": (8,), "last_layernorm.bias": (8,)}
    for i in range(2):
        layer = f"attention_layers.{i}"
        shapes |= {f"{layer}.in_proj_weight": (24, 8), f"{layer}.in_proj_bias": (24,)}
        shapes |= {f"{layer}.out_proj.weight": (8, 8), f"{layer}.out_proj.bias": (8,)}
        for conv in ("conv1", "conv2"):
            shapes |= {f"forward_layers.{i}.{conv}.weight": (8, 8, 1), f"forward_layers.{i}.{conv}.bias": (8,)}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in {**shapes, **more}.items()}


def test_a_state_with_pooling_vectors_fills_every_parameter() -> None:
    model = build()
    state = official_state(10) | {f"pooler_{name}.weight": torch.randn(1, 8) for name in "AB"}
    load_official(model, {name: value.numpy() for name, value in state.items()}, "LLMCDSR")
    assert torch.equal(model.item_embedding.weight, state["item_emb.weight"])
    assert torch.equal(model.thread.blocks[1].feed_forward_out.weight, state["forward_layers.1.conv2.weight"][..., 0])
    expected = torch.cat([state["pooler_A.weight"], state["pooler_B.weight"]])
    assert torch.equal(model.recall_network.pooling, expected)


def test_the_recommender_alone_is_enough() -> None:
    model, state = build(), official_state(10)
    load_official(model, state, "LLMCDSR")
    assert torch.equal(model.thread.position_embedding.weight, state["pos_emb.weight"])
    assert not model.recall_network.pooling.any()


def test_what_is_missing_extra_or_misshaped_is_named_and_changes_nothing() -> None:
    model, state = build(), official_state(11)
    del state["last_layernorm.bias"]
    state["stranger"] = torch.zeros(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_official(model, state, "LLMCDSR")
    for part in ("missing: last_layernorm.bias", "extra: stranger", "item_emb.weight [12, 8] instead of [11, 8]"):
        assert part in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_three_domains_are_refused() -> None:
    with pytest.raises(CheckpointError, match="two domains"):
        load_official(build((6, 4, 3)), {}, "LLMCDSR")


def test_official_pre_training_goes_into_the_recall_network() -> None:
    model = build()
    texts = np.random.default_rng(0).normal(size=(4, 24)).astype(np.float32)
    thread = thread_settings(settings("LLMCDSR", **SMALL), "column")
    domain = CollaborativeTextualModel(texts, thread, nce_weight=0.1, temperature=1.0)
    state = official_state(4) | {"proj_model.projection.weight": torch.randn(8, 24)}
    load_official(domain, state, "LLMCDSR pre-training")
    model.recall_network.set_domain(1, domain.projection.weight, domain.item_embedding.weight[1:])
    assert torch.equal(model.recall_network.projections[1], state["proj_model.projection.weight"])
    assert torch.equal(model.recall_network.item_table[7:], state["item_emb.weight"][1:])
    assert not model.recall_network.item_table[:7].any()
