"""Where the tokens of a batch lie, and which rows attend together."""

from __future__ import annotations

import itertools

import pytest
import torch

from recbole_cdsr.model.packed_windows import BUCKET_COST, PackedWindows

LENGTHS = [0, 1, 12, 5, 0, 9, 2, 8, 1, 0]


@pytest.mark.parametrize("lengths", [LENGTHS, [0, 0], [], [1], [300, 3, 0, 17, 65, 64, 16, 8, 9]])
def test_layout_places_every_token_once(lengths: list[int]) -> None:
    packed = PackedWindows.from_lengths(torch.tensor(lengths, dtype=torch.long))
    expected_rows = [row for row, n in enumerate(lengths) for _ in range(n)]
    assert packed.rows.tolist() == expected_rows
    assert packed.columns.tolist() == [column for n in lengths for column in range(n)]
    assert packed.pointers.tolist() == [0, *itertools.accumulate(lengths)]
    # A token's slot leads back to it, and the slots after a row's end to its last token.
    assert torch.equal(packed.token_of_slot[packed.slot_of_token], torch.arange(sum(lengths)))
    seen: list[int] = []
    for bucket in packed.buckets:
        block = packed.token_of_slot[bucket.slots].view(bucket.n_rows, bucket.width)
        for tokens, length in zip(block.tolist(), bucket.lengths.tolist(), strict=True):
            row = expected_rows[tokens[0]]
            start = packed.pointers[row].item()
            assert length == lengths[row]
            assert tokens == [start + min(column, length - 1) for column in range(bucket.width)]
            seen.append(row)
    assert sorted(seen) == [row for row, n in enumerate(lengths) if n]


def test_a_long_row_does_not_widen_the_short_ones() -> None:
    packed = PackedWindows.from_lengths(torch.tensor([200] + [7] * 127))
    assert len(packed.token_of_slot) == 200 + 127 * 8


def test_few_rows_join_a_wider_bucket_and_many_do_not() -> None:
    n_few = BUCKET_COST // (16**2 - 8**2)
    for n_rows, expected in ((n_few, [16]), (n_few + 1, [8, 16])):
        packed = PackedWindows.from_lengths(torch.tensor([16] + [7] * n_rows))
        assert [bucket.width for bucket in packed.buckets] == expected
        assert sum(bucket.n_rows for bucket in packed.buckets) == n_rows + 1
