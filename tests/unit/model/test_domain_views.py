"""Domain threads against loops that follow the specification word by word."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_cdsr.model.domain_views import history_view, training_views
from recbole_cdsr.model.packed_windows import PackedWindows


def random_windows(n_domains: int, seed: int) -> tuple[list[list[int]], list[int]]:
    """Windows W (input and last target) of random lengths, and the domain of each of 30 items."""
    random = np.random.default_rng(seed)
    item_domain = [-1, *sorted(random.integers(0, n_domains, size=30).tolist())]
    windows = [random.integers(1, 31, size=n).tolist() for n in random.integers(2, 15, size=25)]
    # Rows of one domain only, where the other threads are empty.
    windows += [[item] * 5 for item in (1, 30)]
    return windows, item_domain


def naive_view(windows: list[list[int]], item_domain: list[int], domain: int):
    """Thread inputs per row and (row, mixed position, thread position) of each match, by the targets themselves."""
    inputs, matches = [], []
    for row, window in enumerate(windows):
        places = [place for place, item in enumerate(window) if item_domain[item] == domain]
        inputs.append([window[place] for place in places[:-1]])
        for position, place in enumerate(places[1:]):  # thread targets are W_k[1:]
            matches.append((row, place - 1, position))  # the mixed position with the same target
    return inputs, matches


@pytest.mark.parametrize("n_domains", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_training_views_match_by_target(n_domains: int, seed: int) -> None:
    windows, item_domain = random_windows(n_domains, seed)
    packed = PackedWindows.from_lengths(torch.tensor([len(w) - 1 for w in windows]))
    inputs = torch.tensor([item for w in windows for item in w[:-1]])
    targets = torch.tensor([item for w in windows for item in w[1:]])
    views = training_views(packed, inputs, targets, torch.tensor(item_domain), n_domains)
    assert len(views) == n_domains
    for domain, view in enumerate(views):
        expected_inputs, expected_matches = naive_view(windows, item_domain, domain)
        assert view.packed.lengths.tolist() == [len(row) for row in expected_inputs]
        assert view.item_ids.tolist() == [item for row in expected_inputs for item in row]
        matches = zip(
            packed.rows[view.mixed_positions].tolist(),
            packed.columns[view.mixed_positions].tolist(),
            view.packed.columns[view.thread_positions].tolist(),
            strict=True,
        )
        assert sorted(matches) == sorted(expected_matches)
        assert torch.equal(packed.rows[view.mixed_positions], view.packed.rows[view.thread_positions])


def test_positions_without_target_are_not_matched() -> None:
    # Domain 0: items 1-2, domain 1: items 3-4; the middle target is not to be learnt, row 1 has no last target.
    packed = PackedWindows.from_lengths(torch.tensor([3, 2]))
    views = training_views(
        packed,
        torch.tensor([1, 2, 1, 3, 4]),
        torch.tensor([2, 0, 2, 4, 0]),
        torch.tensor([-1, 0, 0, 1, 1]),
        2,
    )
    assert views[0].mixed_positions.tolist() == [0, 2]
    assert views[0].item_ids.tolist() == [1, 2, 1]
    assert views[1].mixed_positions.tolist() == [3]
    assert views[1].item_ids.tolist() == [3]  # W ends with item 4, which is only a target


@pytest.mark.parametrize("n_domains", [2, 3])
def test_history_view_takes_all_items_of_the_domain(n_domains: int) -> None:
    windows, item_domain = random_windows(n_domains, seed=7)
    packed = PackedWindows.from_lengths(torch.tensor([len(w) for w in windows]))
    rows = torch.tensor([0, 3, 4, len(windows) - 1])
    for domain in range(n_domains):
        view, ids = history_view(
            packed,
            torch.tensor([i for w in windows for i in w]),
            torch.tensor(item_domain),
            domain,
            rows,
        )
        expected = [
            [item for item in w if item_domain[item] == domain] if row in rows.tolist() else []
            for row, w in enumerate(windows)
        ]
        assert view.lengths.tolist() == [len(row) for row in expected]
        assert ids.tolist() == [item for row in expected for item in row]
