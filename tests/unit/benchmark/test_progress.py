"""Epochs from logs as RecBole writes them, and the estimate of what is left."""

from __future__ import annotations

import pytest
from recbole.utils import set_color

from recbole_cdsr.benchmark.cell import Cell
from recbole_cdsr.benchmark.progress import duration, epochs_trained, log_tail, seconds_left


def cells(*labels: str, dataset: str = "shop") -> list[Cell]:
    return [Cell(label, label, dataset, 1, {}) for label in labels]


def test_epochs_are_read_off_the_log(tmp_path):
    assert epochs_trained(tmp_path) is None
    log = tmp_path / "cell.log"
    log.write_text("INFO Pre-training of books: epoch 7, loss 0.1\n", encoding="utf-8")
    assert epochs_trained(tmp_path) == "pre-training books, epoch 7"
    with log.open("a", encoding="utf-8") as stream:
        for epoch in range(3000):  # longer than the part that is read
            stream.write(set_color(f"epoch {epoch} training", "green") + " [time: 0.1s, train loss: 3.2]\n")
    assert epochs_trained(tmp_path) == "epoch 3000"
    assert log_tail(log, start=log.stat().st_size) == ""


def test_the_estimate_takes_the_nearest_finished_cells():
    a, b, c = cells("A", "B", "C")
    other = Cell("A", "A", "shop", 2, {})
    (elsewhere,) = cells("A", dataset="other")
    assert seconds_left([a], {}, {}, 1) is None
    finished = {a: 100.0, b: 20.0}
    assert seconds_left([other], {}, finished, 1) == 100
    assert seconds_left([c], {}, finished, 1) == 60
    assert seconds_left([elsewhere], {}, {b: 20.0}, 1) == 20
    assert seconds_left([other, other, c], {}, finished, 2) == 130
    assert seconds_left([], {other: 30.0}, finished, 4) == 70  # one cell is not shared
    assert seconds_left([], {other: 300.0}, finished, 1) == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (150, "2 min"), (3600, "1 h 0 min"), (9000, "2 h 30 min"), (200_000, "2 d 7 h")]
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text
