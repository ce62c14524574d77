"""LLMCDSR: what an LLM expects of single-domain users in other domains, recalled as items and trusted by meta-learning.

"LLMCDSR: Enhancing Cross-Domain Sequential Recommendation with Large Language Models", ACM TOIS 43(5), 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from recbole_cdsr.config_reading import choice, number, switch, whole_number
from recbole_cdsr.model.inner_step import InnerStep, adam_betas, doubtful_rate
from recbole_cdsr.model.layers import look_up
from recbole_cdsr.model.noisy_sequences import NoisySequences
from recbole_cdsr.model.pretraining_settings import PretrainingSettings
from recbole_cdsr.model.recall_network import RecallNetwork
from recbole_cdsr.model.sasrecbce import SASRecBCE
from recbole_cdsr.model.training_sequences import TrainingSequences

AUGMENTATIONS = ("recalled", "random", "none")


@dataclass(frozen=True)
class KnownGradient:
    """The loss of a batch's real rows and its gradient, which the shadow step found and the real step takes over.

    Both steps start at the same θ and differ in the noisy rows alone.

    Attributes
    ----------
    loss : Tensor
        scalar, the real rows' part of L.
    items : Tensor
        int64 ``[n]``, distinct items that the batch touches.
    item_gradient : Tensor
        ``[n, d]``.
    thread_gradients : tuple[Tensor, ...]
        In the order of the thread's parameters.
    """

    loss: Tensor
    items: Tensor
    item_gradient: Tensor
    thread_gradients: tuple[Tensor, ...]


class _Known(torch.autograd.Function):
    """A scalar whose gradients are known: its value forward, those times the incoming gradient backward."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(gradient * known for known in ctx.saved_tensors)


@dataclass(frozen=True)
class MetaStep:
    """What one shadow step and its judgement gave.

    Attributes
    ----------
    shadow_loss : Tensor
        scalar, L(θ; real ∪ noisy).
    meta_loss : Tensor
        scalar, L(θ'; overlapped users), with a graph to the pooling vectors.
    known : KnownGradient
        Of the real rows at θ.
    """

    shadow_loss: Tensor
    meta_loss: Tensor
    known: KnownGradient


class LLMCDSR(SASRecBCE):
    r"""SASRec on the merged item space, trained on real sequences and on sequences with recalled pseudo items.

    .. math::
        z &= \sum_j \mathrm{softmax}_j(w_o \cdot P_o T_j)\, P_o T_j, \qquad
        R = \text{top-}k_{v \in V_o} \cos(z, e_o(v)) \\
        \theta'(w) &= \theta - \mathrm{opt}\big(\nabla_\theta L(\theta; \text{real} \cup \text{noisy}(w))\big) \\
        w &\leftarrow w - \mathrm{Adam}\big(\nabla_w L(\theta'(w); \text{overlapped})\big) \\
        \theta &\leftarrow \theta - \mathrm{Adam}\big(\nabla_\theta L(\theta; \text{real} \cup \text{noisy}(w))\big)

    L is the loss of `SASRecBCE`, one mean over all positions of the batch, and so is the score: recommending needs
    neither texts nor recall. `LLMCDSRTrainer` runs the steps.

    Parameters
    ----------
    config : Config
        Keys of ``props/model/LLMCDSR.yaml``.
    dataset : CrossDomainDataset
        Gives ``domain_offsets``, ``item_domain`` and ``llm_features``.
    """

    uses_llm_features = True
    uses_pseudo_items = True

    @staticmethod
    def check_settings(config: Mapping[str, Any]) -> None:
        """Refuse settings that no such model can be trained with, before features and pseudo items are made."""
        SASRecBCE.check_settings(config)
        InnerStep.from_config(config)
        PretrainingSettings.from_config(config)
        whole_number(config, "pretrain_stopping_updates", 0, default=0)
        adam_betas(config)
        choice(config, "augmentation", AUGMENTATIONS)
        for key in ("alignment", "meta_learning"):
            switch(config, key)
        for key in ("n_recalled", "noisy_batch_size", "meta_batch_size", "meta_interval"):
            whole_number(config, key)
        number(config, "meta_learning_rate", 0)

    @staticmethod
    def doubtful_settings(config: Mapping[str, Any]) -> list[str]:
        """One sentence for each setting that can be honoured and is probably a mistake."""
        return doubtful_rate(config)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.check_settings(config)
        self.inner_step = InnerStep.from_config(config)
        self.augmentation = choice(config, "augmentation", AUGMENTATIONS)
        self.aligned = switch(config, "alignment")
        # A pooled raw text has another width than an item vector, and a random item has no text: no gradient reaches w.
        self.learns_pooling = switch(config, "meta_learning") and self.aligned and self.augmentation == "recalled"
        texts = dataset.llm_features.items  # [n_items, D]
        width = self.item_embedding.embedding_dim if self.aligned else texts.shape[1]
        self.recall_network = RecallNetwork(
            self.domain_offsets, texts.shape[1], width, whole_number(config, "n_recalled"), self.aligned
        )
        if not self.aligned:
            self.recall_network.item_table.copy_(torch.tensor(texts))
        self.recall_network.pooling.requires_grad_(self.learns_pooling)

    # ---- recall

    def recalled_items(self, noisy: NoisySequences) -> Tensor:
        """Pseudo items of each entry with the pooling vectors as they are, int64 ``[E, k]``."""
        if self.augmentation == "random":
            return self.recall_network.recalled_at_random(noisy.into)
        with torch.no_grad():
            pooled, _ = self.recall_network.pool(noisy.projected, noisy.counts, noisy.into)
            return self.recall_network.recall(pooled, noisy.into)[0]

    # ---- meta-learning

    def meta_step(self, real: TrainingSequences, noisy: NoisySequences, overlapped: TrainingSequences) -> MetaStep:
        r"""Shadow step on real and noisy rows, judged by overlapped users.

        .. math:: \theta'(w) = \theta - \mathrm{opt}(\nabla_\theta L(\theta; \text{real} \cup \text{noisy}(w))),
            \qquad L_{meta}(w) = L(\theta'(w); \text{overlapped})

        Only the rows of the item table that the batch touches take part: the gradient of all others is zero, and so is
        what either optimiser's first update takes off them. Only the noisy rows are differentiated twice, because
        the gradient of the real rows does not depend on w.

        Parameters
        ----------
        real, overlapped : TrainingSequences
            Rows of any users; rows of overlapped users.
        noisy : NoisySequences
            Rows of single-domain users, before recall.

        Returns
        -------
        MetaStep
        """
        network = self.recall_network
        pooled, _ = network.pool(noisy.projected, noisy.counts, noisy.into)  # z, [E, d]
        recalled, _ = network.recall(pooled, noisy.into)  # [E, k]
        filled = noisy.filled(recalled)

        table, thread = self.item_embedding.weight, dict(self.thread.named_parameters())
        touched = [real.item_groups, filled.item_groups[1:], overlapped.item_groups]
        distinct, places = distinct_items([ids for groups in touched for ids in groups])
        rows = F.embedding(distinct, table).detach().requires_grad_()  # [n, d]
        theta = [rows, *thread.values()]
        # Looked up apart: what each part sends back to the table is then of its own size.
        real_vectors = look_up(rows, places[:3])
        noisy_targets = [rows[place] for place in places[3:5]]  # a look-up of nothing has no second derivative

        # g = ∇_θ L(θ; real ∪ noisy), one mean over the positions of both
        n_positions = max(len(real.learnt) + len(filled.learnt), 1)
        real_loss = self.loss_of_vectors(real, *real_vectors) * (len(real.learnt) / n_positions)
        real_gradient = torch.autograd.grad(real_loss, theta, materialize_grads=True)
        inputs = noisy.straight_through(F.embedding(filled.items, table), pooled, recalled.shape[1])  # [T, d]
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels cannot be differentiated twice
            noisy_loss = self.loss_of_vectors(filled, inputs, *noisy_targets) * (len(filled.learnt) / n_positions)
            noisy_gradient = torch.autograd.grad(noisy_loss, theta, create_graph=True, materialize_grads=True)

        # θ' = θ − opt(g)
        gradient = torch._foreach_add([of_noisy.detach() for of_noisy in noisy_gradient], list(real_gradient))
        shadow = torch._foreach_sub(
            [parameter.detach() for parameter in theta], [self.inner_step.update(g) for g in gradient]
        )
        shadow_rows, *shadow_thread = (parameter.requires_grad_() for parameter in shadow)

        # L(θ'; overlapped) and v = ∇_θ' of it
        meta_loss = self.loss_of_vectors(
            overlapped, *look_up(shadow_rows, places[5:]), thread=dict(zip(thread, shadow_thread, strict=True))
        )
        slopes = torch.autograd.grad(meta_loss, shadow, materialize_grads=True)
        # ∇_w L(θ'; overlapped) = −∇_w ⟨∇_θ L_noisy(w), opt'(g) ⊙ v⟩: nothing but the noisy rows depends on w
        weighed = [-slope * self.inner_step.derivative(g) for slope, g in zip(slopes, gradient, strict=True)]
        (meta_gradient,) = torch.autograd.grad(noisy_gradient, [network.pooling], weighed, materialize_grads=True)

        known = KnownGradient(real_loss.detach(), distinct, real_gradient[0], real_gradient[1:])
        return MetaStep(
            (real_loss + noisy_loss).detach(),
            _Known.apply(meta_loss.detach(), [meta_gradient], network.pooling),
            known,
        )

    # ---- the real step

    def joint_loss(
        self, real: TrainingSequences, noisy: NoisySequences | None, known: KnownGradient | None = None
    ) -> Tensor:
        """L(θ; real ∪ noisy) with ordinary look-ups: one mean over the positions of both.

        Parameters
        ----------
        real : TrainingSequences
            Rows of any users.
        noisy : NoisySequences | None
            Rows of single-domain users, recalled with the present pooling vectors; None leaves them out.
        known : KnownGradient | None
            What a `meta_step` on the same rows, at the same θ, found of the real ones: they are not computed again.
        """
        if noisy is None:
            return self.sequence_loss(real)
        filled = noisy.filled(self.recalled_items(noisy))
        if known is None:
            return self.sequence_loss(TrainingSequences.joined([real, filled]))
        n_positions = max(len(real.learnt) + len(filled.learnt), 1)
        touched, *noisy_vectors = look_up(self.item_embedding.weight, [known.items, *filled.item_groups])
        noisy_loss = self.loss_of_vectors(filled, *noisy_vectors) * (len(filled.learnt) / n_positions)
        gradients = (known.item_gradient, *known.thread_gradients)
        return noisy_loss + _Known.apply(known.loss, gradients, touched, *self.thread.parameters())


def distinct_items(id_groups: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The distinct ids of several groups, int64 ``[n]``, and where each group's ids are among them, in its shape."""
    distinct, places = torch.cat([ids.flatten() for ids in id_groups]).unique(return_inverse=True)
    parts = places.split([ids.numel() for ids in id_groups])
    return distinct, [part.view(ids.shape) for part, ids in zip(parts, id_groups, strict=True)]
