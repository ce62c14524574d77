"""The trainer of LLMCDSR: pre-training first, then a meta step before every step of RecBole's loop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer

from recbole_cdsr.config_reading import number, whole_number
from recbole_cdsr.errors import CDSRError, FeatureError
from recbole_cdsr.llm.pseudo_items import PseudoItems
from recbole_cdsr.model.llmcdsr import LLMCDSR, KnownGradient
from recbole_cdsr.model.noisy_sequences import NoisySequences
from recbole_cdsr.model.training_sequences import TrainingSequences
from recbole_cdsr.trainer.meta_rows import MetaRows
from recbole_cdsr.trainer.pretraining import aligned_domains
from recbole_cdsr.trainer.step_threads import step_threads
from recbole_cdsr.trainer.trainer import CDSRTrainerMixin


class LLMCDSRTrainer(CDSRTrainerMixin, Trainer):
    """Trains `LLMCDSR`; found by its name, as RecBole finds the trainers of its models.

    Each step of RecBole's loop asks for a loss. Before it is given, a shadow step and its judgement by overlapped users
    move the pooling vectors; the loss is then that of the real step. A finished run and one that was killed and
    resumed go through the same steps: which users take part depends on the number of the step alone.

    Attributes
    ----------
    meta_optimizer
        Adam of the pooling vectors; None where they are not learnt.
    meta_losses
        Mean loss of the overlapped users under the shadow model, by epoch of this process.
    """

    def __init__(self, config: Any, model: LLMCDSR) -> None:
        super().__init__(config, model)
        self.meta_optimizer: torch.optim.Optimizer | None = None
        if model.learns_pooling:
            rate = number(config, "meta_learning_rate", 0)
            self.meta_optimizer = torch.optim.Adam([model.recall_network.pooling], lr=rate)
        self.meta_losses: dict[int, float] = {}
        self._meta_interval = whole_number(config, "meta_interval")
        self._rows: MetaRows | None = None
        self._step = 0
        self._meta_sum: list[torch.Tensor] = []

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        pooling = self.model.recall_network.pooling
        kwargs.setdefault("params", [parameter for parameter in self.model.parameters() if parameter is not pooling])
        return super()._build_optimizer(**kwargs)

    # ------------------------------------------------------------------------------------------------ training
    def fit(self, train_data: AbstractDataLoader, *args: Any, **kwargs: Any) -> tuple[float, dict[str, float]]:
        """Pre-train each domain that is recalled into (or read what was kept), then train; see `CDSRTrainerMixin.fit`.

        A resumed run takes what was pre-trained from its checkpoint.
        """
        network = self.model.recall_network
        if network.aligned and self.model.augmentation == "recalled" and not self.run.resumed:
            pseudo = train_data._dataset.pseudo_items
            recalled_into = np.unique(pseudo.into_domain[np.diff(pseudo.pointers) > 0]).tolist()
            for domain, aligned in aligned_domains(self.config, train_data._dataset, recalled_into).items():
                network.set_domain(domain, aligned.projection, aligned.items)
                self.notes.setdefault("pre-training", {})[train_data._dataset.domain_names[domain]] = aligned.provenance
        return super().fit(train_data, *args, **kwargs)

    @property
    def ended_by_cap(self) -> bool:
        """Whether a cap on epochs ended training, or the pre-training of a domain, while it might have improved."""
        capped = any(of_domain.get("capped") for of_domain in self.notes.get("pre-training", {}).values())
        return capped or super().ended_by_cap

    def _material_of(self, dataset: Any) -> dict[str, str | None]:
        material = super()._material_of(dataset)
        if self.model.augmentation == "none":
            return material
        return material | {"pseudo items": pseudo_items_sha256(dataset.pseudo_items)}

    def _train_epoch(
        self,
        train_data: AbstractDataLoader,
        epoch_idx: int,
        loss_func: Callable[[Interaction], torch.Tensor] | None = None,
        show_progress: bool = False,
    ) -> float | tuple[float, ...]:
        if self._rows is None and self.model.augmentation != "none":
            self._prepare_rows(train_data._dataset)
        self._step = epoch_idx * len(train_data)
        self._meta_sum = []
        with self.threads_of_a_step():
            loss = super()._train_epoch(train_data, epoch_idx, loss_func or self._step_loss, show_progress)
        if self._meta_sum:
            self._report_meta(epoch_idx, train_data._dataset.domain_names)
        return loss

    def threads_of_a_step(self) -> AbstractContextManager[None]:
        """The threads that training steps of this configuration run in, see `step_threads`."""
        sizes = (whole_number(self.config, key) for key in ("train_batch_size", "noisy_batch_size", "meta_batch_size"))
        return step_threads(max(sizes) * self.model.item_embedding.embedding_dim)

    def _prepare_rows(self, dataset: Any) -> None:
        pseudo = dataset.pseudo_items
        check_pseudo_items(pseudo, dataset.llm_features.items.shape[1])
        sizes = (whole_number(self.config, key) for key in ("noisy_batch_size", "meta_batch_size"))
        rows = self._rows = MetaRows(dataset, self.model, pseudo, *sizes, seed=self.config["seed"])
        say = self.logger.warning
        if rows.augmented.n_without_texts:
            say(f"{rows.augmented.n_without_texts} users lack generated names for some domain and are left out there.")
        if rows.augmented.n_without_rows:
            say(
                f"{rows.augmented.n_without_rows} generated lists of names are of users with a single training "
                "interaction, who are no training row, and are not used."
            )
        if self.model.learns_pooling and not rows.n_overlapped:
            say(
                "No training user has items of two domains, so nobody can judge a shadow step: LLMCDSR trains without "
                "meta-learning, with uniform pooling."
            )
        if not rows.n_noisy:
            say("No single-domain user has generated names: LLMCDSR trains its backbone without augmentation.")
            return
        for name, into in zip(dataset.domain_names, range(len(dataset.domain_names)), strict=True):
            if not (pseudo.into_domain[rows.augmented.entries] == into).any():
                say(f"No training row has generated names for domain {name}: nothing is recalled into it.")
        for name, size in zip(dataset.domain_names, self.model.recall_network.recall_sizes, strict=True):
            if size < self.model.recall_network.n_recalled:
                say(f"Domain {name} has {size} items, fewer than n_recalled; all of them are recalled.")
        self.logger.info(
            f"Augmentation: {rows.n_noisy} users with generated names (by {pseudo.provenance.get('made_by')}), "
            f"{rows.n_overlapped} overlapped users."
        )

    def _step_loss(self, interaction: Interaction) -> torch.Tensor:
        """The meta step, where one is due, and the loss of the real step."""
        real = self.model.training_sequences(interaction)
        noisy, known = None, None
        if self._rows is not None and self._rows.n_noisy:
            noisy = self._rows.noisy(self._step)
            if self.meta_optimizer is not None and self._rows.n_overlapped and self._step % self._meta_interval == 0:
                known = self.meta_step(real, noisy, self._rows.overlapped(self._step))
        self._step += 1
        return self.model.joint_loss(real, noisy, known)

    def meta_step(self, real: TrainingSequences, noisy: NoisySequences, overlapped: TrainingSequences) -> KnownGradient:
        """Move the pooling vectors along the meta-gradient.

        Returns
        -------
        KnownGradient
            Of the real rows, for the real step.

        Raises
        ------
        CDSRError
            The gradient is not finite.
        """
        pooling = self.model.recall_network.pooling
        with torch.autocast(device_type=self.device.type, enabled=False):  # second derivatives need the precision
            step = self.model.meta_step(real, noisy, overlapped)
            (pooling.grad,) = torch.autograd.grad(step.meta_loss, [pooling], materialize_grads=True)
        if not torch.isfinite(pooling.grad).all():
            self._check_nan(step.shadow_loss.detach())  # diverged before the shadow step: not its learning rate's doing
            raise CDSRError(
                f"The meta-gradient of LLMCDSR is not finite in epoch {self._epoch}; try a smaller "
                f"inner_learning_rate (now {self.model.inner_step.learning_rate:g})."
            )
        self.meta_optimizer.step()
        pooling.grad = None  # not the main optimiser's, and none of its norm
        self._meta_sum.append(step.meta_loss.detach())
        return step.known

    def _report_meta(self, epoch: int, domain_names: list[str]) -> None:
        self.meta_losses[epoch] = float(torch.stack(self._meta_sum).mean())
        norms = self.model.recall_network.pooling.detach().norm(dim=1).tolist()
        lengths = ", ".join(f"{name} {norm:.3f}" for name, norm in zip(domain_names, norms, strict=True))
        said = f"meta loss: {self.meta_losses[epoch]:.4f}, length of pooling vectors: {lengths}"
        self.logger.info(f"epoch {epoch} meta-learning [{said}]")
        self.tensorboard.add_scalar("Loss/Meta", self.meta_losses[epoch], epoch)


def check_pseudo_items(pseudo: PseudoItems, width: int) -> None:
    """Refuse generated texts that cannot be compared with item texts.

    Raises
    ------
    FeatureError
        Vectors are not finite, or of another width than the items'.
    """
    if pseudo.vectors.shape[1] != width:
        raise FeatureError(
            f"Generated names have vectors of width {pseudo.vectors.shape[1]} and items of width {width}; encode both "
            "with the same encoder (llm_encoder)."
        )
    if not np.isfinite(pseudo.vectors).all():
        raise FeatureError("The vectors of generated names hold NaN or infinite numbers; make the pseudo items anew.")


def pseudo_items_sha256(pseudo: PseudoItems) -> str:
    """SHA-256 of everything that training reads of pseudo items, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for column in (pseudo.user_ids, pseudo.into_domain, pseudo.pointers, pseudo.name_ids, pseudo.vectors):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
