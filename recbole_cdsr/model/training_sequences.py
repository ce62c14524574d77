"""What the loss of a sequence-to-sequence batch reads, on real tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_cdsr.model.packed_windows import PackedWindows


@dataclass(frozen=True, eq=False)
class TrainingSequences:
    """Inputs, targets and negatives of R rows, laid end to end.

    Attributes
    ----------
    lengths : Tensor
        int64 ``[R]``, input tokens of each row.
    items : Tensor
        int64 ``[T]``, input items by row, then by time.
    targets : Tensor
        int64 ``[T]``, next item of each position, 0 where nothing is to be learnt.
    negatives : Tensor
        int64 ``[T]``, or ``[T, N]`` for N negatives per position.
    """

    lengths: Tensor
    items: Tensor
    targets: Tensor
    negatives: Tensor

    @classmethod
    def from_interaction(
        cls, interaction: Interaction, item_field: str, length_field: str, target_field: str, negative_field: str
    ) -> TrainingSequences:
        """Take the real tokens of the right-padded windows ``[R, L]`` of a batch."""
        packed = PackedWindows.from_lengths(interaction[length_field])
        columns = (packed.pack(interaction[field]) for field in (item_field, target_field, negative_field))
        sequences = cls(packed.lengths, *columns)
        sequences.__dict__["packed"] = packed
        return sequences

    @classmethod
    def joined(cls, parts: Sequence[TrainingSequences]) -> TrainingSequences:
        """The rows of several batches as one."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.lengths for part in parts]),
            torch.cat([part.items for part in parts]),
            torch.cat([part.targets for part in parts]),
            torch.cat([part.negatives for part in parts]),
        )

    def to(self, device: torch.device) -> TrainingSequences:
        """The same on another device."""
        return TrainingSequences(
            self.lengths.to(device), self.items.to(device), self.targets.to(device), self.negatives.to(device)
        )

    def with_items(self, items: Tensor) -> TrainingSequences:
        """The same rows with other input items."""
        other = TrainingSequences(self.lengths, items, self.targets, self.negatives)
        other.__dict__.update(packed=self.packed, learnt=self.learnt)
        return other

    @cached_property
    def packed(self) -> PackedWindows:
        """Layout of the tokens."""
        return PackedWindows.from_lengths(self.lengths)

    @cached_property
    def learnt(self) -> Tensor:
        """int64 ``[M]``, tokens with a target."""
        return self.targets.nonzero().squeeze(1)

    @property
    def learnt_targets(self) -> Tensor:
        """int64 ``[M]``."""
        return self.targets[self.learnt]

    @property
    def learnt_negatives(self) -> Tensor:
        """int64 ``[M]`` or ``[M, N]``."""
        return self.negatives[self.learnt]

    @property
    def item_groups(self) -> list[Tensor]:
        """Ids of inputs ``[T]``, targets ``[M]`` and negatives ``[M]`` or ``[M, N]``."""
        return [self.items, self.learnt_targets, self.learnt_negatives]
