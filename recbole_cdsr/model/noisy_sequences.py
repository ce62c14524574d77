"""Rows with places for pseudo items, and the rows they become once items have been recalled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from recbole_cdsr.model.training_sequences import TrainingSequences


@dataclass(frozen=True, eq=False)
class NoisySequences:
    """Sequences of single-domain users, with the generated texts that are to become items in them.

    A user has one entry for each domain that is recalled into, E entries in all.

    Attributes
    ----------
    layout : TrainingSequences
        Inputs hold 0 where a pseudo item goes; nothing is learnt where a pseudo item is the target.
    sources : Tensor
        int64 ``[T]``, place of the pseudo item among ``recalled.flatten()``, −1 where a real item stands.
    projected : Tensor
        ``[E, m, d]``, generated texts Z, padded.
    counts : Tensor
        int64 ``[E]``, generated texts of each entry, ≥ 1.
    into : Tensor
        int64 ``[E]``, domain that each entry is recalled into.
    recall_sizes : Tensor
        int64 ``[E]``, items recalled for each entry: k, or all items of a smaller domain.
    """

    layout: TrainingSequences
    sources: Tensor
    projected: Tensor
    counts: Tensor
    into: Tensor
    recall_sizes: Tensor

    def to(self, device: torch.device) -> NoisySequences:
        """The same on another device."""
        tensors = (self.sources, self.projected, self.counts, self.into, self.recall_sizes)
        return NoisySequences(self.layout.to(device), *(tensor.to(device) for tensor in tensors))

    @cached_property
    def pseudo_positions(self) -> Tensor:
        """int64 ``[S]``, tokens that are pseudo items."""
        return (self.sources >= 0).nonzero().squeeze(1)

    def filled(self, recalled: Tensor) -> TrainingSequences:
        """The rows with the recalled items ``[E, k]`` in their places."""
        items = self.layout.items.clone()
        items[self.pseudo_positions] = recalled.flatten()[self.sources[self.pseudo_positions]]
        return self.layout.with_items(items)

    def straight_through(self, vectors: Tensor, pooled: Tensor, n_columns: int) -> Tensor:
        r"""Input vectors whose value is the table's and whose gradient reaches the pooled texts alone.

        .. math:: x_t = \mathrm{sg}(e(v_t)) + [t \text{ pseudo}] \; (z - \mathrm{sg}(z)) / k

        Parameters
        ----------
        vectors : Tensor
            ``[T, d]``, e(v) of the filled rows.
        pooled : Tensor
            ``[E, d]``, z.
        n_columns : int
            Columns of ``recalled``.

        Returns
        -------
        Tensor
            ``[T, d]``.
        """
        share = (pooled - pooled.detach()) / self.recall_sizes[:, None]  # [E, d], zero
        entry = self.sources[self.pseudo_positions] // n_columns  # [S]
        return vectors.detach().index_add(0, self.pseudo_positions, share[entry])
