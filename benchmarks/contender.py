"""A model trained a step at a time, and the one that all training steps are compared with.

The calibrator is RecBole's SASRec on 2,048 prefix rows, window 50, cross-entropy over all items, fed by this package's
dataset. Absolute times are of the machine at hand; the ratio of two steps measured in turns is what can be quoted, next
to the same ratio of an official code measured elsewhere with the same calibrator.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from measuring import Stopwatch
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.data.dataset import CrossDomainDataset
from recbole_cdsr.data.loaders import prepare_loaders
from recbole_cdsr.model import trimmed_windows
from recbole_cdsr.quick_start import create_dataset
from recbole_cdsr.trainer import trainer_class_for

OFFICIAL_CALIBRATOR = 7.0  # seconds of its step on Food-Kitchen where the official codes were measured


class Contender:
    """One model with its data, trained a step at a time.

    `settings` come on top of the model's own; `prepare` is handed the dataset before the model is built on it.
    """

    def __init__(
        self,
        model: str,
        dataset: str,
        window: int,
        folder: str,
        settings: Mapping[str, Any] | None = None,
        prepare: Callable[[CrossDomainDataset], None] = lambda data: None,
    ) -> None:
        shared = {"MAX_ITEM_LIST_LENGTH": window, "checkpoint_dir": folder, "show_progress": False, "seed": 1}
        config = CDSRConfig(model, dataset, config_dict=shared | dict(settings or {}), command_line=[])
        data = create_dataset(config)
        prepare(data)
        self.loader, _, _ = prepare_loaders(config, data)
        self.model = config.model_class(config, self.loader._dataset).to(config["device"])
        if config[trimmed_windows.KEY]:
            trimmed_windows.trim(self.model)
        self.trainer = trainer_class_for(config["MODEL_TYPE"], model)(config, self.model)
        self.optimizer = self.trainer.optimizer
        self.batches: Iterator = _forever(self.loader)
        trimmed = " without padding" if config[trimmed_windows.KEY] else ""
        self.name = f"{model}{trimmed}, window {window}, batch {config['train_batch_size']}"
        self.steps: list[Stopwatch] = []

    def step(self, count: int = 1) -> None:
        """Fetch a batch, run forward and backward, update the parameters; that many times."""
        for _ in range(count):
            with Stopwatch() as seconds:
                batch = next(self.batches)
                self.optimizer.zero_grad()
                self.loss(batch).backward()
                self.optimizer.step()
            self.steps.append(seconds)

    def warm_up(self, count: int = 1) -> None:
        """Steps that are not counted."""
        self.step(count)
        self.steps.clear()

    def loss(self, batch: Interaction) -> torch.Tensor:
        """The loss of a batch."""
        losses = self.model.calculate_loss(batch)
        return sum(losses) if isinstance(losses, tuple) else losses

    def median(self, kind: str = "wall") -> float:
        """Seconds of a step: `wall` or `processor`."""
        return statistics.median(getattr(step, kind) for step in self.steps)


class Calibrator(Contender):
    """RecBole's SASRec as RecBole alone trains it: importing its sequential models switches anomaly detection on.

    This package switches it off again (`compat.py`); the official codes were measured next to RecBole as it is.
    """

    def __init__(self, dataset: str, folder: str) -> None:
        super().__init__("SASRec", dataset, 50, folder)

    def step(self, count: int = 1) -> None:
        with torch.autograd.set_detect_anomaly(True):
            super().step(count)


def calibrator(dataset: str, folder: str) -> Contender:
    """RecBole's SASRec, whose step is the unit."""
    return Calibrator(dataset, folder)


def _forever(loader: AbstractDataLoader) -> Iterator:
    while True:
        yield from loader
