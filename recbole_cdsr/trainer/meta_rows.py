"""The noisy and the overlapped rows of each training step of LLMCDSR."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_cdsr.data.augmented_rows import AugmentedRows, overlapped_rows
from recbole_cdsr.data.rotation import Rotation
from recbole_cdsr.llm.pseudo_items import PseudoItems
from recbole_cdsr.model.llmcdsr import LLMCDSR
from recbole_cdsr.model.noisy_sequences import NoisySequences
from recbole_cdsr.model.recall_network import padded_names
from recbole_cdsr.model.training_sequences import TrainingSequences

NOISY, META = 1, 2  # so that the two rotations do not go in step


class MetaRows:
    """Draws, for a step, users with pseudo items and overlapped users.

    Parameters
    ----------
    dataset
        Training split, one row per user.
    model
        Its recall network is ready: texts are projected here, once, because projections stay fixed.
    pseudo_items
        Texts of single-domain users.
    noisy_batch_size, meta_batch_size
        Users of each kind in a step.
    seed
        Of the run.

    Attributes
    ----------
    n_noisy, n_overlapped
        Users of each kind that there are.
    """

    def __init__(
        self,
        dataset: Any,
        model: LLMCDSR,
        pseudo_items: PseudoItems,
        noisy_batch_size: int,
        meta_batch_size: int,
        seed: int,
    ) -> None:
        self._dataset, self._model, self._pseudo = dataset, model, pseudo_items
        network = model.recall_network
        self._device = network.item_table.device
        self.augmented = AugmentedRows(
            dataset,
            pseudo_items.user_ids,
            pseudo_items.into_domain,
            np.diff(pseudo_items.pointers),
            network.recall_sizes,
            network.n_recalled,
        )
        self._overlapped = overlapped_rows(dataset)
        self.n_noisy, self.n_overlapped = len(self.augmented), len(self._overlapped)
        if self.n_noisy:
            self._noisy_order = Rotation(self.n_noisy, noisy_batch_size, (seed, NOISY))
            texts = torch.tensor(pseudo_items.vectors, device=self._device, dtype=network.item_table.dtype)  # [V, D]
            self._projected = network.project_into_all(texts)  # [K, V, d]
        if self.n_overlapped:
            self._meta_order = Rotation(self.n_overlapped, meta_batch_size, (seed, META))

    def noisy(self, step: int) -> NoisySequences:
        """Rows of users with pseudo items, before recall."""
        pseudo = self._pseudo
        batch = self.augmented.batch(self._noisy_order.batch(step))
        names, counts = padded_names(pseudo.name_ids, pseudo.pointers, batch.entries)
        into = pseudo.into_domain[batch.entries]
        sizes = np.asarray(self._model.recall_network.recall_sizes)[into]
        layout = batch.layout
        columns = (layout.lengths, layout.items, layout.targets, batch.negatives, layout.sources, counts, into, sizes)
        lengths, items, targets, negatives, sources, counts, into, sizes = (
            torch.from_numpy(column).to(self._device) for column in columns
        )
        names = torch.from_numpy(names).to(self._device)
        projected = self._projected[into[:, None], names]  # [E, m, d]
        rows = TrainingSequences(lengths, items, targets, negatives)
        return NoisySequences(rows, sources, projected, counts, into, sizes)

    def overlapped(self, step: int) -> TrainingSequences:
        """Rows of overlapped users."""
        chosen = self._overlapped[self._meta_order.batch(step)]
        return self._model.training_sequences(self._dataset[chosen].to(self._device))
