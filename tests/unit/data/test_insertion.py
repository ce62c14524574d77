"""Pseudo items against inserting them one by one into lists."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_cdsr.data.insertion import insert_before
from recbole_cdsr.data.rotation import Rotation


def by_hand(sequence: list[int], places: list[float], numbers: list[int], longest: int) -> tuple[list, list, list]:
    """Inputs, sources and targets of one row: walk along the sequence, put what goes before each item."""
    order = sorted(range(len(places)), key=lambda p: places[p])
    tokens: list[tuple[int, int]] = []
    for position, item in enumerate(sequence):
        tokens += [(0, numbers[p]) for p in order if int(places[p]) == position]
        tokens.append((item, -1))
    tokens = tokens[-(longest + 1) :]
    return [i for i, _ in tokens[:-1]], [s for _, s in tokens[:-1]], [i for i, _ in tokens[1:]]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("longest", [1, 4, 9, 30])
def test_rows_are_those_of_a_loop_over_users(seed: int, longest: int) -> None:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 15, size=7)
    sequences = [random.integers(1, 50, size=n) for n in lengths]
    owners = random.integers(0, 7, size=20)
    places = random.random(20) * lengths[owners]
    kept = np.minimum(lengths, longest + 1)
    items = np.concatenate([sequence[-n:] for sequence, n in zip(sequences, kept, strict=True)])
    layout = insert_before(items, kept, lengths - kept, owners, places, longest)
    stops = np.cumsum(layout.lengths)
    for row, sequence in enumerate(sequences):
        own = np.flatnonzero(owners == row)
        expected = by_hand(sequence.tolist(), places[own].tolist(), own.tolist(), longest)
        part = slice(stops[row] - layout.lengths[row], stops[row])
        found = tuple(column[part].tolist() for column in (layout.items, layout.sources, layout.targets))
        assert found == expected
        assert (layout.rows[part] == row).all()


def test_nothing_goes_after_the_last_item_and_pseudo_items_are_no_targets() -> None:
    random = np.random.default_rng(0)
    kept = np.full(50, 3)
    owners = np.repeat(np.arange(50), 10)
    layout = insert_before(np.arange(1, 151), kept, np.zeros(50, int), owners, random.random(500) * 3, 100)
    assert (layout.lengths == 12).all()
    last = np.cumsum(layout.lengths) - 1
    assert (layout.targets[last] == np.arange(3, 151, 3)).all()
    assert ((layout.sources >= 0) == (layout.items == 0)).all()
    assert (layout.sources >= 0).sum() == 500
    assert (layout.targets == 0).sum() == 500 - np.count_nonzero(layout.sources[last - 11] >= 0)


def test_places_are_uniform_over_the_whole_sequence() -> None:
    """A sequence of 4 of which 2 are kept: half of the pseudo items stand before items that fell off."""
    random = np.random.default_rng(1)
    n = 4000
    layout = insert_before(np.tile([7, 8], n), np.full(n, 2), np.full(n, 2), np.arange(n), random.random(n) * 4, 1)
    # Of the other half, those before the last item push the kept one out, those before it are cut off themselves.
    assert abs((layout.sources >= 0).mean() - 0.25) < 0.03


def test_rotation_shows_everyone_once_a_turn_whatever_was_asked_before() -> None:
    rotation = Rotation(10, 4, (3, 1))
    steps = [rotation.batch(step) for step in range(5)]
    drawn = np.concatenate(steps)
    assert sorted(drawn[:10]) == sorted(drawn[10:20]) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:20].tolist()
    again = Rotation(10, 4, (3, 1))
    assert [again.batch(step).tolist() for step in (4, 0, 2)] == [steps[step].tolist() for step in (4, 0, 2)]
    assert Rotation(10, 4, (3, 2)).batch(0).tolist() != steps[0].tolist()
    assert sorted(Rotation(3, 32, (0,)).batch(7)) == [0, 1, 2]
