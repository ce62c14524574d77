"""Time and memory of a training step of LLMCDSR against RecBole's SASRec, side by side in one run.

`python benchmarks/llmcdsr_step.py [--dataset food-kitchen] [--rounds 5]`

One step is 128 users, 32 users with recalled items and 128 overlapped users who judge the shadow step. The calibrator,
and what can be quoted of it, is told in `contender.py`. LLMCDSR's steps run in as many threads as its trainer gives
them, the calibrator's in all. The share of the meta step is what a step costs more than one
without meta-learning. The projections and the tables that items are recalled from are random here: the time of a step
does not depend on what they hold, and nothing has to be pre-trained first.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile

import torch
from contender import OFFICIAL_CALIBRATOR, Contender, calibrator
from measuring import peak_mib
from recbole.data.interaction import Interaction

from recbole_cdsr.errors import CDSRError

# Official code, batch 128 + 32 + 128, d 64, max_len 50, Food-Kitchen: seconds of a step and of its meta part.
OFFICIAL_STEP, OFFICIAL_META = 0.56, 0.42
STEPS_A_ROUND = 20


class MetaContender(Contender):
    """LLMCDSR with the trainer that does its steps."""

    def __init__(self, dataset: str, folder: str, **settings: object) -> None:
        super().__init__("LLMCDSR", dataset, 50, folder, settings)
        with torch.no_grad():
            for table in (self.model.recall_network.projections, self.model.recall_network.item_table):
                table.normal_()
        self.trainer._prepare_rows(self.loader._dataset)
        self.model.train()

    def step(self, count: int = 1) -> None:
        """As the trainer does them."""
        with self.trainer.threads_of_a_step():
            super().step(count)

    def loss(self, batch: Interaction) -> torch.Tensor:
        """The loss of the real step, after the meta step."""
        return self.trainer._step_loss(batch)


def main() -> int:
    """Run both in turns and print medians, shares and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="food-kitchen")
    parser.add_argument("--rounds", type=int, default=5, help=f"calibrator steps, {STEPS_A_ROUND} of LLMCDSR between")
    parser.add_argument("--inner_optimizer", choices=("sgd", "adam"), default="sgd")
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        try:
            ours = MetaContender(options.dataset, folder, inner_optimizer=options.inner_optimizer)
        except CDSRError as error:
            print(f"skipped: {error}")
            return 0
        loaded = peak_mib()
        ours.warm_up(STEPS_A_ROUND)
        trained = peak_mib()
        without_meta = MetaContender(options.dataset, folder, meta_learning=False)
        unit = calibrator(options.dataset, folder)
        without_meta.warm_up(STEPS_A_ROUND)
        unit.warm_up()
        for _ in range(options.rounds):
            unit.step()
            for contender in (ours, without_meta):
                contender.step(STEPS_A_ROUND)
    print(f"{options.dataset}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.inner_optimizer}")
    print(f"{'':44s} {'wall (s)':>9s} {'processor (s)':>14s}")
    base, step, plain = ([each.median(kind) for kind in ("wall", "processor")] for each in (unit, ours, without_meta))
    for name, (wall, processor) in {
        f"RecBole {unit.name}": base,
        "LLMCDSR, window 50, batch 128 + 32 + 128": step,
        "the same without meta-learning": plain,
    }.items():
        print(f"{name:44s} {wall:9.4f} {processor:14.4f}")
    ratios = [one / other for one, other in zip(base, step, strict=True)]
    shares = [1 - one / other for one, other in zip(plain, step, strict=True)]
    official = OFFICIAL_CALIBRATOR / OFFICIAL_STEP
    print(f"{'calibrator : LLMCDSR':44s} {ratios[0]:9.1f} {ratios[1]:14.1f}")
    print(f"{'  official code (measured elsewhere)':44s} {official:9.1f}")
    print(f"{'  ours over official':44s} {ratios[0] / official:9.1f} {ratios[1] / official:14.1f}")
    print(f"{'share of the meta step':44s} {shares[0]:9.0%} {shares[1]:14.0%}")
    print(f"{'  official code (measured elsewhere)':44s} {OFFICIAL_META / OFFICIAL_STEP:9.0%}")
    print(f"{'peak memory, loaded / after 20 steps (MB)':44s} {loaded:9.0f} {trained:14.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
