"""Epochs from logs as RecBole writes them, and the estimate of what is left."""

from __future__ import annotations

import pytest
from recbole.utils import set_color

from recbole_cdsr.benchmark.cell import Cell
from recbole_cdsr.benchmark.progress import duration, epochs_trained, log_tail, time_left


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

    def seconds(left, *given) -> float:
        return time_left(left if isinstance(left, dict) else dict.fromkeys(left, 0.0), *given).seconds

    assert time_left({a: 0.0}, {}, {}, 1) is None
    finished = {a: 100.0, b: 20.0}
    assert seconds([other], {}, finished, 1) == 100
    assert seconds([c], {}, finished, 1) == 60
    assert seconds([elsewhere], {}, finished, 1) == 100  # the model says more of it than the dataset
    assert seconds([elsewhere], {}, {b: 20.0}, 1) == 20
    assert seconds([other, elsewhere, c], {}, finished, 2) == 130
    assert seconds({other: 40.0, c: 0.0}, {}, finished, 1) == 120  # one goes on from what took 40 seconds
    assert seconds([], {other: 30.0}, finished, 4) == 70  # one cell is not shared
    assert seconds([], {other: 300.0}, finished, 1) == 0


def test_a_model_of_which_nothing_is_finished_makes_the_estimate_a_lower_bound():
    a, b, c = cells("A", "B", "C")
    another = Cell("C", "C", "shop", 2, {})
    assert str(time_left({a: 0.0}, {}, {a: 90.0}, 1)) == "about 2 min to go"
    assert str(time_left({c: 0.0}, {}, {a: 90.0}, 1)) == "about 2 min or more to go"
    estimate = time_left({another: 0.0}, {c: 600.0}, {a: 100.0, b: 20.0}, 1)
    assert (estimate.seconds, estimate.known) == (600, False)  # as long as the one that runs, at least


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (150, "2 min"), (3600, "1 h 0 min"), (9000, "2 h 30 min"), (200_000, "2 d 7 h")]
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text
