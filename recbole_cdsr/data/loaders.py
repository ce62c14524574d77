"""Dataloaders: RecBole's for training, one kind for the rows that are judged."""

from __future__ import annotations

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import create_samplers, get_dataloader
from recbole.utils import ModelType

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.data.dataset import CrossDomainDataset
from recbole_cdsr.errors import ConfigError, DataError

SCORES_PER_BATCH = 2**25  # 128 MiB of float32 scores
# Scores are read several times: a quarter as many at once are judged in two thirds of the time on a processor.
SCORES_PER_BATCH_CPU = 2**23


class JudgedRowsLoader(AbstractDataLoader):
    """Judged rows in batches, for sequential and general models alike.

    RecBole's own loader for general models gathers every user's items in Python and takes
    `eval_batch_size // n_items` users at a time, which is one user on a catalogue of a few thousand items.

    Parameters
    ----------
    config, dataset
        As RecBole's loaders take them; the dataset is a validation or test split.
    """

    def __init__(self, config: CDSRConfig, dataset: CrossDomainDataset) -> None:
        self.sample_size = len(dataset)
        super().__init__(config, dataset, None, shuffle=False)

    def _init_batch_size_and_step(self) -> None:
        scores = SCORES_PER_BATCH_CPU if self.config["device"].type == "cpu" else SCORES_PER_BATCH
        rows = min(self.config["eval_batch_size"], scores // self._dataset.item_num)
        self.step = max(rows, 1)
        self.set_batch_size(self.step)

    def collate_fn(self, index: list[int]) -> tuple[Interaction, None, torch.Tensor, torch.Tensor]:
        """A batch in the form of RecBole's full-sort loader."""
        rows = self._dataset[np.array(index)]
        rows = self.transform(self._dataset, rows) if self.is_sequential else rows
        return rows, None, torch.arange(len(rows)), rows[self._dataset.iid_field]


def prepare_loaders(
    config: CDSRConfig, dataset: CrossDomainDataset
) -> tuple[AbstractDataLoader, JudgedRowsLoader, JudgedRowsLoader]:
    """Split the dataset and wrap it in loaders.

    Returns
    -------
    tuple
        Loaders of the training, validation and test split.

    Raises
    ------
    ConfigError
        The model needs a knowledge graph, labels or gradient-boosted trees.
    DataError
        There is nothing to train on, or a user has consumed every item and the model draws its negatives from all.
    """
    if config["MODEL_TYPE"] not in (ModelType.SEQUENTIAL, ModelType.GENERAL, ModelType.TRADITIONAL):
        raise ConfigError(
            f"{config['model']} is a {config['MODEL_TYPE'].name.lower()} model; here sequential and general models run."
        )
    splits = dataset.build()
    try:
        sampler, _, _ = create_samplers(config, dataset, splits)
    except ValueError as error:  # a user has all items: RecBole's sampler has no negative for them
        raise DataError(f"'{dataset.dataset_name}' leaves {config['model']} without negatives: {error}") from error
    train, valid, test = splits
    loader = get_dataloader(config, "train")(config, train, sampler, shuffle=config["shuffle"])
    return loader, JudgedRowsLoader(config, valid), JudgedRowsLoader(config, test)
