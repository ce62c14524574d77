"""Official state dicts: what goes where, what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from in_memory import random_dataset, settings

from recbole_cdsr.errors import CheckpointError
from recbole_cdsr.interop import load_official, load_official_file, official_places
from recbole_cdsr.model.llm4cdsr import LLM4CDSR

SIZES, N_USERS = [6, 4], 5


def build(n_domains: int = 2, **overrides) -> LLM4CDSR:
    dataset = random_dataset([*SIZES, 3][:n_domains], N_USERS)
    small = {"hidden_size": 8, "global_dim": None, "MAX_ITEM_LIST_LENGTH": 5, "n_layers": 2}
    return LLM4CDSR(settings("LLM4CDSR", **{**small, **overrides}), dataset)


def official_state(model: LLM4CDSR, seed: int = 0) -> dict[str, torch.Tensor]:
    """A random state in the official shapes, which are spelt out here and not taken from the mapping."""
    generator, d, width, window = torch.Generator().manual_seed(seed), 8, 24, 5
    profile_width = model.profile_table.shape[1]
    shapes = {
        "item_emb_llm.weight": (1 + sum(SIZES), width),
        "adapter.0.weight": (width // 2, width),
        "adapter.0.bias": (width // 2,),
        "adapter.1.weight": (d, width // 2),
        "adapter.1.bias": (d,),
        "item_embA.weight": (1 + SIZES[0], d),
        "item_embB.weight": (1 + SIZES[1], d),
        "user_emb_llm.weight": (N_USERS, profile_width),
        "user_adapter.0.weight": (profile_width // 2, profile_width),
        "user_adapter.0.bias": (profile_width // 2,),
        "user_adapter.1.weight": (d, profile_width // 2),
        "user_adapter.1.bias": (d,),
    }
    for suffix in ("", "A", "B"):
        shapes[f"pos_emb{suffix}.weight"] = (window + 1, d)
        for i in range(2):
            backbone = f"backbone{suffix}"
            for norm in (f"attention_layernorms.{i}", f"forward_layernorms.{i}", "last_layernorm"):
                shapes[f"{backbone}.{norm}.weight"] = shapes[f"{backbone}.{norm}.bias"] = (d,)
            shapes[f"{backbone}.attention_layers.{i}.in_proj_weight"] = (3 * d, d)
            shapes[f"{backbone}.attention_layers.{i}.in_proj_bias"] = (3 * d,)
            shapes[f"{backbone}.attention_layers.{i}.out_proj.weight"] = (d, d)
            shapes[f"{backbone}.attention_layers.{i}.out_proj.bias"] = (d,)
            for conv in ("conv1", "conv2"):
                shapes[f"{backbone}.forward_layers.{i}.{conv}.weight"] = (d, d, 1)
                shapes[f"{backbone}.forward_layers.{i}.{conv}.bias"] = (d,)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_every_tensor_arrives_at_its_place() -> None:
    model = build()
    state = official_state(model)
    load_official(model, {name: value.numpy() for name, value in state.items()})
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert torch.equal(own["local_embedding.weight"][1:7], state["item_embA.weight"][1:])
    assert torch.equal(own["local_embedding.weight"][7:11], state["item_embB.weight"][1:])
    assert not own["local_embedding.weight"][0].any()
    assert torch.equal(own["text_table"], state["item_emb_llm.weight"])
    assert torch.equal(own["profile_table"][1:], state["user_emb_llm.weight"])
    assert not own["profile_table"][0].any()
    first = own["domain_threads.1.blocks.0.feed_forward_in.weight"]
    assert torch.equal(first, state["backboneB.forward_layers.0.conv1.weight"].squeeze(2))
    # Every parameter of the model is filled by exactly one official tensor, domain blocks of a table apart.
    filled = [place.name for place in official_places(model).values()]
    assert set(filled) == {name for name in own if name != "item_domain"}
    assert len(filled) == len(set(filled)) + 1


@pytest.mark.parametrize("switched_off", [{"beta": 0}, {"use_profiles": False}])
def test_what_only_guides_training_is_left_out_without_guidance(switched_off) -> None:
    guided, unguided = build(), build(**switched_off)
    state = official_state(guided)
    load_official(unguided, state)
    assert torch.equal(unguided.adapter[1].weight, state["adapter.1.weight"])
    with pytest.raises(CheckpointError, match="extra: user_adaptor"):
        load_official(unguided, state | {"user_adaptor.weight": torch.zeros(1)})


def test_tables_from_a_checkpoint_survive_in_ours() -> None:
    model = build()
    state = official_state(model)
    load_official(model, state)
    again = build()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.text_table, state["item_emb_llm.weight"])
    assert torch.equal(again.profile_table[1:], state["user_emb_llm.weight"])


def test_a_state_that_does_not_fit_changes_nothing_and_names_everything() -> None:
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = official_state(model)
    del state["pos_embA.weight"]
    state["stranger"] = torch.zeros(1)
    state["item_embB.weight"] = torch.zeros(9, 8)
    with pytest.raises(CheckpointError) as caught:
        load_official(model, state)
    message = str(caught.value)
    assert "missing: pos_embA.weight" in message
    assert "extra: stranger" in message
    assert "item_embB.weight [9, 8] instead of [5, 8]" in message
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_three_domains_and_unknown_models_are_refused() -> None:
    with pytest.raises(CheckpointError, match="two domains"):
        load_official(build(n_domains=3), {})
    with pytest.raises(CheckpointError, match="NoSuchModel"):
        load_official(build(), {}, "NoSuchModel")


@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
def test_official_files_are_read(tmp_path, wrap: str | None) -> None:
    state = official_state(build())
    torch.save(state if wrap is None else {wrap: state, "epoch": 3}, tmp_path / "official.pt")
    read = load_official_file(tmp_path / "official.pt")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):
        return (open, (self.mark, "w"))


def test_files_that_would_run_code_are_refused(tmp_path) -> None:
    mark = tmp_path / "mark"
    torch.save({"weight": Payload(str(mark))}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"weight": Payload(str(mark))}, protocol=2))
    (tmp_path / "noise.pt").write_bytes(b"no checkpoint")
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    for name in ("zip.pt", "plain.pt", "noise.pt", "empty.pt", "list.pt", "not_there.pt"):
        with pytest.raises(CheckpointError, match=name):
            load_official_file(tmp_path / name)
    assert not mark.exists()


def test_arrays_and_tensors_are_taken_alike() -> None:
    one, other = build(), build()
    state = official_state(one)
    load_official(one, state)
    load_official(other, {name: np.asarray(value) for name, value in state.items()})
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
