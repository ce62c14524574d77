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
from time import perf_counter

import torch
from training_step import CALIBRATOR, OFFICIAL_CALIBRATOR, Contender

from recbole_cdsr.errors import CDSRError

# Official code, batch 128 + 32 + 128, d 64, max_len 50, Food-Kitchen: seconds of a step and of its meta part.
OFFICIAL_STEP, OFFICIAL_META = 0.56, 0.42
STEPS_A_ROUND = 20


class MetaContender(Contender):
    """LLMCDSR with the trainer that does its steps; the meta steps are timed within them."""

    def __init__(self, dataset: str, folder: str, **settings: object) -> None:
        super().__init__("LLMCDSR", dataset, 50, folder, settings)
        with torch.no_grad():
            for table in (self.model.recall_network.projections, self.model.recall_network.item_table):
                table.normal_()
        self.trainer._prepare_rows(self.loader._dataset)
        self.model.train()
        self.meta_seconds: list[float] = []
        meta_step = self.trainer.meta_step

        def timed(*arguments: object) -> object:
            start = perf_counter()
            known = meta_step(*arguments)
            self.meta_seconds.append(perf_counter() - start)
            return known

        self.trainer.meta_step = timed

    def loss(self, batch: object) -> torch.Tensor:
        """The loss of the real step, after the meta step."""
        return self.trainer._step_loss(batch)


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
            ours = MetaContender(options.dataset, folder, inner_optimizer=options.inner_optimizer)
        except CDSRError as error:
            print(f"skipped: {error}")
            return 0
        loaded = peak_megabytes()
        for _ in range(STEPS_A_ROUND):  # warm-up
            ours.step()
        trained = peak_megabytes()
        calibrator = Contender(CALIBRATOR, options.dataset, 50, folder)
        calibrator.step()
        for contender in (ours, calibrator):
            contender.seconds.clear()
        ours.meta_seconds.clear()
        for _ in range(options.rounds):
            calibrator.step()
            for _ in range(STEPS_A_ROUND):
                ours.step()
    print(f"{options.dataset}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.inner_optimizer}")
    base, step = statistics.median(calibrator.seconds), statistics.median(ours.seconds)
    share = sum(ours.meta_seconds) / sum(ours.seconds)
    print(f"RecBole {calibrator.name:40s} {base:8.3f} s")
    print(f"{'LLMCDSR, window 50, batch 128 + 32 + 128':48s} {step:8.4f} s   1 : {base / step:.1f} of the calibrator")
    print(f"{'  of which the meta step':48s} {statistics.median(ours.meta_seconds):8.4f} s   {share:.0%} of the step")
    print(f"{'  peak memory, loaded / after 20 steps':48s} {loaded:8.0f} / {trained:.0f} MB")
    official = OFFICIAL_CALIBRATOR / OFFICIAL_STEP
    print(
        f"{'official code (measured elsewhere)':48s} {OFFICIAL_STEP:8.3f} s   1 : {official:.1f}, "
        f"{OFFICIAL_META / OFFICIAL_STEP:.0%} meta"
    )
    print(f"{'ratio of the ratios':48s} {base / step / official:8.1f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
