"""SASRec on the merged item space with in-domain negatives: the backbone of LLMCDSR alone.

A user's items of all domains form one sequence, one table holds the items of all domains, and one negative per
position comes from the target's domain. It is the baseline that shows what a method adds to its own backbone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn
from torch.func import functional_call

from recbole_cdsr.config_reading import choice
from recbole_cdsr.model.in_domain import candidate_scores, full_sort_scores, target_domains
from recbole_cdsr.model.layers import SASRecThread, initialise_xavier, look_up
from recbole_cdsr.model.losses import sequence_bce
from recbole_cdsr.model.packed_windows import PackedWindows
from recbole_cdsr.model.settings import thread_settings
from recbole_cdsr.model.training_sequences import TrainingSequences


class SASRecBCE(SequentialRecommender):
    r"""One SASRec thread over all domains.

    .. math::
        x_t &= \sqrt{d}\, e(v_t) + p_t, \qquad h = \mathrm{SASRec}(x), \qquad s_t(v) = h_t \cdot e(v) \\
        L &= \mathrm{mean}_t \; \mathrm{softplus}(-s_t(v^+)) + \mathrm{softplus}(s_t(v^-))

    The mean runs over all positions with a target in the batch.

    Parameters
    ----------
    config : Config
        ``hidden_size``, ``n_layers``, ``n_heads``, ``hidden_dropout_prob``, ``attn_dropout_prob``,
        ``attention``, ``mask_padding``, ``positions``, ``MAX_ITEM_LIST_LENGTH``.
    dataset : CrossDomainDataset
        Gives ``domain_offsets`` and ``item_domain``.
    """

    input_type = InputType.POINTWISE
    rows_per = "user"
    needs_domain_pairs = False
    uses_llm_features = False
    has_user_table = False

    @staticmethod
    def check_settings(config: Mapping[str, Any]) -> None:
        """Refuse settings that no such model can be built with."""
        thread_settings(config, choice(config, "positions", ("count", "column")))

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = thread_settings(config, choice(config, "positions", ("count", "column")))
        self.domain_offsets = dataset.domain_offsets
        self.n_domains = len(dataset.domain_names)
        self.NEG_ITEM_SEQ = config["NEG_PREFIX"] + self.ITEM_SEQ
        self.register_buffer("item_domain", torch.as_tensor(dataset.item_domain), persistent=False)

        self.item_embedding = nn.Embedding(self.n_items, settings["hidden_size"], padding_idx=0)
        self.thread = SASRecThread(**settings)
        self.apply(initialise_xavier)
        with torch.no_grad():
            self.item_embedding.weight[0].zero_()

    def encode(
        self,
        packed: PackedWindows,
        item_vectors: Tensor,
        wanted: Tensor | None = None,
        thread: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """States of the wanted tokens, all by default, from un-scaled item vectors ``[T, d]``.

        ``thread`` gives other parameters to the thread than its own.
        """
        inputs = (packed, math.sqrt(item_vectors.shape[1]) * item_vectors, wanted)
        return self.thread(*inputs) if thread is None else functional_call(self.thread, dict(thread), inputs)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Scalar loss of a batch with ``target_id_list`` and ``neg_item_id_list``."""
        return self.sequence_loss(self.training_sequences(interaction))

    def training_sequences(self, interaction: Interaction) -> TrainingSequences:
        """The real tokens of a batch with ``target_id_list`` and ``neg_item_id_list``."""
        return TrainingSequences.from_interaction(
            interaction, self.ITEM_SEQ, self.ITEM_SEQ_LEN, "target_id_list", self.NEG_ITEM_SEQ
        )

    def sequence_loss(self, sequences: TrainingSequences) -> Tensor:
        """L of a batch."""
        # One look-up for all three, hence one dense gradient of the item table instead of three.
        vectors = look_up(self.item_embedding.weight, sequences.item_groups)
        return self.loss_of_vectors(sequences, *vectors)

    def loss_of_vectors(
        self,
        sequences: TrainingSequences,
        item: Tensor,
        positive: Tensor,
        negative: Tensor,
        thread: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """L from the vectors of inputs ``[T, d]``, targets ``[M, d]`` and negatives ``[M, d]`` or ``[M, N, d]``."""
        learnt = sequences.learnt if len(positive) < len(item) else None
        states = self.encode(sequences.packed, item, learnt, thread)  # [M, d]
        negative_scores = torch.einsum("md,m...d->m...", states, negative)
        return sequence_bce((states * positive).sum(dim=1), negative_scores)

    def predict(self, interaction: Interaction) -> Tensor:
        """Score of each row's ``item_id``, ``[B]``."""
        states = self._last_states(interaction)
        items = interaction[self.ITEM_ID]
        return candidate_scores(
            lambda _, rows: states[rows], self.item_embedding(items), self.item_domain[items], self.n_domains
        )

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores ``[B, n_items]``, −∞ outside each row's ``target_domain`` (all domains without that field)."""
        states = self._last_states(interaction)
        table = self.item_embedding.weight
        return full_sort_scores(
            lambda _, rows: states[rows], table, self.domain_offsets, len(states), target_domains(interaction)
        )

    def _last_states(self, interaction: Interaction) -> Tensor:
        packed = PackedWindows.from_lengths(interaction[self.ITEM_SEQ_LEN])
        items = packed.pack(interaction[self.ITEM_SEQ])
        return self.thread.last_state(packed, self.encode(packed, self.item_embedding(items)))  # [B, d]
