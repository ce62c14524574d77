"""Time and memory of a training step of LLMCDSR against RecBole's SASRec, side by side in one run.

`python benchmarks/llmcdsr_step.py [--dataset food-kitchen] [--rounds 5]`

One step is 128 users, 32 users with recalled items and 128 overlapped users who judge the shadow step. The calibrator
is RecBole's SASRec on 2,048 prefix rows, window 50, cross-entropy over all items. Absolute times are of the machine at
hand; what can be quoted is the ratio of the two steps, next to the same ratio of the official code, which was measured
elsewhere with the same calibrator. The share of the meta step is what a step costs more than one without meta-learning.
The projections and the tables that items are recalled from are random here: the time of a step does not depend on what
they hold, and nothing has to be pre-trained first.
"""

from __future__ import annotations

import argparse
import logging
import resource
import statistics
import sys
import tempfile
from time import process_time

import torch
from recbole.data.interaction import Interaction
from training_step import CALIBRATOR, OFFICIAL_CALIBRATOR, Contender

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

    def loss(self, batch: Interaction) -> torch.Tensor:
        """The loss of the real step, after the meta step."""
        return self.trainer._step_loss(batch)


class Clock:
    """Wall-clock and processor seconds of a contender's steps."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.processor: list[float] = []

    def step(self, count: int = 1) -> None:
        """Step that many times."""
        for _ in range(count):
            start = process_time()
            self.contender.step()
            self.processor.append(process_time() - start)

    def reset(self) -> None:
        """Forget the warm-up."""
        self.contender.seconds.clear()
        self.processor.clear()

    def medians(self) -> tuple[float, float]:
        """Of both, in seconds."""
        return statistics.median(self.contender.seconds), statistics.median(self.processor)


def peak_megabytes() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
            ours = Clock(MetaContender(options.dataset, folder, inner_optimizer=options.inner_optimizer))
        except CDSRError as error:
            print(f"skipped: {error}")
            return 0
        loaded = peak_megabytes()
        ours.step(STEPS_A_ROUND)
        trained = peak_megabytes()
        without_meta = Clock(MetaContender(options.dataset, folder, meta_learning=False))
        calibrator = Clock(Contender(CALIBRATOR, options.dataset, 50, folder))
        without_meta.step(STEPS_A_ROUND)
        calibrator.step()
        for clock in (ours, without_meta, calibrator):
            clock.reset()
        for _ in range(options.rounds):
            calibrator.step()
            for clock in (ours, without_meta):
                clock.step(STEPS_A_ROUND)
    print(f"{options.dataset}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.inner_optimizer}")
    print(f"{'':44s} {'wall (s)':>9s} {'processor (s)':>14s}")
    base, step, plain = calibrator.medians(), ours.medians(), without_meta.medians()
    for name, (wall, processor) in {
        f"RecBole {calibrator.contender.name}": base,
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
