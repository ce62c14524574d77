"""LLM4CDSR: one frozen text space for all domains, a thread per domain and a mixed one, guided by profiles.

Liu et al., "Bridge the Domains: Large Language Models Enhanced Cross-domain Sequential Recommendation", SIGIR 2025.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_cdsr.config_reading import number, switch, temperature, whole_number
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.llm.reduction import pca_over_all, pca_per_domain
from recbole_cdsr.model.domain_views import DomainView, history_view, training_views
from recbole_cdsr.model.feature_tables import FeatureTables
from recbole_cdsr.model.in_domain import DomainQuery, candidate_scores, full_sort_scores, target_domains
from recbole_cdsr.model.layers import SASRecThread, initialise_xavier, look_up
from recbole_cdsr.model.losses import sequence_bce, soft_clip
from recbole_cdsr.model.packed_windows import PackedWindows
from recbole_cdsr.model.settings import thread_settings


@dataclass(frozen=True)
class TrainingStep:
    """What the three losses of a batch read; M matched positions, domain by domain.

    Attributes
    ----------
    packed : PackedWindows
        Layout of the mixed windows.
    views : list[DomainView]
        K threads and their matches.
    mixed_states : Tensor | None
        ``[T, d]``, h; None without the global part.
    thread_states : list[Tensor] | None
        K × ``[T_k, d]``, h^k; None without the local part.
    positive_scores : Tensor
        ``[M]``.
    negative_scores : Tensor
        ``[M]`` or ``[M, N]``.
    pair_items : Tensor | None
        int64 ``[B, K]``, the drawn item of each domain, 0 = none.
    pair_vectors : Tensor | None
        ``[B, K, d]``, their g(v).
    """

    packed: PackedWindows
    views: list[DomainView]
    mixed_states: Tensor | None
    thread_states: list[Tensor] | None
    positive_scores: Tensor
    negative_scores: Tensor
    pair_items: Tensor | None
    pair_vectors: Tensor | None


class LLM4CDSR(FeatureTables, SequentialRecommender):
    r"""LLM4CDSR for K domains.

    .. math::
        g(v) &= W_2 (W_1 E_{all}[v] + b_1) + b_2, \qquad l_k(v) = \text{row of a table that starts as } E_k \\
        h &= \mathrm{SASRec}(\sqrt{D_{all}}\, g(v_t) + p_t), \qquad
        h^k = \mathrm{SASRec}_k(\sqrt{d}\, l_k(v_t) + p^k_t) \\
        s(v) &= h_t \cdot g(v) + h^k_t \cdot l_k(v) \quad (v \in V_k) \\
        L &= \textstyle\sum_k L_k + \alpha L_{reg} + \beta L_{user}

    Parameters
    ----------
    config : Config
        Keys of ``props/model/LLM4CDSR.yaml``.
    dataset : CrossDomainDataset
        Gives ``domain_names``, ``domain_offsets``, ``item_domain``, ``llm_features``.
    """

    input_type = InputType.POINTWISE
    rows_per = "user"
    needs_domain_pairs = True
    uses_llm_features = True
    has_user_table = False  # profiles guide training only; scores need no user

    @staticmethod
    def check_settings(config: Mapping[str, Any]) -> None:
        """Refuse settings that no such model can be built with; features, which take minutes, are made afterwards."""
        switches = ("use_global", "use_local", "freeze_emb", "freeze_local", "use_profiles")
        use_global, use_local, *_ = [switch(config, key) for key in switches]
        if not (use_global or use_local):
            raise ConfigError("use_global and use_local are False; one of them at least must be True.")
        for key in ("alpha", "beta", "local_init_scale"):
            number(config, key, 0)
        for key in ("tau", "tau_reg"):
            temperature(config, key)
        if config["global_dim"] is not None:
            whole_number(config, "global_dim")
        thread_settings(config, positions="count")

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.check_settings(config)
        self.use_global, self.use_local = switch(config, "use_global"), switch(config, "use_local")
        self.alpha, self.beta = number(config, "alpha", 0), number(config, "beta", 0)
        self.tau, self.tau_reg = temperature(config, "tau"), temperature(config, "tau_reg")
        settings = thread_settings(config, positions="count")
        self.hidden_size = settings["hidden_size"]
        self.NEG_ITEM_SEQ = config["NEG_PREFIX"] + self.ITEM_SEQ
        self.domain_offsets = dataset.domain_offsets
        self.n_domains = len(dataset.domain_names)
        self.register_buffer("item_domain", torch.as_tensor(dataset.item_domain), persistent=False)

        features = dataset.llm_features
        if self.use_global:
            text = features.items  # [n_items, D]
            if config["global_dim"] is not None:
                text = pca_over_all(text, whole_number(config, "global_dim"))  # [n_items, D_all]
            self._add_table("text_table", text, frozen=switch(config, "freeze_emb"))
            self.adapter = two_linear_layers(text.shape[1], self.hidden_size)
            self.mixed_thread = SASRecThread(**settings)
        if self.use_local:
            self.local_embedding = nn.Embedding(self.n_items, self.hidden_size, padding_idx=0)
            self.domain_threads = nn.ModuleList(SASRecThread(**settings) for _ in range(self.n_domains))

        # Regularisation and guidance act on g and h, so both need the global part.
        self.regularises = self.use_global and self.alpha > 0
        self.guides = (
            self.use_global and self.beta > 0 and switch(config, "use_profiles") and features.profiles is not None
        )
        if self.guides:
            self._add_table("profile_table", features.profiles, frozen=True)  # [n_users, D_u]
            self.user_adapter = two_linear_layers(features.profiles.shape[1], self.hidden_size)

        self.apply(initialise_xavier)
        if self.use_local:  # after the initialiser, which must not touch what the text gives
            start = pca_per_domain(features.items, self.domain_offsets, self.hidden_size)  # [n_items, d]
            with torch.no_grad():
                self.local_embedding.weight.copy_(torch.from_numpy(start) * number(config, "local_init_scale", 0))
            self.local_embedding.weight.requires_grad_(not switch(config, "freeze_local"))
        self._candidates: tuple[tuple, Tensor] | None = None
        self._missing_pairs_said = False

    # ---- training

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """L_rec, α·L_reg and β·L_user of a batch; parts that are off are left out.

        Parameters
        ----------
        interaction : Interaction
            ``user_id [B]``, ``item_id_list``, ``target_id_list``, ``neg_item_id_list``
            ``[B, L]``, ``item_length [B]``, ``domain_item_id [B, K]``; a ``local_neg_item_id_list [B, L]``
            gives the local term of the score a negative of its own, as the official code does.
        """
        self._candidates = None  # a step may follow, and fused optimisers leave no trace of theirs
        step = self.training_step(interaction)
        losses = [self.recommendation_loss(step)]
        if step.pair_vectors is not None:
            losses.append(self.alpha * self.item_regularisation(step.pair_items, step.pair_vectors))
        if self.guides:
            losses.append(self.beta * self.profile_guidance(interaction[self.USER_ID], step))
        return tuple(losses)

    def training_step(self, interaction: Interaction) -> TrainingStep:
        """Run the threads once and score every matched position."""
        packed = PackedWindows.from_lengths(interaction[self.ITEM_SEQ_LEN])
        items = packed.pack(interaction[self.ITEM_SEQ])  # [T]
        targets = packed.pack(interaction["target_id_list"])  # [T]
        views = training_views(packed, items, targets, self.item_domain, self.n_domains)
        matched = torch.cat([view.mixed_positions for view in views])  # [M]
        positives = targets[matched]  # [M]
        negatives = packed.pack(interaction[self.NEG_ITEM_SEQ])[matched]  # [M] or [M, N]
        pairs = self._pairs(interaction)  # [B, K]

        positive_scores = negative_scores = 0
        mixed_states = thread_states = pair_vectors = None
        if self.use_global:
            wanted = [items, positives, negatives] + ([] if pairs is None else [pairs])
            item_g, positive_g, negative_g, *pair_g = self._global_vectors(wanted)
            pair_vectors = pair_g[0] if pair_g else None  # [B, K, d]
            mixed_states = self._mixed_states(packed, item_g)  # [T, d]
            h = mixed_states[matched]  # [M, d]
            positive_scores = (h * positive_g).sum(dim=1)
            negative_scores = torch.einsum("md,m...d->m...", h, negative_g)
        if self.use_local:
            if "local_neg_item_id_list" in interaction:
                negatives = packed.pack(interaction["local_neg_item_id_list"])[matched]
            # One look-up for all threads and targets, hence one dense gradient of the table.
            wanted = [view.item_ids for view in views] + [positives, negatives]
            *item_l, positive_l, negative_l = look_up(self.local_embedding.weight, wanted)
            thread_states = [
                self._thread_states(domain, view.packed, vectors)
                for domain, (view, vectors) in enumerate(zip(views, item_l, strict=True))
            ]
            h_k = torch.cat([s[view.thread_positions] for s, view in zip(thread_states, views, strict=True)])  # [M, d]
            positive_scores = positive_scores + (h_k * positive_l).sum(dim=1)
            negative_scores = negative_scores + torch.einsum("md,m...d->m...", h_k, negative_l)
        return TrainingStep(
            packed, views, mixed_states, thread_states, positive_scores, negative_scores, pairs, pair_vectors
        )

    def recommendation_loss(self, step: TrainingStep) -> Tensor:
        """L_rec = Σ_k mean over the matched positions of domain k of BCE(s(v⁺), 1) + BCE(s(v⁻), 0)."""
        sizes = [len(view.mixed_positions) for view in step.views]
        per_domain = zip(step.positive_scores.split(sizes), step.negative_scores.split(sizes), strict=True)
        return torch.stack([sequence_bce(positive, negative) for positive, negative in per_domain]).sum()

    def item_regularisation(self, pair_items: Tensor, pair_vectors: Tensor) -> Tensor:
        """L_reg = SoftCLIP_τreg(g(items of a), g(items of b)), mean over the domain pairs (a, b) present.

        Parameters
        ----------
        pair_items : Tensor
            int64 ``[B, K]``, one item per domain, 0 = none.
        pair_vectors : Tensor
            ``[B, K, d]``, their g(v).
        """
        losses = []
        for a, b in combinations(range(self.n_domains), 2):
            rows = ((pair_items[:, a] > 0) & (pair_items[:, b] > 0)).nonzero().squeeze(1)
            if len(rows):
                losses.append(soft_clip(pair_vectors[rows, a], pair_vectors[rows, b], self.tau_reg))
        return torch.stack(losses).mean() if losses else pair_vectors.new_zeros(())

    def profile_guidance(self, users: Tensor, step: TrainingStep) -> Tensor:
        """L_user = SoftCLIP_τ(user_adapter(U[u]), h_last), from the mixed states the scores used."""
        last = self.mixed_thread.last_state(step.packed, step.mixed_states)  # [B, d]
        return soft_clip(self.user_adapter(self.profile_table[users]), last, self.tau)

    def _pairs(self, interaction: Interaction) -> Tensor | None:
        if not self.regularises:
            return None
        if "domain_item_id" in interaction:
            return interaction["domain_item_id"]
        if not self._missing_pairs_said:
            self._missing_pairs_said = True
            self.logger.warning("The batches have no domain_item_id: LLM4CDSR trains without its regularisation.")
        return None

    # ---- threads and item vectors

    def _global_vectors(self, id_groups: list[Tensor]) -> list[Tensor]:
        """g of each group of ids, ``[..., d]``; the adapter runs once on the distinct items of all groups."""
        flat = torch.cat([ids.flatten() for ids in id_groups])
        distinct, place = flat.unique(return_inverse=True)
        vectors = self.adapter(F.embedding(distinct, self.text_table))  # [n_distinct, d]
        return look_up(vectors, list(place.split([ids.numel() for ids in id_groups])), like=id_groups)

    def _mixed_states(self, packed: PackedWindows, vectors: Tensor) -> Tensor:
        """h, ``[T, d]``, from g ``[T, d]``; the scale is the width of the stored table, not d."""
        return self.mixed_thread(packed, math.sqrt(self.text_table.shape[1]) * vectors)

    def _thread_states(self, domain: int, packed: PackedWindows, vectors: Tensor) -> Tensor:
        """h^k, ``[T_k, d]``, from l_k ``[T_k, d]``."""
        return self.domain_threads[domain](packed, math.sqrt(self.hidden_size) * vectors)

    # ---- scoring

    def predict(self, interaction: Interaction) -> Tensor:
        """s(v) of each row's ``item_id``, ``[B]``; −∞ for padding."""
        items = interaction[self.ITEM_ID]
        table = self._cached_candidates()
        vectors = self._candidate_vectors(items) if table is None else table[items]  # [B, w]
        return candidate_scores(self._query(interaction), vectors, self.item_domain[items], self.n_domains)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores ``[B, n_items]``, −∞ outside each row's ``target_domain`` (all domains without that field)."""
        table = self._cached_candidates()
        if table is None:
            table = self._candidate_vectors(torch.arange(self.n_items, device=self.item_domain.device))
            if not self.training and not torch.is_grad_enabled():
                self._candidates = (self._candidate_key(), table.detach())
        n_rows, domains = len(interaction[self.ITEM_SEQ_LEN]), target_domains(interaction)
        return full_sort_scores(self._query(interaction), table, self.domain_offsets, n_rows, domains)

    def score_new_items(self, interaction: Interaction, text: Tensor) -> Tensor:
        """h·g(v) of m items without a row in any table, ``[B, m]``: there is no l_k(v), so the local part is zero.

        Parameters
        ----------
        interaction : Interaction
            Histories of B rows.
        text : Tensor
            float32 ``[m, D_all]``, reduced as the text table was.
        """
        packed = PackedWindows.from_lengths(interaction[self.ITEM_SEQ_LEN])
        h = self._history_state(packed, packed.pack(interaction[self.ITEM_SEQ]))  # [B, d]
        return h @ self.adapter(text).T

    def _history_state(self, packed: PackedWindows, items: Tensor) -> Tensor:
        """h_last of each row, ``[B, d]``, from its items ``[T]``."""
        table = self._cached_candidates()
        g = self._global_vectors([items])[0] if table is None else table[items, : self.hidden_size]
        return self.mixed_thread.last_state(packed, self._mixed_states(packed, g))

    def _query(self, interaction: Interaction) -> DomainQuery:
        """The function (domain, rows) -> ``[r, w]`` that scores candidates: [h_last, h^k_last]."""
        packed = PackedWindows.from_lengths(interaction[self.ITEM_SEQ_LEN])
        items = packed.pack(interaction[self.ITEM_SEQ])  # [T]
        h = self._history_state(packed, items) if self.use_global else None  # [B, d]

        def query(domain: int, rows: Tensor) -> Tensor:
            parts = [] if h is None else [h[rows]]
            if self.use_local:
                view, ids = history_view(packed, items, self.item_domain, domain, rows)
                states = self._thread_states(domain, view, self.local_embedding(ids))
                parts.append(self.domain_threads[domain].last_state(view, states)[rows])  # [r, d]
            return torch.cat(parts, dim=1)

        return query

    def _candidate_vectors(self, items: Tensor) -> Tensor:
        """[g(v), l(v)] of the given items, ``[..., w]``; w = d for each part in use."""
        parts = [self.adapter(F.embedding(items, self.text_table))] if self.use_global else []
        if self.use_local:
            parts.append(self.local_embedding(items))
        return torch.cat(parts, dim=-1)

    def _candidate_key(self) -> tuple:
        """Changes whenever a parameter of the candidates' vectors is written, moved or replaced."""
        sources = [self.text_table, *self.adapter.parameters()] if self.use_global else []
        if self.use_local:
            sources.append(self.local_embedding.weight)
        return tuple((s.data_ptr(), s._version) for s in sources)

    def _cached_candidates(self) -> Tensor | None:
        """Vectors of all items as of this evaluation pass, ``[n_items, w]``, or None."""
        if torch.is_grad_enabled():
            self._candidates = None
        if self.training or self._candidates is None or self._candidates[0] != self._candidate_key():
            return None
        return self._candidates[1]

    # ---- state

    def train(self, mode: bool = True) -> LLM4CDSR:
        """Switch mode; the candidates' vectors are computed anew in the next evaluation pass."""
        self._candidates = None
        return super().train(mode)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As in ``torch.nn.Module``; a checkpoint that carries its own text tables brings them along."""
        self._candidates = None
        return super().load_state_dict(state_dict, *args, **kwargs)


def two_linear_layers(width_in: int, width_out: int) -> nn.Sequential:
    """The paper's adapter: two linear layers by way of half the input's width, no activation between."""
    middle = max(width_in // 2, 1)
    return nn.Sequential(nn.Linear(width_in, middle), nn.Linear(middle, width_out))
