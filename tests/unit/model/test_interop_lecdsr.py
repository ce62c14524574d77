"""Official LeCDSR states: padding comes last there and first with us."""

from __future__ import annotations

import pytest
import torch
from in_memory import random_dataset, settings

from recbole_cdsr.errors import CheckpointError
from recbole_cdsr.interop import load_official, official_places
from recbole_cdsr.model.lecdsr import LeCDSR

SIZES, N_USERS, D, L, MIDDLE = [6, 4, 3], 5, 8, 6, 7


def build(n_domains: int = 2, **overrides) -> LeCDSR:
    small = {"hidden_size": D, "adapter_size": MIDDLE, "MAX_ITEM_LIST_LENGTH": L, "mask_padding": False}
    dataset = random_dataset(SIZES[:n_domains], N_USERS)
    return LeCDSR(settings("LeCDSR", **{**small, **overrides}), dataset)


def official_state(n_domains: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """A random state in the official shapes, which are spelt out here and not taken from the mapping."""
    n_items, width, profile_width = 1 + sum(SIZES[:n_domains]), 24, 20
    shapes = {
        "item_embeddings.weight": (n_items, D),
        "user_embeddings.weight": (N_USERS, D),
        "position_embeddings.weight": (L + 1, D),
        "llm_item.weight": (n_items, width),
        "llm_user.weight": (N_USERS, profile_width),
        "W2.weight": (n_items, D),
        "b2.weight": (n_items, 1),
        "instance_gate_item": (D, 1),
        "instance_gate_position": (D, 1),
        "instance_gate_user": (D, L),
        "complex_weight": (1, L // 2 + 1, D, 2),
    }
    for gate, out in (("feature_gate_item", D), ("feature_gate_user", D), ("item_gating", 1), ("fusion_gating", 1)):
        shapes[f"{gate}.weight"], shapes[f"{gate}.bias"] = (out, D), (out,)
    for name, width_in in (("adapter_text", width), ("adapter_user", profile_width)):
        shapes[f"{name}.0.weight"], shapes[f"{name}.3.weight"] = (MIDDLE, width_in), (D, MIDDLE)
        shapes[f"{name}.0.bias"] = shapes[f"{name}.1.weight"] = shapes[f"{name}.1.bias"] = (MIDDLE,)
        shapes[f"{name}.3.bias"] = (D,)
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("n_domains", [2, 3])
def test_every_tensor_arrives_at_its_place(n_domains: int) -> None:
    model, state = build(n_domains), official_state(n_domains)
    load_official(model, state, "LeCDSR")
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for ours, theirs in (
        ("item_embedding.weight", "item_embeddings.weight"),
        ("output_embedding.weight", "W2.weight"),
        ("text_table", "llm_item.weight"),
    ):
        assert torch.equal(own[ours][1:], state[theirs][:-1])
        assert torch.equal(own[ours][0], state[theirs][-1])
    assert torch.equal(own["output_bias"], state["b2.weight"].squeeze(1).roll(1))
    assert torch.equal(own["position_embedding.weight"], state["position_embeddings.weight"])
    assert torch.equal(own["fusion.complex_weight"], state["complex_weight"][0])
    assert torch.equal(own["profile_table"][1:], state["llm_user.weight"])
    assert not own["profile_table"][0].any()
    assert torch.equal(own["user_adapter.3.weight"], state["adapter_user.3.weight"])
    # Every parameter of the model is filled by exactly one official tensor.
    filled = [place.name for place in official_places(model, "LeCDSR").values()]
    assert sorted(filled) == sorted(name for name in own if name != "item_domain")


def test_the_features_the_model_was_built_on_stay_as_they_are() -> None:
    dataset = random_dataset(SIZES[:2], N_USERS)
    items = dataset.llm_features.items.copy()
    small = {"hidden_size": D, "adapter_size": MIDDLE, "MAX_ITEM_LIST_LENGTH": L}
    model = LeCDSR(settings("LeCDSR", **small), dataset)
    load_official(model, official_state(), "LeCDSR")
    assert (dataset.llm_features.items == items).all()
    assert not (model.text_table.numpy() == items).all()
    # Tables that no feature store has stay with the model's own checkpoints.
    again = LeCDSR(settings("LeCDSR", **small), dataset)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.text_table, model.text_table)
    assert torch.equal(again.profile_table, model.profile_table)
    assert (dataset.llm_features.items == items).all()


@pytest.mark.parametrize("off", ["use_text", "use_profiles", "use_fusion"])
def test_what_a_model_does_without_is_left_out(off: str) -> None:
    model = build(**{off: False})
    load_official(model, official_state(), "LeCDSR")
    assert torch.equal(model.feature_gate.item.weight, official_state()["feature_gate_item.weight"])


def test_a_state_of_other_sizes_is_refused_and_changes_nothing() -> None:
    model = build(MAX_ITEM_LIST_LENGTH=L + 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = official_state() | {"stranger": torch.zeros(1)}
    del state["W2.weight"]
    with pytest.raises(CheckpointError) as caught:
        load_official(model, state, "LeCDSR")
    message = str(caught.value)
    assert "missing: W2.weight" in message
    assert "extra: stranger" in message
    assert "instance_gate_user [8, 6] instead of [8, 7]" in message
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_features_of_another_width_are_refused() -> None:
    state = official_state()
    state["llm_item.weight"] = torch.zeros(11, 30)
    with pytest.raises(CheckpointError, match=r"llm_item.weight \[11, 30\] instead of \[11, 24\]"):
        load_official(build(), state, "LeCDSR")
