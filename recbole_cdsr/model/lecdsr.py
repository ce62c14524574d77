"""LeCDSR: profiles in place of user ids, item ids and texts fused in the frequency domain, hierarchical gating.

"LeCDSR: Large language model enhanced cross-domain sequential recommendation", Information Fusion 127, 2026, 103762.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_cdsr.config_reading import choice, number, switch, temperature, whole_number
from recbole_cdsr.llm.prefix_profiles import USER_PROFILE
from recbole_cdsr.model.candidate_products import candidate_products
from recbole_cdsr.model.feature_tables import FeatureTables
from recbole_cdsr.model.fusion import SemanticFusion
from recbole_cdsr.model.gating import FeatureGate, InstanceGate
from recbole_cdsr.model.in_domain import full_sort_scores, target_domains
from recbole_cdsr.model.layers import initialise_xavier
from recbole_cdsr.model.losses import pairwise_softmax_surrogate, sequence_alignment
from recbole_cdsr.model.once_computed import OnceComputed
from recbole_cdsr.model.slots import SlotWindows, backward_positions, distinct, in_blocks

LOSS_REDUCTIONS = ("mean", "sum")
MISSING_PROFILES = ("zeros", "learnt")
TRAINING_PROFILES = ("prefix", "training_part")


@dataclass(frozen=True)
class SequenceVectors:
    """What a batch's windows are made of; forward pass and alignment read the same.

    Attributes
    ----------
    windows : SlotWindows
        L slots a row; T tokens.
    item : Tensor
        ``[T, d]``, E_s.
    text : Tensor | None
        ``[T, d]``, a(T_s); None without item text.
    """

    windows: SlotWindows
    item: Tensor
    text: Tensor | None


class LeCDSR(FeatureTables, SequentialRecommender):
    r"""LeCDSR for K domains.

    .. math::
        a(x) &= W''\,\mathrm{GELU}(\mathrm{LN}(W' x + b')) + b'', \qquad u = a_{user}(T_{user}[\text{user}]) \\
        x &= \mathrm{fusion}(E_s, a_{item}(T_s)), \qquad \hat x = x \odot \sigma(W_f x + b_f + W_u u + b_u) \\
        r_t &= \sigma(\hat x_t \cdot g_{item} + (u\,G_{user})_t + p_t \cdot g_{pos}), \qquad
        o = \textstyle\sum_t r_t \hat x_t / \sum_t r_t \\
        q &= u + o + \mathrm{mean}_t\, x_t, \qquad s(v) = W_2[v] \cdot q + b_2[v] \\
        L &= \mathrm{PSL} + \lambda L_{align}

    Parameters
    ----------
    config : Config
        Keys of ``props/model/LeCDSR.yaml``.
    dataset : CrossDomainDataset
        Gives ``domain_names``, ``domain_offsets``, ``item_domain``, ``llm_features``.
    """

    input_type = InputType.POINTWISE
    rows_per = "prefix"
    needs_domain_pairs = False
    uses_llm_features = True
    has_user_table = False  # a user is known by the profile, which users unseen in training have as well

    @staticmethod
    def check_settings(config: Mapping[str, Any]) -> None:
        """Refuse settings that no such model can be built with; features, which take minutes, are made afterwards."""
        for key in ("hidden_size", "adapter_size", "MAX_ITEM_LIST_LENGTH", "n_negatives"):
            whole_number(config, key)
        for key in ("use_text", "use_profiles", "use_fusion", "mask_padding", "official_positions", "shared_negatives"):
            switch(config, key)
        for key in ("tau", "tau_align"):
            temperature(config, key)
        number(config, "align_weight", 0)
        choice(config, "loss_reduction", LOSS_REDUCTIONS)
        choice(config, "missing_profile", MISSING_PROFILES)
        choice(config, "training_profiles", TRAINING_PROFILES)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.check_settings(config)
        d, n_slots = whole_number(config, "hidden_size"), whole_number(config, "MAX_ITEM_LIST_LENGTH")
        self.hidden_size, self.n_slots = d, n_slots
        self.mask_padding = switch(config, "mask_padding")
        self.official_positions = switch(config, "official_positions")
        self.tau, self.tau_align = temperature(config, "tau"), temperature(config, "tau_align")
        self.loss_reduction = choice(config, "loss_reduction", LOSS_REDUCTIONS)
        self.domain_offsets = dataset.domain_offsets
        self.n_domains = len(dataset.domain_names)
        self.register_buffer("item_domain", torch.as_tensor(dataset.item_domain), persistent=False)

        features = dataset.llm_features
        self.use_text = switch(config, "use_text")
        self.use_fusion = self.use_text and switch(config, "use_fusion")
        self.use_profiles = switch(config, "use_profiles") and features.profiles is not None
        if switch(config, "use_profiles") and features.profiles is None:
            logging.getLogger().warning("LeCDSR: there are no user profiles, so the model is built without them.")
        self.align_weight = number(config, "align_weight", 0) if self.use_text else 0.0

        # The rows of padding are never learnt: zero where padding is masked, as they were initialised where it is not.
        self.item_embedding = nn.Embedding(self.n_items, d, padding_idx=0)  # E
        self.position_embedding = nn.Embedding(n_slots + 1, d, padding_idx=0)  # p
        self.output_embedding = nn.Embedding(self.n_items, d)  # W_2
        self.output_bias = nn.Parameter(torch.zeros(self.n_items))  # b_2
        middle = whole_number(config, "adapter_size")
        if self.use_text:
            self._add_table("text_table", features.items)  # T_item [n_items, D]
            self.item_adapter = adapter(features.items.shape[1], middle, d)
            self._known_texts = OnceComputed(self.n_items)
        if self.use_profiles:
            self._add_table("profile_table", features.profiles)  # T_user [n_users, D_u]
            self.user_adapter = adapter(features.profiles.shape[1], middle, d)
            self.default_profile: nn.Parameter | None = None
            if choice(config, "missing_profile", MISSING_PROFILES) == "learnt":
                self.default_profile = nn.Parameter(torch.zeros(features.profiles.shape[1]))  # [D_u]
        if self.use_fusion:
            self.fusion = SemanticFusion(d, n_slots)
        self.feature_gate = FeatureGate(d, self.use_profiles)
        self.instance_gate = InstanceGate(d, n_slots, self.use_profiles)
        self._initialise()

    def _initialise(self) -> None:
        """Xavier, as the official code has it, for everything but the text tables, which are buffers."""
        self.apply(initialise_xavier)
        gates = [self.instance_gate.item, self.instance_gate.position]
        gates += [self.instance_gate.user] if self.use_profiles else []
        gates += [self.fusion.complex_weight] if self.use_fusion else []
        for parameter in gates:
            nn.init.xavier_normal_(parameter)
        if self.mask_padding:
            with torch.no_grad():
                for table in (self.item_embedding, self.position_embedding, self.output_embedding):
                    table.weight[0].zero_()

    # ---- training

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """PSL and λ·L_align of a batch; the latter is left out when it has no weight.

        Parameters
        ----------
        interaction : Interaction
            ``user_id``, ``item_id``, ``item_length [B]``, ``item_id_list [B, W]``, ``neg_item_id [B, N]``, and, where
            training rows have profiles of their own, ``user_profile [B, D_u]``.
        """
        sequence = self.sequence_vectors(interaction)
        query = self.query(sequence, interaction[self.USER_ID], own_profiles(interaction))  # [B, d]
        candidates = torch.cat([interaction[self.ITEM_ID][:, None], interaction[self.NEG_ITEM_ID]], dim=1)  # [B, 1 + N]
        scores = self.candidate_scores(query, candidates)
        psl = pairwise_softmax_surrogate(scores[:, 0], scores[:, 1:], self.tau)
        if self.loss_reduction == "mean":
            psl = psl / len(scores)
        if self.align_weight == 0:
            return (psl,)
        return psl, self.align_weight * self.alignment(sequence)

    def sequence_vectors(self, interaction: Interaction) -> SequenceVectors:
        """E_s and a(T_s) of a batch's windows."""
        windows = SlotWindows.from_right_padded(
            interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN], self.n_slots, self.mask_padding
        )
        tokens = windows.token_ids  # [T]
        text = None
        if self.use_text:
            found, places = distinct(tokens, self.n_items)  # [U], [T]
            text = F.embedding(places, self._text_vectors(found))  # [T, d]
        return SequenceVectors(windows, self.item_embedding(tokens), text)

    def _text_vectors(self, items: Tensor) -> Tensor:
        """a(T_item) of distinct items ``[U]``: ``[U, d]``; without gradients each is adapted once."""

        def adapted(ids: Tensor) -> Tensor:
            return self.item_adapter(F.embedding(ids, self.text_table))

        if self.training or torch.is_grad_enabled():
            self._known_texts.clear()  # a step may follow, and fused optimisers leave no trace of theirs
            return adapted(items)
        return self._known_texts.rows(items, adapted, [self.text_table, *self.item_adapter.parameters()])

    def train(self, mode: bool = True) -> LeCDSR:
        """Switch mode; what was computed for judging is forgotten."""
        if self.use_text:
            self._known_texts.clear()
        return super().train(mode)

    def query(self, sequence: SequenceVectors, users: Tensor, profiles: Tensor | None = None) -> Tensor:
        """q = u + o + mean_t x_t, ``[B, d]``, of `users` ``[B]`` or of the `profiles` ``[B, D_u]`` given instead."""
        windows, user = sequence.windows, None
        if self.use_profiles:
            user = self.user_vectors(users, profiles)[windows.order]  # [B, d]
        # Semantic fusion; without it x = E_s, and the text enters the feature gate.
        x, text = sequence.item, sequence.text  # [T, d]
        if self.use_fusion:
            x, text = self.fusion(windows, x, text), None
        # Feature gate
        gated = self.feature_gate(windows, x, text, user)  # [T, d]
        # Instance gate
        ranks = backward_positions(windows.item_ids, self.item_domain, self.n_domains, self.official_positions)
        positions = self.position_embedding(windows.pack(ranks))  # [T, d]
        weights = self.instance_gate(windows, gated, positions, user)  # [T]
        # Union, and the mean of x *before* the feature gate, in one sum over each row.
        counts = windows.counts[windows.token_rows]  # [T]
        query = windows.sum_by_row(weights[:, None] * gated + x / counts[:, None])  # [B, d]
        return windows.in_batch_order(query if user is None else user + query)

    def user_vectors(self, users: Tensor, profiles: Tensor | None = None) -> Tensor:
        """u = a_user(T_user[user]), ``[B, d]``; of users without a profile T_user is zero, or what was learnt."""
        if profiles is None:
            profiles = F.embedding(users, self.profile_table)  # [B, D_u]
        if self.default_profile is not None:
            profiles = torch.where(profiles.any(dim=1, keepdim=True), profiles, self.default_profile)
        return self.user_adapter(profiles)

    def add_profiles(self, profiles: np.ndarray) -> int:
        """Give the table of profiles rows ``[U, D_u]`` of further users; returns the id of the first."""
        first = len(self.profile_table)
        self.profile_table = torch.cat([self.profile_table, torch.from_numpy(profiles).to(self.profile_table)])
        return first

    def alignment(self, sequence: SequenceVectors) -> Tensor:
        """L_align of E_s and a(T_s), from the vectors the scores were made of; the mean over all tokens."""
        blocks = sequence.windows.blocks
        pairs = zip(in_blocks(sequence.item, blocks), in_blocks(sequence.text, blocks), strict=True)
        losses = [sequence_alignment(item, text, self.tau_align).sum() for item, text in pairs]
        return torch.stack(losses).sum() / max(len(sequence.item), 1)

    # ---- scores

    def candidate_scores(self, query: Tensor, candidates: Tensor) -> Tensor:
        """s(v) = W_2[v]·q + b_2[v] of the candidates ``[B, C]`` of each row: ``[B, C]``."""
        products = candidate_products(query, self.output_embedding.weight, candidates)
        return products + self.output_bias.index_select(0, candidates.flatten()).view_as(products)

    def predict(self, interaction: Interaction) -> Tensor:
        """s(v) of each row's ``item_id``, ``[B]``; −∞ for padding."""
        query = self.query(self.sequence_vectors(interaction), interaction[self.USER_ID])
        items = interaction[self.ITEM_ID]
        return self.candidate_scores(query, items[:, None]).squeeze(1).masked_fill(items == 0, -math.inf)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores ``[B, n_items]``, −∞ outside each row's ``target_domain`` (all domains without that field)."""
        query = self.query(self.sequence_vectors(interaction), interaction[self.USER_ID])  # [B, d]
        return full_sort_scores(
            lambda _, rows: query[rows],
            self.output_embedding.weight,
            self.domain_offsets,
            len(query),
            target_domains(interaction),
            self.output_bias,
        )


def own_profiles(interaction: Interaction) -> Tensor | None:
    """Profiles ``[B, D_u]`` of rows that carry their own: training rows, of what comes before their target."""
    return interaction[USER_PROFILE] if USER_PROFILE in interaction.columns else None


def adapter(width_in: int, middle: int, width_out: int) -> nn.Sequential:
    """The paper's adapter from text features to the model's space; GELU is the exact one."""
    return nn.Sequential(
        nn.Linear(width_in, middle), nn.LayerNorm(middle, eps=1e-5), nn.GELU(), nn.Linear(middle, width_out)
    )
