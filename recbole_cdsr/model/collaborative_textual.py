"""Stage 2 of LLMCDSR: a single-domain SASRec whose item vectors are aligned with the items' texts.

LLMCDSR, ACM TOIS 43(5), 2025, Collaborative-Textual Contrastive Pre-Training.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_cdsr.model.layers import SASRecThread, initialise_xavier, look_up
from recbole_cdsr.model.losses import pairwise_nce, sequence_bce
from recbole_cdsr.model.packed_windows import PackedWindows
from recbole_cdsr.model.training_sequences import TrainingSequences


class CollaborativeTextualModel(nn.Module):
    r"""One domain's SASRec and the projection of its texts.

    .. math:: L_k = L + \lambda \, \mathrm{NCE}(P_k\, \mathrm{text}(v),\, e_k(v))

    L is the loss of `SASRecBCE`; NCE runs over the distinct items of a batch: inputs, targets and negatives.

    Parameters
    ----------
    texts : np.ndarray
        float ``[n_k, D]``, text vector of each item of the domain.
    thread : dict[str, Any]
        Keyword arguments of `SASRecThread`.
    nce_weight : float
        λ ≥ 0.
    temperature : float
        Of the NCE, > 0.
    """

    def __init__(self, texts: np.ndarray, thread: dict[str, Any], nce_weight: float, temperature: float) -> None:
        super().__init__()
        self.nce_weight = nce_weight
        self.temperature = temperature
        self.item_embedding = nn.Embedding(len(texts) + 1, thread["hidden_size"], padding_idx=0)  # local ids from 1
        self.thread = SASRecThread(**thread)
        self.projection = nn.Linear(texts.shape[1], thread["hidden_size"], bias=False)  # P_k
        padding = np.zeros((1, texts.shape[1]), dtype=texts.dtype)
        self.register_buffer("texts", torch.from_numpy(np.concatenate([padding, texts])), persistent=False)
        self.apply(initialise_xavier)
        with torch.no_grad():
            self.item_embedding.weight[0].zero_()

    def losses(self, batch: TrainingSequences) -> tuple[Tensor, Tensor]:
        """L and the NCE of a batch of local ids, each a scalar, not weighted yet."""
        item, positive, negative = look_up(self.item_embedding.weight, batch.item_groups)
        states = self._encode(batch.packed, item)[batch.learnt]  # [M, d]
        recommendation = sequence_bce((states * positive).sum(dim=1), torch.einsum("md,m...d->m...", states, negative))
        distinct = torch.cat([ids.flatten() for ids in batch.item_groups]).unique()
        distinct = distinct[distinct > 0]  # [n]
        textual = self.projection(F.embedding(distinct, self.texts))  # [n, d]
        return recommendation, pairwise_nce(textual, self.item_embedding(distinct), self.temperature)

    def total_loss(self, batch: TrainingSequences) -> Tensor:
        """L_k of a batch."""
        recommendation, alignment = self.losses(batch)
        return recommendation + self.nce_weight * alignment

    def last_states(self, packed: PackedWindows, items: Tensor) -> Tensor:
        """State of each row's last token, ``[R, d]``, from its items ``[T]``."""
        return self.thread.last_state(packed, self._encode(packed, self.item_embedding(items)))

    def _encode(self, packed: PackedWindows, vectors: Tensor) -> Tensor:
        return self.thread(packed, math.sqrt(vectors.shape[1]) * vectors)
