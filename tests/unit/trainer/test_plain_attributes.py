"""What a model keeps beside parameters and buffers, found when it has changed and put back."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from recbole_cdsr.trainer.plain_attributes import PlainAttributes


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.inner = Inner()
        self.update, self.rate, self.name = 0, 0.5, "a"
        self.history = torch.zeros(3)
        self.replaced = torch.zeros(3)
        self.order = np.arange(4)
        self.places = [0, 1, 2]
        self.names = ["a", "b"]
        self.cached = None
        self.found_later, self.filled_later, self.scores = None, [], None
        self.sizes = [64, [32, 16]]
        self._private = 0

    def other_parameter(self) -> dict:
        return {"rate": self.rate}


def train(model: Model) -> None:
    model.update += 3
    model.rate = 0.1  # RecBole's own list keeps it
    model.inner.count = 2
    model.history[1] = 5.0
    model.replaced = torch.ones(3)
    model.order[:] = [3, 1, 0, 2]
    model.places.reverse()
    model.found_later = torch.ones(2)
    model.filled_later.append(0.25)
    model.scores = torch.ones(100)  # as large as a batch of them is
    model.cached = model.layer.weight * 2  # what a gradient flows through is made anew
    model._private = 1
    model.eval()


def test_nothing_has_changed_before_training():
    assert PlainAttributes(Model()).changed() == {}


def test_what_training_changed_is_put_back_into_a_new_model():
    model = Model()
    attributes = PlainAttributes(model)
    train(model)
    changed = attributes.changed()
    assert {path: sorted(values) for path, values in changed.items()} == {
        "": ["filled_later", "found_later", "history", "order", "places", "replaced", "update"],
        "inner": ["count"],
    }
    other = Model()
    resumed = PlainAttributes(other)
    resumed.restore(changed)
    assert (other.update, other.inner.count, other.places) == (3, 2, [2, 1, 0])
    assert other.order.tolist() == [3, 1, 0, 2]
    assert torch.equal(other.history, torch.tensor([0.0, 5, 0]))
    assert other.replaced.tolist() == [1, 1, 1]
    assert other.found_later.tolist() == [1, 1]
    assert (other.filled_later, other.cached) == ([0.25], None)
    assert other.training
    assert sorted(resumed.changed()[""]) == sorted(changed[""])  # kept again with the next epoch


def test_what_began_as_none_comes_back_on_the_device_of_the_model():
    model = Model().to("meta")
    PlainAttributes(model).restore({"": {"found_later": torch.ones(2), "filled_later": [0.5]}})
    assert model.found_later.device.type == "meta"
    assert model.filled_later == [0.5]


def test_a_file_sets_nothing_that_the_model_has_not():
    model = Model()
    PlainAttributes(model).restore({"": {"forward": 3, "new": 1, "name": 7, "_private": 9}})
    assert not hasattr(model, "new")
    assert (model.name, model._private) == ("a", 0)
    assert callable(model.forward)
    PlainAttributes(model).restore({"absent": {"count": 3}})
