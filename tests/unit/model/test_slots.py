"""Slot windows against loops over rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_cdsr.model import slots
from recbole_cdsr.model.slots import SlotWindows, backward_positions, distinct, in_blocks

LENGTHS = [3, 0, 5, 1, 8, 5, 2, 0]


def random_windows(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    items = torch.randint(1, 20, (len(LENGTHS), 9), generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor(LENGTHS)
    return torch.where(torch.arange(9) < lengths[:, None], items, 0), lengths


@pytest.mark.parametrize("mask_padding", [True, False])
@pytest.mark.parametrize("n_slots", [1, 5, 12])
@pytest.mark.parametrize("rows_per_block", [1, 2, 128])
def test_every_token_lies_in_its_slot(mask_padding, n_slots, rows_per_block, monkeypatch) -> None:
    monkeypatch.setattr(slots, "ROWS_PER_BLOCK", rows_per_block)
    items, lengths = random_windows()
    windows = SlotWindows.from_right_padded(items, lengths, n_slots, mask_padding)
    expected_ids, expected_rows = [], []
    for place, row in enumerate(windows.order.tolist()):
        kept = items[row, : lengths[row]].tolist()[-n_slots:]
        padded = [0] * (n_slots - len(kept)) + kept
        assert windows.item_ids[place].tolist() == padded
        tokens = kept if mask_padding else padded
        assert windows.counts[place] == len(tokens)
        expected_ids += tokens
        expected_rows += [place] * len(tokens)
    assert sorted(windows.order.tolist()) == list(range(len(LENGTHS)))
    assert windows.token_ids.tolist() == expected_ids
    assert windows.token_rows.tolist() == expected_rows
    assert torch.equal(windows.unpack(windows.token_ids, 0), windows.item_ids)

    # Blocks are consecutive rows of one length, and views.
    values = torch.randn(len(expected_ids), 3)
    blocks = in_blocks(values, windows.blocks)
    assert [rows for block in windows.blocks for rows in [block.length] * block.n_rows] == windows.counts.tolist()
    assert max(block.n_rows for block in windows.blocks) <= rows_per_block
    assert torch.equal(torch.cat([block.flatten(0, 1) for block in blocks]), values)
    assert all(block.untyped_storage().data_ptr() == values.untyped_storage().data_ptr() for block in blocks)

    sums = torch.zeros(len(LENGTHS), 3).index_add(0, torch.tensor(expected_rows, dtype=torch.long), values)
    assert torch.allclose(windows.sum_by_row(values), sums, atol=1e-6)
    back = windows.in_batch_order(windows.order.double())
    assert back.tolist() == list(range(len(LENGTHS)))


@pytest.mark.parametrize("n_domains", [2, 3])
@pytest.mark.parametrize("official", [True, False])
def test_positions_count_backwards_within_each_domain(n_domains: int, official: bool) -> None:
    random = np.random.default_rng(1)
    item_domain = torch.tensor([-1, *sorted(random.integers(0, n_domains, size=19).tolist())])
    items, lengths = random_windows(seed=2)
    windows = SlotWindows.from_right_padded(items, lengths, 5, True)
    positions = backward_positions(windows.item_ids, item_domain, n_domains, official)
    for window, ranks in zip(windows.item_ids.tolist(), positions.tolist(), strict=True):
        seen = [0] * n_domains
        for slot in reversed(range(5)):
            expected = 0
            if window[slot]:
                domain = int(item_domain[window[slot]])
                seen[domain] += 1
                expected = seen[domain]
            if official and slot == 0:
                expected = 0
            assert ranks[slot] == expected


@pytest.mark.parametrize("shape", [(0,), (7,), (40, 3)])
def test_distinct_ids(shape) -> None:
    ids = torch.randint(0, 30, shape, generator=torch.Generator().manual_seed(0))
    found, places = distinct(ids, 30)
    assert torch.equal(found, ids.unique())
    assert torch.equal(found[places], ids)
