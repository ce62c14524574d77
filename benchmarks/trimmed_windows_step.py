"""Time of a training step of RecBole's models with `trim_windows` and without, in turns, in one run.

    python benchmarks/trimmed_windows_step.py [--dataset food-kitchen-8k] [--models SASRec BERT4Rec] [--rounds 2]

Window 50 and RecBole's own hyper-parameters: 2,048 prefix rows, cross-entropy over all items. BERT4Rec with padding
scores all items at ten places of every row; on 36,000 items that takes some 12 GB.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile

import torch
from contender import Contender
from measuring import peak_mib

from recbole_cdsr.errors import CDSRError

WINDOW = 50


def main() -> int:
    """Print the median step of each model both ways and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="food-kitchen-8k")
    parser.add_argument("--models", nargs="+", default=["SASRec", "GRU4Rec", "BERT4Rec"])
    parser.add_argument("--rounds", type=int, default=2, help="steps of each kind")
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    print(f"{options.dataset}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            try:
                kinds = [
                    Contender(model, options.dataset, WINDOW, folder, {"trim_windows": trimmed})
                    for trimmed in (True, False)
                ]
            except CDSRError as error:
                print(f"skipped: {error}")
                continue
            peaks = []
            for kind in kinds:  # the smaller peak first, for it never falls
                kind.warm_up()
                peaks.append(peak_mib())
            for _ in range(options.rounds):
                for kind in kinds:
                    kind.step()
            trimmed, padded = (kind.median() for kind in kinds)
            print(
                f"{model:10s} trimmed {trimmed:7.3f} s   padded {padded:7.3f} s   {padded / trimmed:5.1f} times   "
                f"process peak {peaks[0]:,.0f} and {peaks[1]:,.0f} MiB",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
