"""Time and memory of a LeCDSR training step at the official setting, against RecBole's SASRec in the same run.

`python benchmarks/lecdsr_step.py [--dataset food-kitchen] [--rounds 3] [--threads 2] [--processor-time]`

Batch 1,024, d 512, window 15, 99 negatives of each row's own, text features of width 1,024 (random numbers: a step
takes as long whatever they say). The calibrator, and what can be quoted of it, is told in `contender.py`.
"""

from __future__ import annotations

import argparse
import functools
import logging
import multiprocessing
import sys
import tempfile
import warnings
from typing import Any

import numpy as np
import torch
from contender import OFFICIAL_CALIBRATOR, Contender, calibrator
from measuring import peak_mib

from recbole_cdsr.data.dataset import CrossDomainSequentialDataset
from recbole_cdsr.errors import CDSRError
from recbole_cdsr.llm.features import LLMFeatures

OFFICIAL_LECDSR = 3.9  # seconds a step of the official code, next to OFFICIAL_CALIBRATOR
OFFICIAL_SETTING = {"hidden_size": 512, "train_batch_size": 1024, "n_negatives": 99}
WINDOW = 15
TEXT_WIDTH = 1024
VARIANTS: dict[str, dict[str, Any]] = {
    "masked": {},
    "unmasked": {"mask_padding": False, "official_positions": True},  # as in the official code
    "shared": {"shared_negatives": True},
}


def random_features(data: CrossDomainSequentialDataset) -> None:
    """Give a dataset text features of the official width, the same arrays to every variant."""
    data._shared["llm_features"] = _features(data.item_num, data.user_num)


@functools.cache
def _features(n_items: int, n_users: int) -> LLMFeatures:
    random = np.random.default_rng(0)
    items, profiles = (random.standard_normal((n, TEXT_WIDTH), np.float32) for n in (n_items, n_users))
    items[0] = profiles[0] = 0
    return LLMFeatures(items, profiles, {})


def memory_of(dataset: str, threads: int) -> tuple[float, float, float]:
    """GB: a process's peak before there is a model and after three steps; parameters with gradients and moments."""
    _quiet(threads)
    before = []

    def prepare(data: CrossDomainSequentialDataset) -> None:
        random_features(data)
        before.append(_peak_gb())

    with tempfile.TemporaryDirectory() as folder:
        contender = Contender("LeCDSR", dataset, WINDOW, folder, OFFICIAL_SETTING, prepare)
        contender.step(3)
    learnt = sum(parameter.numel() for parameter in contender.model.parameters())
    return before[0], _peak_gb(), 4 * 4 * learnt / 1e9


def _peak_gb() -> float:
    return peak_mib() * 2**20 / 1e9


def _quiet(threads: int) -> None:
    logging.getLogger().setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)


def main() -> int:
    """Run the contenders in turns and print medians, ratios and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="food-kitchen")
    parser.add_argument("--rounds", type=int, default=3, help="calibrator steps, three of each variant between")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["masked", "unmasked"])
    parser.add_argument(
        "--processor-time", action="store_true", help="count processor seconds, for a machine with other work on it"
    )
    options = parser.parse_args()
    _quiet(options.threads)
    kind = "processor" if options.processor_time else "wall"
    try:
        with multiprocessing.get_context("spawn").Pool(1) as process:  # a peak is of a whole process
            before, peak, learnt = process.apply(memory_of, (options.dataset, options.threads))
        with tempfile.TemporaryDirectory() as folder:
            unit = calibrator(options.dataset, folder)
            contenders = []
            for variant in options.variants:
                settings = OFFICIAL_SETTING | VARIANTS[variant]
                contenders.append(Contender("LeCDSR", options.dataset, WINDOW, folder, settings, random_features))
                contenders[-1].name = f"LeCDSR, {variant}"
            for contender in [unit, *contenders]:
                contender.warm_up()
            for _ in range(options.rounds):
                unit.step()
                for contender in contenders:
                    contender.step(3)
    except CDSRError as error:
        print(f"skipped: {error}")
        return 0
    print(f"{options.dataset}, {kind} seconds, {torch.get_num_threads()} threads, torch {torch.__version__}")
    base = unit.median(kind)
    official = OFFICIAL_CALIBRATOR / OFFICIAL_LECDSR
    print(f"{'RecBole ' + unit.name:55s} {base:8.3f} s")
    for contender in contenders:
        median = contender.median(kind)
        ratio = base / median
        print(f"{contender.name:55s} {median:8.3f} s   1 : {ratio:.1f}   {ratio / official:.1f} x the official code")
    print(f"{'official LeCDSR (measured elsewhere)':55s} {OFFICIAL_LECDSR:8.3f} s   1 : {official:.1f}")
    print(
        f"peak memory, masked: {peak:.2f} GB; {before:.2f} GB were reached with data and features loaded, "
        f"{learnt:.2f} GB are parameters, gradients and moments"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
