"""What stage 2 of LLMCDSR reads: the sequences of one domain, with local item ids."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch

from recbole_cdsr.data.negatives import InDomainNegatives
from recbole_cdsr.data.sequences import TRAIN
from recbole_cdsr.model.training_sequences import TrainingSequences
from recbole_cdsr.ranges import expand_ranges


class DomainSequences:
    """Training sequences of one domain: of users who know it alone, and the domain's part of all others.

    The last item of a sequence of three or more is held out for validation; shorter ones are trained on as they are.

    Parameters
    ----------
    dataset
        `CrossDomainSequentialDataset`; only training interactions are read.
    domain
        k, 0-based.

    Attributes
    ----------
    n_items
        Items of the domain; local ids are ``1 .. n_items``.
    trained
        int64, sequences that there is something to learn from.
    validated
        int64, sequences with a held-out item.
    """

    def __init__(self, dataset: Any, domain: int) -> None:
        log = dataset.log
        start, stop = (int(offset) for offset in dataset.domain_offsets[domain : domain + 2])
        segments, flat = expand_ranges(log.segment_starts, log.train_stops - log.segment_starts)
        mine = (dataset.item_domain[log.items[flat]] == domain) & (log.segment_parts[segments] == TRAIN)
        self.n_items = stop - start
        self._items = log.items[flat[mine]] - start + 1  # local ids
        self._users = segments[mine]
        counts = np.bincount(segments[mine], minlength=len(log.segment_starts))
        self._starts = np.cumsum(counts) - counts
        held_out = counts >= 3
        self._lengths = counts - held_out  # of the part that is trained on
        self.trained = np.flatnonzero(self._lengths >= 2)
        self.validated = np.flatnonzero(held_out)
        learnt = np.ones(len(self._items), dtype=bool)
        learnt[(self._starts + self._lengths)[held_out]] = False
        self._negatives = InDomainNegatives(
            self._users[learnt], self._items[learnt], len(counts), np.array([1, self.n_items + 1])
        )

    def sha256(self) -> str:
        """Of everything that is trained and validated on, as 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for column in (self._users, self._items, self._lengths):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def training_batch(self, chosen: np.ndarray, longest: int, random: np.random.RandomState) -> TrainingSequences:
        """Inputs, targets and negatives of some sequences.

        Parameters
        ----------
        chosen
            int64 ``[R]``, of `trained`.
        longest
            L, most inputs.
        random
            Draws the negatives.
        """
        lengths = np.minimum(self._lengths[chosen] - 1, longest)
        rows, inputs = expand_ranges(self._starts[chosen] + self._lengths[chosen] - 1 - lengths, lengths)
        negatives = self._negatives.draw(chosen[rows], np.zeros_like(rows), random)
        columns = (lengths, self._items[inputs], self._items[inputs + 1], negatives)
        return TrainingSequences(*map(torch.from_numpy, columns))

    def validation_batch(self, chosen: np.ndarray, longest: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Histories and held-out items of some sequences.

        Parameters
        ----------
        chosen
            int64 ``[R]``, of `validated`.
        longest
            L.

        Returns
        -------
        tuple
            Lengths int64 ``[R]``, items ``[T]`` laid end to end, held-out item ``[R]``.
        """
        stops = self._starts[chosen] + self._lengths[chosen]
        lengths = np.minimum(self._lengths[chosen], longest)
        _, flat = expand_ranges(stops - lengths, lengths)
        return tuple(map(torch.from_numpy, (lengths, self._items[flat], self._items[stops])))
