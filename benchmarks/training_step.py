"""Time of a training step of our models against RecBole's SASRec, side by side in one run.

`python benchmarks/training_step.py [--dataset food-kitchen] [--models LLM4CDSR SASRecBCE] [--rounds 5]`

The calibrator is RecBole's SASRec on 2,048 prefix rows, window 50, cross-entropy over all items, fed by this package's
dataset. Absolute times are of the machine at hand; the ratio of two steps measured in turns is what can be quoted, next
to the same ratio of an official code measured elsewhere with the same calibrator.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from typing import Any

import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.data.dataset import CrossDomainDataset
from recbole_cdsr.data.loaders import prepare_loaders
from recbole_cdsr.errors import CDSRError
from recbole_cdsr.quick_start import create_dataset
from recbole_cdsr.trainer import trainer_class_for

CALIBRATOR = "SASRec"
WINDOWS = (200, 50)
# Official code, batch 128, d 128, on Food-Kitchen: seconds a step by window; its calibrator took 7.0 s.
OFFICIAL_LLM4CDSR = {200: 6.1, 50: 1.2}
OFFICIAL_CALIBRATOR = 7.0


class Contender:
    """One model with its data, trained a step at a time.

    `settings` come on top of the model's own; `prepare` is handed the dataset before the model is built on it; `clock`
    measures its steps.
    """

    def __init__(
        self,
        model: str,
        dataset: str,
        window: int,
        folder: str,
        settings: Mapping[str, Any] | None = None,
        prepare: Callable[[CrossDomainDataset], None] = lambda data: None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        shared = {"MAX_ITEM_LIST_LENGTH": window, "checkpoint_dir": folder, "show_progress": False, "seed": 1}
        config = CDSRConfig(model, dataset, config_dict=shared | dict(settings or {}), command_line=[])
        data = create_dataset(config)
        prepare(data)
        self.loader, _, _ = prepare_loaders(config, data)
        self.model = config.model_class(config, self.loader._dataset).to(config["device"])
        self.trainer = trainer_class_for(config["MODEL_TYPE"], model)(config, self.model)
        self.optimizer = self.trainer.optimizer
        self.batches: Iterator = _forever(self.loader)
        self.name = f"{model}, window {window}, batch {config['train_batch_size']}"
        self.clock = clock
        self.seconds: list[float] = []

    def step(self) -> None:
        """Fetch a batch, run forward and backward, update the parameters."""
        start = self.clock()
        batch = next(self.batches)
        self.optimizer.zero_grad()
        self.loss(batch).backward()
        self.optimizer.step()
        self.seconds.append(self.clock() - start)

    def loss(self, batch: Interaction) -> torch.Tensor:
        """The loss of a batch."""
        losses = self.model.calculate_loss(batch)
        return sum(losses) if isinstance(losses, tuple) else losses


def _forever(loader: AbstractDataLoader) -> Iterator:
    while True:
        yield from loader


def main() -> int:
    """Run the contenders in turns and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="food-kitchen")
    parser.add_argument("--models", nargs="+", default=["LLM4CDSR", "SASRecBCE"])
    parser.add_argument("--rounds", type=int, default=5, help="calibrator steps, ten of each model between")
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        try:
            calibrator = Contender(CALIBRATOR, options.dataset, 50, folder)
            contenders = [Contender(m, options.dataset, w, folder) for m in options.models for w in WINDOWS]
        except CDSRError as error:
            print(f"skipped: {error}")
            return 0
        for contender in [calibrator, *contenders]:
            contender.step()  # warm-up
            contender.seconds.clear()
        for _ in range(options.rounds):
            calibrator.step()
            for contender in contenders:
                for _ in range(10):
                    contender.step()
    print(f"{options.dataset}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    base = statistics.median(calibrator.seconds)
    print(f"{'RecBole ' + calibrator.name:45s} {base:8.3f} s")
    for contender in contenders:
        median = statistics.median(contender.seconds)
        print(f"{contender.name:45s} {median:8.3f} s   1 : {base / median:.1f} of the calibrator")
    for window, seconds in OFFICIAL_LLM4CDSR.items():
        ratio = OFFICIAL_CALIBRATOR / seconds
        print(f"{f'official LLM4CDSR, window {window} (measured elsewhere)':45s} {seconds:8.3f} s   1 : {ratio:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
