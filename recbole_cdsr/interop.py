"""Official checkpoints in: parameters of a paper's own code onto our models.

The official code numbers items and users in another way (local tables per domain with ids from 1, users from 0) and
builds linear layers from convolutions of width 1; everything else is a matter of names. Nothing is written before
the whole state has been checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch
from torch import Tensor, nn

from recbole_cdsr.errors import CheckpointError
from recbole_cdsr.trainer.checkpoint import read_tensors


@dataclass(frozen=True)
class Place:
    """Where an official tensor belongs.

    Attributes
    ----------
    name : str
        Our parameter or buffer.
    start : int
        Its first row that the official tensor fills.
    stop : int | None
        The row after the last one; None for all that follow.
    n_padding_rows : int
        Leading rows of the official tensor that are padding and have no place.
    padding_is_last : bool
        The official tensor's last row is padding, which is the first of ours.
    """

    name: str
    start: int = 0
    stop: int | None = None
    n_padding_rows: int = 0
    padding_is_last: bool = False

    @property
    def rows(self) -> slice:
        """Rows of our tensor."""
        return slice(self.start, self.stop)

    @property
    def official_rows(self) -> slice:
        """Rows of the official tensor that fill them, but for their order."""
        return slice(self.n_padding_rows, None)

    def in_our_order(self, official: Tensor) -> Tensor:
        """The rows of an official tensor (of our shape, its padding included) that fill ours, in our order."""
        kept = official[self.official_rows]
        return kept.roll(1, dims=0) if self.padding_is_last else kept


def official_places(model: nn.Module, model_name: str = "LLM4CDSR") -> dict[str, Place]:
    """Place in ``model`` of every official tensor, by official name.

    Parameters
    ----------
    model : nn.Module
        One of this package's models.
    model_name : str
        Whose official code the names come from.

    Raises
    ------
    CheckpointError
        When no mapping is known for ``model_name``, or the model's number of domains is not the official one.
    """
    if model_name not in _MAPPINGS:
        raise CheckpointError(
            f"Official checkpoints of {model_name} are not known; there are mappings for {', '.join(_MAPPINGS)}."
        )
    return _MAPPINGS[model_name](model)


def load_official(model: nn.Module, state: Mapping[str, Tensor | np.ndarray], model_name: str = "LLM4CDSR") -> None:
    """Copy an official state dict into a model; text tables it brings stay in the model's own checkpoints.

    What only guides training (the profile table and its adapter) is left out where the model has no guidance.

    Parameters
    ----------
    model : nn.Module
        A model of the same sizes, on a dataset whose domains and items stand in the official order.
    state : Mapping[str, Tensor | np.ndarray]
        Official tensors by official name.
    model_name : str
        Whose official code the state comes from.

    Raises
    ------
    CheckpointError
        Names that are missing, extra or of another shape, all at once; the model is then unchanged.
    """
    places = official_places(model, model_name)
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    problems = []
    optional = _MAY_BE_MISSING.get(model_name, ())
    if missing := sorted(name for name in places.keys() - state.keys() if not name.startswith(optional)):
        problems.append(f"missing: {', '.join(missing)}")
    unused = {name for name in state.keys() - places.keys() if name.startswith(_UNUSED[model_name])}
    if extra := sorted(state.keys() - places.keys() - unused):
        problems.append(f"extra: {', '.join(extra)}")

    copies: list[tuple[Place, Tensor]] = []
    misshaped = []
    for name in sorted(places.keys() & state.keys()):
        place = places[name]
        target = own[place.name][place.rows]
        value = torch.as_tensor(state[name])
        expected = (len(target) + place.n_padding_rows, *target.shape[1:])
        found = tuple(value.shape)
        # A kernel-1 convolution carries a trailing 1, a parameter that is broadcast over the batch a leading one.
        if found not in (expected, (*expected, 1), (1, *expected)):
            misshaped.append(f"{name} {list(found)} instead of {list(expected)}")
            continue
        copies.append((place, place.in_our_order(value.reshape(expected))))
    if misshaped:
        problems.append(f"of another shape: {'; '.join(misshaped)}")
    if problems:
        raise CheckpointError(
            f"This official {model_name} state does not fit the model ({'. '.join(problems)}); set the sizes and "
            "switches of the model to those it was trained with."
        )
    buffers = dict(model.named_buffers())
    for place in places.values():
        if place.name in buffers:
            model.keep_in_checkpoints(place.name)  # before it is written: the model's own from here on
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for place, value in copies:
            own[place.name][place.rows].copy_(value)


def load_official_file(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Read an official checkpoint as tensors only; code in the file is not run.

    Parameters
    ----------
    path : str | PathLike[str]
        A file of ``torch.save``: a state dict, or a dictionary with one under ``state_dict`` or ``model``.

    Returns
    -------
    dict[str, Tensor]
        Tensors by official name, on the CPU.

    Raises
    ------
    CheckpointError
        When the file is not there, holds anything but tensors and plain data, or no state dict.
    """
    try:
        content = read_tensors(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file; give the path of an official checkpoint.") from None
    except Exception as error:
        raise CheckpointError(
            f"{path}: this is no checkpoint of tensors and plain data (whole pickled models are refused, for "
            "loading them would run their code); save the model's state_dict() instead."
        ) from error
    if isinstance(content, dict):
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), dict):
                content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path}: there is no state dict in it; save the model's state_dict().")
    return dict(content)


def _llm4cdsr_places(model: nn.Module) -> dict[str, Place]:
    if model.n_domains != 2:
        raise CheckpointError(
            f"Official LLM4CDSR states have two domains, this model has {model.n_domains}; choose a dataset of two."
        )
    places: dict[str, Place] = {}
    if model.use_global:
        places["item_emb_llm.weight"] = Place("text_table")
        places.update(_two_layer_places("adapter", "adapter"))
        places.update(_thread_places(model.mixed_thread, "", "backbone.", "mixed_thread"))
    if model.use_local:
        for domain, suffix in enumerate("AB"):
            start, stop = (int(offset) for offset in model.domain_offsets[domain : domain + 2])
            places[f"item_emb{suffix}.weight"] = Place("local_embedding.weight", start, stop, n_padding_rows=1)
            thread = model.domain_threads[domain]
            places.update(_thread_places(thread, suffix, f"backbone{suffix}.", f"domain_threads.{domain}"))
    if model.guides:
        places["user_emb_llm.weight"] = Place("profile_table", start=1)
        places.update(_two_layer_places("user_adapter", "user_adapter"))
    return places


def _two_layer_places(official: str, ours: str) -> dict[str, Place]:
    return {
        f"{official}.{layer}.{kind}": Place(f"{ours}.{layer}.{kind}") for layer in (0, 1) for kind in ("weight", "bias")
    }


def _llmcdsr_places(model: nn.Module) -> dict[str, Place]:
    if model.n_domains != 2:
        raise CheckpointError(
            f"Official LLMCDSR states have two domains, this model has {model.n_domains}; choose a dataset of two."
        )
    places = {"item_emb.weight": Place("item_embedding.weight"), **_thread_places(model.thread, "", "", "thread")}
    for domain, name in enumerate("AB"):
        places[f"pooler_{name}.weight"] = Place("recall_network.pooling", domain, domain + 1)
    return places


def _llmcdsr_pretraining_places(model: nn.Module) -> dict[str, Place]:
    return {
        "proj_model.projection.weight": Place("projection.weight"),
        "item_emb.weight": Place("item_embedding.weight"),
        **_thread_places(model.thread, "", "", "thread"),
    }


def _thread_places(thread: nn.Module, suffix: str, prefix: str, ours: str) -> dict[str, Place]:
    """Places of a thread whose blocks the official code keeps below ``prefix``."""
    places = {f"pos_emb{suffix}.weight": Place(f"{ours}.position_embedding.weight")}
    for kind in ("weight", "bias"):
        places[f"{prefix}last_layernorm.{kind}"] = Place(f"{ours}.last_norm.{kind}")
        for i in range(len(thread.blocks)):
            block = f"{ours}.blocks.{i}"
            places[f"{prefix}attention_layernorms.{i}.{kind}"] = Place(f"{block}.attention_norm.{kind}")
            places[f"{prefix}attention_layers.{i}.in_proj_{kind}"] = Place(f"{block}.in_proj_{kind}")
            places[f"{prefix}attention_layers.{i}.out_proj.{kind}"] = Place(f"{block}.out_proj.{kind}")
            places[f"{prefix}forward_layernorms.{i}.{kind}"] = Place(f"{block}.feed_forward_norm.{kind}")
            places[f"{prefix}forward_layers.{i}.conv1.{kind}"] = Place(f"{block}.feed_forward_in.{kind}")
            places[f"{prefix}forward_layers.{i}.conv2.{kind}"] = Place(f"{block}.feed_forward_out.{kind}")
    return places


def _lecdsr_places(model: nn.Module) -> dict[str, Place]:
    def items(name: str) -> Place:
        return Place(name, padding_is_last=True)

    places = {
        "item_embeddings.weight": items("item_embedding.weight"),
        "position_embeddings.weight": Place("position_embedding.weight"),
        "W2.weight": items("output_embedding.weight"),
        "b2.weight": items("output_bias"),
        "feature_gate_item.weight": Place("feature_gate.item.weight"),
        "feature_gate_item.bias": Place("feature_gate.item.bias"),
        "instance_gate_item": Place("instance_gate.item"),
        "instance_gate_position": Place("instance_gate.position"),
    }
    if model.use_text:
        places["llm_item.weight"] = items("text_table")
        places.update(_adapter_places("adapter_text", "item_adapter"))
    if model.use_profiles:
        places["llm_user.weight"] = Place("profile_table", start=1)
        places.update(_adapter_places("adapter_user", "user_adapter"))
        places["instance_gate_user"] = Place("instance_gate.user")
        for kind in ("weight", "bias"):
            places[f"feature_gate_user.{kind}"] = Place(f"feature_gate.user.{kind}")
    if model.use_fusion:
        places["complex_weight"] = Place("fusion.complex_weight")
        for gate in ("item_gating", "fusion_gating"):
            for kind in ("weight", "bias"):
                places[f"{gate}.{kind}"] = Place(f"fusion.{gate}.{kind}")
    return places


def _adapter_places(official: str, ours: str) -> dict[str, Place]:
    return {
        f"{official}.{layer}.{kind}": Place(f"{ours}.{layer}.{kind}")
        for layer in (0, 1, 3)  # linear, layer norm, linear; between them the activation
        for kind in ("weight", "bias")
    }


# What official code makes whether or not it is used, and what a model without that part does without.
_UNUSED: dict[str, tuple[str, ...]] = {
    "LLM4CDSR": ("user_emb_llm.", "user_adapter."),
    "LLMCDSR": (),
    "LLMCDSR pre-training": (),
    "LeCDSR": (
        "user_embeddings.",
        *("llm_item.", "adapter_text.", "complex_weight", "item_gating.", "fusion_gating."),
        *("llm_user.", "adapter_user.", "feature_gate_user.", "instance_gate_user"),
    ),
}
# What a state may lack although the model has a place for it: only training needs it, and it has a file of its own.
_MAY_BE_MISSING: dict[str, tuple[str, ...]] = {"LLMCDSR": ("pooler_",)}
_MAPPINGS: dict[str, Callable[[nn.Module], dict[str, Place]]] = {
    "LLM4CDSR": _llm4cdsr_places,
    "LLMCDSR": _llmcdsr_places,
    "LLMCDSR pre-training": _llmcdsr_pretraining_places,
    "LeCDSR": _lecdsr_places,
}
