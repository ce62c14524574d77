"""What follows from the files of a cell: whether it is done, goes on, failed, or holds something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recbole_cdsr.benchmark.cell import (
    CHANGED,
    DONE,
    FAILED,
    INTERRUPTED,
    LEFT,
    RUNNING,
    Cell,
    CellRecord,
    standing,
)
from recbole_cdsr.errors import ConfigError

CAP = 300


def cell(**settings) -> Cell:
    return Cell("SASRec+llm", "SASRec", "shop", 2, {"llm_injection": "adapter", **settings})


@pytest.fixture
def leave(tmp_path: Path):
    """`leave(status, …)`: the files that a cell of that status leaves."""

    def leave(
        status: str, epochs: int = 20, cap: int = CAP, budget: bool = False, last: bool = False, **settings
    ) -> Path:
        run = cell(**settings)
        folder = run.folder(tmp_path)
        folder.mkdir(parents=True)
        record = CellRecord.of(run)
        record.status, record.attempts = status, 1
        record.write(folder)
        if status == DONE:
            result = {"epochs": epochs, "budget": budget, "config": {"epochs": cap}, "test": {"overall": {"count": 3}}}
            (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
        if last:
            (folder / "last.pth").write_bytes(b"")
        return folder

    return leave


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("SASRec+llm-init", "SASRec+llm-init"),
        ("a / b: c", "a-b-c"),
        ("../up", "-up"),
        ("..", "-"),
        ("größer als", "größer-als"),
    ],
)
def test_a_label_makes_a_safe_folder(tmp_path, label, name):
    folder = Cell(label, "BPR", "shop", 3, {}).folder(tmp_path)
    assert folder.relative_to(tmp_path).parts == ("cells", "shop", name, "seed-3")


def test_a_record_is_read_back_as_strict_json(tmp_path, leave):
    folder = leave(RUNNING)
    again = CellRecord.read(folder)
    assert again == CellRecord("SASRec+llm", "SASRec", "shop", 2, {"llm_injection": "adapter"}, RUNNING, attempts=1)
    assert CellRecord.read(tmp_path) is None
    kept = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    wrong = [json.dumps(kept | change) for change in ({"settings": []}, {"seconds": "1"}, {"attempts": None})]
    for damage in ("{", "[]", '{"status": "ready"}', '{"status": "done"}', "[" * 100_000, *wrong):
        (folder / "cell.json").write_text(damage, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"cell\.json is not the record of a cell .* delete it"):
            CellRecord.read(folder)


@pytest.mark.parametrize(
    ("left", "now", "cap", "state"),
    [
        ({"status": DONE}, {}, CAP, DONE),
        ({"status": DONE}, {"show_progress": True, "use_gpu": False}, CAP, DONE),
        ({"status": DONE}, {"hidden_size": 32}, CAP, CHANGED),
        ({"status": DONE, "hidden_size": 32}, {}, CAP, CHANGED),
        ({"status": DONE}, {"topk": [5]}, CAP, CHANGED),  # other figures, though the same training
        ({"status": DONE}, {"epochs": 500}, 500, DONE),  # it stopped early, and would again
        ({"status": DONE}, {"epochs": 10}, 10, CHANGED),  # it would not have come that far
        ({"status": DONE, "epochs": 30, "cap": 30, "budget": True, "last": True}, {}, 30, DONE),
        ({"status": DONE, "epochs": 30, "cap": 30, "budget": True, "last": True}, {}, 60, LEFT),
        ({"status": DONE, "epochs": 30, "cap": 30, "budget": True}, {}, 60, CHANGED),  # nothing to go on from
        ({"status": RUNNING}, {}, CAP, LEFT),
        ({"status": RUNNING, "last": True}, {}, CAP, INTERRUPTED),
        ({"status": RUNNING, "last": True}, {"topk": [5]}, CAP, INTERRUPTED),  # it has no figures yet
        ({"status": RUNNING, "last": True}, {"hidden_size": 32}, CAP, CHANGED),
        ({"status": RUNNING, "last": True}, {"metric_decimal_place": 6}, CAP, CHANGED),  # validations are rounded
        ({"status": RUNNING}, {"hidden_size": 32}, CAP, LEFT),  # nothing of the former settings is there
        ({"status": FAILED}, {}, CAP, FAILED),
        ({"status": FAILED}, {"learning_rate": 0.1}, CAP, LEFT),  # mended: it is another cell now
        ({"status": FAILED, "last": True}, {"learning_rate": 0.1}, CAP, CHANGED),
    ],
)
def test_the_state_of_a_cell_follows_from_what_it_left(tmp_path, leave, left, now, cap, state):
    leave(**left)
    assert standing(cell(**now), tmp_path, cap).state == state


def test_a_cell_without_a_record_is_left(tmp_path):
    assert standing(cell(), tmp_path, CAP).state == LEFT


def test_a_finished_cell_without_its_result_is_run_again(tmp_path, leave):
    folder = leave(DONE, last=True)
    (folder / "result.json").write_text("{", encoding="utf-8")
    assert standing(cell(), tmp_path, CAP).state == INTERRUPTED


def test_changes_are_named_with_both_values(tmp_path, leave):
    leave(DONE, hidden_size=32, dropout_prob=0.1)
    other = Cell("SASRec+llm", "GRU4Rec", "shop", 2, {"llm_injection": "adapter", "hidden_size": 64})
    assert standing(other, tmp_path, CAP).changes == (
        "model is 'GRU4Rec', was 'SASRec'",
        "hidden_size is 64, was 32",
        "dropout_prob is not set, was 0.1",
    )
