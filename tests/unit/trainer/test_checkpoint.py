"""Checkpoints: what goes in comes out, nothing else goes in, and a kill leaves the previous one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

from recbole_cdsr.errors import CheckpointError
from recbole_cdsr.trainer.checkpoint import load_checkpoint, model_state, restore_model, save_checkpoint


def test_plain_data_comes_back_as_it_was(tmp_path):
    state = {
        "tensor": torch.arange(6).view(2, 3),
        "array": np.linspace(0, 1, 5, dtype=np.float32),
        "transposed": np.arange(6).reshape(2, 3).T,
        "sparse": scipy.sparse.coo_matrix(([1.0, 2.0], ([0, 1], [2, 0])), shape=(2, 4)),
        "scalar": np.float64(0.5),
        "name": np.str_("ndcg@10"),
        "nested": {"list": [1, 2.5, "text", None, True], "tuple": (1, (2, 3)), 7: "a number as key"},
    }
    save_checkpoint(tmp_path / "state.pth", state)
    loaded = load_checkpoint(tmp_path / "state.pth")
    assert torch.equal(loaded["tensor"], state["tensor"])
    for name in ("array", "transposed"):
        assert loaded[name].dtype == state[name].dtype
        assert np.array_equal(loaded[name], state[name])
    assert loaded["sparse"].format == "coo"
    assert np.array_equal(loaded["sparse"].toarray(), state["sparse"].toarray())
    assert loaded["scalar"] == 0.5
    assert type(loaded["scalar"]) is float
    assert type(loaded["name"]) is str
    assert loaded["nested"] == state["nested"]
    assert [path.name for path in tmp_path.iterdir()] == ["state.pth"]


@pytest.mark.parametrize("value", [object(), lambda: 1, {1, 2}, nn.Linear(1, 1), np.array([object()]), np.array(["a"])])
def test_what_is_not_plain_is_refused_and_the_previous_file_stays(tmp_path, value):
    path = tmp_path / "state.pth"
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises(CheckpointError, match=r"state\.pth\.odd is a \w+, which a checkpoint cannot hold safely"):
        save_checkpoint(path, {"epoch": 2, "odd": value})
    assert load_checkpoint(path)["epoch"] == 1


def test_a_disk_that_refuses_leaves_the_previous_file_and_nothing_beside(tmp_path):
    path = tmp_path / "state.pth"
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises(CheckpointError, match="could not be written"):
        save_checkpoint(tmp_path / "gone" / "state.pth", {"epoch": 2})
    (tmp_path / "state.pth.part").mkdir()  # in the way of the new file
    with pytest.raises(CheckpointError, match=r"state\.pth could not be written"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path)["epoch"] == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a checkpoint", bytes(2000)])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"broken\.pth"):
        load_checkpoint(path)


def test_a_file_cut_short_is_named(tmp_path):
    path = tmp_path / "cut.pth"
    save_checkpoint(path, {"weight": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match=r"cut\.pth is broken"):
        load_checkpoint(path)


@pytest.mark.parametrize("state", [{"state_dict": {}}, [1, 2], {"format": 99}])
def test_a_file_of_others_is_not_taken_for_ours(tmp_path, state):
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not a checkpoint of recbole-cdsr"):
        load_checkpoint(tmp_path / "other.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="is not there"):
        load_checkpoint(tmp_path / "none.pth")


def test_a_kill_in_the_middle_of_writing_leaves_the_previous_checkpoint(tmp_path):
    """A child writes one checkpoint after the other and is killed at some moment, again and again."""
    path = tmp_path / "last.pth"
    big = np.zeros(2_000_000, dtype=np.float32)  # some milliseconds of writing
    save_checkpoint(path, {"count": 0, "big": big})
    caught_writing = progress = attempt = 0
    deadline = time.monotonic() + 90
    # On a machine with other work a child may get nowhere in its time; then there are more attempts, and longer ones.
    while attempt < 12 or (not (progress and caught_writing) and time.monotonic() < deadline):
        before = load_checkpoint(path)["count"]
        child = os.fork()
        if child == 0:  # the child must not return into pytest
            count = before
            while True:
                count += 1
                save_checkpoint(path, {"count": count, "big": big + np.float32(count)})
        time.sleep(0.03 * 1.12**attempt)
        attempt += 1
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        caught_writing += path.with_name("last.pth.part").exists()
        state = load_checkpoint(path)
        progress += state["count"] - before
        assert (state["big"] == state["count"]).all()
    assert progress > 0
    assert caught_writing > 0


class Counting(nn.Module):
    """A model with something beside its parameters, as RecBole's Pop has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.counts = torch.zeros(3)
        self.similarity = scipy.sparse.eye(3, format="csr")
        self.embedding = nn.Embedding(3, 2)

    def other_parameter(self):
        return {"counts": self.counts, "similarity": self.similarity, "embedding": self.embedding}

    def load_other_parameter(self, values):
        for name, value in values.items():
            setattr(self, name, value)


def test_a_model_comes_back_with_what_it_keeps_beside_its_parameters(tmp_path):
    model, other = Counting(), Counting()
    model.counts += 5
    model.similarity = scipy.sparse.csr_matrix(([2.0], ([0], [1])), shape=(3, 3))
    save_checkpoint(tmp_path / "model.pth", model_state(model))
    embedding = other.embedding
    restore_model(other, load_checkpoint(tmp_path / "model.pth"), tmp_path / "model.pth")
    assert torch.equal(other.layer.weight, model.layer.weight)
    assert torch.equal(other.counts, model.counts)
    assert (other.similarity != model.similarity).nnz == 0
    assert other.embedding is embedding
    assert torch.equal(embedding.weight, model.embedding.weight)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"state_dict": {}, "other_parameter": {}},
        {"state_dict": 3, "other_parameter": {}},
        {"state_dict": {"layer.weight": torch.zeros(9)}, "other_parameter": {}},
    ],
)
def test_a_state_that_does_not_fit_is_named(state):
    with pytest.raises(CheckpointError, match=r"^here\.pth does not fit Counting"):
        restore_model(Counting(), state, Path("here.pth"))
