"""Time of a training step of our models against RecBole's SASRec, side by side in one run.

`python benchmarks/training_step.py [--dataset food-kitchen] [--models LLM4CDSR SASRecBCE] [--rounds 5]`

The calibrator, and what can be quoted of it, is told in `contender.py`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile

import torch
from contender import OFFICIAL_CALIBRATOR, Contender, calibrator

from recbole_cdsr.errors import CDSRError

WINDOWS = (200, 50)
# Official code, batch 128, d 128, on Food-Kitchen: seconds a step by window, next to OFFICIAL_CALIBRATOR.
OFFICIAL_LLM4CDSR = {200: 6.1, 50: 1.2}


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
            unit = calibrator(options.dataset, folder)
            contenders = [Contender(m, options.dataset, w, folder) for m in options.models for w in WINDOWS]
            trimmed = Contender("SASRec", options.dataset, 50, folder, {"trim_windows": True})
        except CDSRError as error:
            print(f"skipped: {error}")
            return 0
        for contender in [unit, trimmed, *contenders]:
            contender.warm_up()
        for _ in range(options.rounds):
            unit.step()
            trimmed.step()
            for contender in contenders:
                contender.step(10)
    print(f"{options.dataset}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    base = unit.median()
    print(f"{'RecBole ' + unit.name:45s} {base:8.3f} s")
    for contender in [trimmed, *contenders]:
        median = contender.median()
        print(f"{contender.name:45s} {median:8.3f} s   1 : {base / median:.1f} of the calibrator")
    for window, seconds in OFFICIAL_LLM4CDSR.items():
        ratio = OFFICIAL_CALIBRATOR / seconds
        print(f"{f'official LLM4CDSR, window {window} (measured elsewhere)':45s} {seconds:8.3f} s   1 : {ratio:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
