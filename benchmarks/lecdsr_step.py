"""Time and memory of a LeCDSR training step at the official setting, against RecBole's SASRec in the same run.

`python benchmarks/lecdsr_step.py [--dataset food-kitchen] [--rounds 3] [--threads 2]`

Batch 1,024, d 512, window 15, 99 negatives of each row's own, text features of width 1,024 (random numbers: a step
takes as long whatever they say). The calibrator is the one of `training_step.py`: 2,048 prefix rows, window 50,
cross-entropy over all items. Only the ratio of steps measured in turns can be quoted.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import resource
import statistics
import sys
import tempfile
import warnings
from typing import Any

import numpy as np
import torch
from training_step import CALIBRATOR, OFFICIAL_CALIBRATOR, Contender

from recbole_cdsr.data.dataset import CrossDomainSequentialDataset
from recbole_cdsr.errors import CDSRError
from recbole_cdsr.llm.features import LLMFeatures

OFFICIAL_LECDSR = 3.9  # seconds a step of the official code, next to OFFICIAL_CALIBRATOR
OFFICIAL_SETTING = {"hidden_size": 512, "train_batch_size": 1024, "n_negatives": 99, "MAX_ITEM_LIST_LENGTH": 15}
TEXT_WIDTH = 1024
VARIANTS: dict[str, dict[str, Any]] = {
    "padding masked": {},
    "padding unmasked, as in the official code": {"mask_padding": False, "official_positions": True},
    "padding masked, shared negatives": {"shared_negatives": True},
}


def random_features(data: CrossDomainSequentialDataset) -> None:
    """Give a dataset text features of the official width."""
    random = np.random.default_rng(0)
    items, profiles = (random.standard_normal((n, TEXT_WIDTH), np.float32) for n in (data.item_num, data.user_num))
    items[0] = profiles[0] = 0
    data._shared["llm_features"] = LLMFeatures(items, profiles, {})


def lecdsr(dataset: str, folder: str, variant: str) -> Contender:
    """LeCDSR at the official setting."""
    settings = OFFICIAL_SETTING | VARIANTS[variant]
    window = settings["MAX_ITEM_LIST_LENGTH"]
    contender = Contender("LeCDSR", dataset, window, folder, settings, prepare=random_features)
    contender.name = f"LeCDSR, {variant}"
    return contender


def memory_of(dataset: str, variant: str, threads: int) -> tuple[float, float, float]:
    """GB: a process's peak before there is a model and after three steps; parameters with gradients and moments."""
    _quiet(threads)
    with tempfile.TemporaryDirectory() as folder:
        features_gb = []

        def prepare(data: CrossDomainSequentialDataset) -> None:
            random_features(data)
            features_gb.append(_peak_gb())

        window = OFFICIAL_SETTING["MAX_ITEM_LIST_LENGTH"]
        contender = Contender("LeCDSR", dataset, window, folder, OFFICIAL_SETTING | VARIANTS[variant], prepare)
        for _ in range(3):
            contender.step()
        learnt = sum(parameter.numel() for parameter in contender.model.parameters())
        return features_gb[0], _peak_gb(), 4 * 4 * learnt / 1e9


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


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
    options = parser.parse_args()
    _quiet(options.threads)
    try:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            before, peak, learnt = process.apply(memory_of, (options.dataset, "padding masked", options.threads))
        with tempfile.TemporaryDirectory() as folder:
            calibrator = Contender(CALIBRATOR, options.dataset, 50, folder)
            contenders = [lecdsr(options.dataset, folder, variant) for variant in VARIANTS]
            for contender in [calibrator, *contenders]:
                contender.step()  # warm-up
                contender.seconds.clear()
            for _ in range(options.rounds):
                calibrator.step()
                for contender in contenders:
                    for _ in range(3):
                        contender.step()
    except CDSRError as error:
        print(f"skipped: {error}")
        return 0
    print(f"{options.dataset}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    base = statistics.median(calibrator.seconds)
    official = OFFICIAL_CALIBRATOR / OFFICIAL_LECDSR
    print(f"{'RecBole ' + calibrator.name:55s} {base:8.3f} s")
    for contender in contenders:
        median = statistics.median(contender.seconds)
        ratio = base / median
        print(f"{contender.name:55s} {median:8.3f} s   1 : {ratio:.1f}   {ratio / official:.1f} x the official code")
    print(f"{'official LeCDSR (measured elsewhere)':55s} {OFFICIAL_LECDSR:8.3f} s   1 : {official:.1f}")
    print(
        f"peak memory, padding masked: {peak:.2f} GB; {before:.2f} GB were reached with data and features loaded, "
        f"{learnt:.2f} GB are parameters, gradients and moments"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
