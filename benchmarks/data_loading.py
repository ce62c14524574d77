"""Seconds and memory to load and build a dataset, ours against RecBole's own, on the same interactions.

    python benchmarks/data_loading.py [--dataset food-kitchen-loo] [--data_path atomic_data]

Each way runs in a process of its own, so that its peak memory is its own; both import the same packages and read the
same files with the same configuration. As our windows are cut when a batch is fetched and RecBole's are stored, the
time to fetch every training batch once is measured beside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from pathlib import Path
from time import perf_counter

from measuring import peak_mib

WAYS = {
    "recbole": ("RecBole's SequentialDataset, prefix rows", "SASRec"),
    "prefixes": ("ours, prefix rows (RecBole's models)", "SASRec"),
    "users": ("ours, one row per user (our models)", "SASRecBCE"),
}


def measure(way: str, dataset: str, data_path: str) -> dict[str, float]:
    """Load, build and read one way; seconds, MiB and counts."""
    import recbole_cdsr  # noqa: F401 - makes RecBole importable

    warnings.simplefilter("ignore")
    import numpy as np
    from recbole.data.dataset import SequentialDataset

    from recbole_cdsr.config import CDSRConfig
    from recbole_cdsr.data.dataset import CrossDomainSequentialDataset

    settings = {"data_path": data_path, "use_gpu": False, "train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": 50}
    config = CDSRConfig(WAYS[way][1], dataset, config_dict=settings, command_line=[])
    before, start = peak_mib(), perf_counter()
    data = (SequentialDataset if way == "recbole" else CrossDomainSequentialDataset)(config)
    loaded = perf_counter()
    train, valid, test = data.build()
    built, after = perf_counter(), peak_mib()
    order, size = np.random.default_rng(0).permutation(len(train)), config["train_batch_size"]
    for first in range(0, len(order), size):
        train[order[first : first + size]]
    return {
        "interactions": sum(1 for path in Path(config["data_path"]).glob("*.inter") for _ in path.open()) - 1,
        "rows": len(train) + len(valid) + len(test),
        "load": loaded - start,
        "build": built - loaded,
        "fetch": perf_counter() - built,
        "imports_mib": before,
        "peak_mib": after,
    }


def main() -> None:
    """Measure every way in a process of its own and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="food-kitchen-loo")
    parser.add_argument("--data_path", default="atomic_data")
    parser.add_argument("--way", choices=WAYS, help="measure this way only, in this process, and print JSON")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.dataset, options.data_path)))
        return
    file = Path(options.data_path) / options.dataset / f"{options.dataset}.inter"
    if not file.is_file():
        print(
            f"Skipped: {file} is not there. RecBole's own dataset reads one .inter file; convert a release with "
            "`recbole-cdsr convert llmcdsr ... --split loo`, or name another dataset."
        )
        return
    results = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--dataset", options.dataset]
        command += ["--data_path", options.data_path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{way} failed:\n{done.stderr}")
        results[way] = json.loads(done.stdout.splitlines()[-1])

    base = results["recbole"]
    print(f"{options.dataset}: {base['interactions']:,} interactions")
    print(f"{'':42}{'load s':>8}{'build s':>9}{'both':>8}{'peak MiB':>10}{'of it data':>12}{'fetch all s':>13}")
    for way, found in results.items():
        both, data = found["load"] + found["build"], found["peak_mib"] - found["imports_mib"]
        print(
            f"{WAYS[way][0]:42}{found['load']:8.2f}{found['build']:9.2f}{both:8.2f}{found['peak_mib']:10.0f}"
            f"{data:12.0f}{found['fetch']:13.2f}"
        )
    base_time, base_data = base["load"] + base["build"], base["peak_mib"] - base["imports_mib"]
    for way in ("prefixes", "users"):
        found = results[way]
        print(
            f"{WAYS[way][0]}: {base_time / (found['load'] + found['build']):.1f} times faster, "
            f"{base_data / (found['peak_mib'] - found['imports_mib']):.1f} times less memory for the data"
        )


if __name__ == "__main__":
    main()
