"""Scores of all items from any RecBole model, and the pass that judges rows by them.

The trainer judges its model with these, and so does whoever judges or uses a model that was trained before.
"""

from __future__ import annotations

import math

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType, set_color
from tqdm import tqdm

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.config_data import ROW_ID, TARGET_DOMAIN
from recbole_cdsr.data.dataset import CrossDomainDataset
from recbole_cdsr.data.loaders import JudgedRowsLoader
from recbole_cdsr.errors import CheckpointError
from recbole_cdsr.evaluator.protocol import ProtocolEvaluator
from recbole_cdsr.evaluator.rows import EvaluationRows


class FullScores:
    """The scores of all items for some rows, whatever a model offers to compute them.

    Parameters
    ----------
    model
        On `device`; the caller switches it to judging.
    dataset
        Any split; gives the items and their features.
    pairs_at_once
        Pairs of a row and an item in one call of a model that predicts each pair (`eval_batch_size`).
    device
        Where rows are sent.
    may_be_wider
        Whether the model may score items that are not in the data, as new ones, behind the others.
    """

    def __init__(
        self,
        model: AbstractRecommender,
        dataset: CrossDomainDataset,
        pairs_at_once: int,
        device: torch.device,
        may_be_wider: bool = False,
    ) -> None:
        self._model, self._device, self._pairs_at_once = model, device, pairs_at_once
        self._items: Interaction | None = None
        self._n_items, self._may_be_wider = dataset.item_num, may_be_wider
        self.rows_at_once: int | None = None  # None: as many as the caller likes
        if type(model).full_sort_predict is AbstractRecommender.full_sort_predict:
            self._items = dataset.get_item_feature().to(device)
            self.rows_at_once = max(1, pairs_at_once // dataset.item_num)

    def of(self, interaction: Interaction) -> torch.Tensor:
        """Scores ``[B, n_items]`` of B rows, −∞ for padding.

        Raises
        ------
        CheckpointError
            The model knows another number of items.
        """
        interaction = interaction.to(self._device)
        if self._items is None:
            scores = self._model.full_sort_predict(interaction)
        else:
            scores = self._pair_by_pair(interaction, self._items)
        scores = scores.view(len(interaction), -1)
        width = scores.shape[1]
        # Models without parameters are restored whatever the data are.
        if width < self._n_items or (width > self._n_items and not self._may_be_wider):
            raise CheckpointError(
                f"{type(self._model).__name__} scores {width - 1:,} items and the data have "
                f"{self._n_items - 1:,}; it was trained on other items, so restore them or train anew."
            )
        scores[:, 0] = -math.inf
        return scores

    def _pair_by_pair(self, interaction: Interaction, items: Interaction) -> torch.Tensor:
        pairs = interaction.repeat_interleave(len(items))
        pairs.update(items.repeat(len(interaction)))
        parts = (pairs[first : first + self._pairs_at_once] for first in range(0, len(pairs), self._pairs_at_once))
        return torch.cat([self._model.predict(part).view(-1) for part in parts])


def protocol_evaluator(config: CDSRConfig, rows: EvaluationRows) -> ProtocolEvaluator:
    """The evaluator of a split as the configuration wants it."""
    return ProtocolEvaluator(config, rows, excludes_history(config))


def excludes_history(config: CDSRConfig) -> bool:
    """Whether a row's history is left out of its candidates; `recbole` is what RecBole does for such a model."""
    exclude = config["exclude_history"]
    if exclude == "recbole":  # RecBole masks the history for general models only
        return config["MODEL_TYPE"] != ModelType.SEQUENTIAL
    return exclude


def score_rows(
    scores: FullScores, evaluator: ProtocolEvaluator, rows: JudgedRowsLoader, domain: int | None, show_progress: bool
) -> None:
    """Give an evaluator the scores of all rows, or of the rows whose target lies in one domain.

    Parameters
    ----------
    scores
        Of the model in the state that is judged.
    evaluator
        Started.
    rows
        The split.
    domain
        0-based; None for all rows.
    show_progress
        Draw a progress bar.
    """
    batches = tqdm(rows, total=len(rows), ncols=100, desc=set_color("Evaluate   ", "pink"), disable=not show_progress)
    for interaction, *_ in batches:
        wanted = torch.arange(len(interaction))
        if domain is not None:
            wanted = (interaction[TARGET_DOMAIN] == domain).nonzero().squeeze(1)
        for chosen in wanted.split(scores.rows_at_once or max(len(wanted), 1)):
            if len(chosen):
                part: Interaction = interaction if len(chosen) == len(interaction) else interaction[chosen]
                evaluator.add(
                    scores.of(_without_target_domain(part) if evaluator.of_all_domains else part), part[ROW_ID]
                )


def _without_target_domain(interaction: Interaction) -> Interaction:
    """The rows as when serving: our models score inside the target's domain alone where they are told which it is."""
    columns = interaction.interaction
    return Interaction({name: values for name, values in columns.items() if name != TARGET_DOMAIN})
