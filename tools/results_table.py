"""Markdown tables from result files: `python tools/results_table.py docs/results/food-kitchen/*.json`.

One row per model and candidate set; several seeds become mean ± standard deviation. Every number comes from a file
that `--result_file` wrote. `budget` marks a run that `epochs` ended while it might still have improved.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

METRICS = ("ndcg@10", "hit@10")
# What a command may say without its run being another model's: places, output, when to stop.
NOT_THE_MODEL = frozenset(
    [
        "model",
        "dataset",
        "seed",
        "config_files",
        "result_file",
        "run_dir",
        "checkpoint_dir",
        "data_path",
        "resume",
        "show_progress",
        "epochs",
        "stopping_step",
        "stopping_updates",
        "pretrain_stopping_updates",
        "trim_windows",
        "MAX_ITEM_LIST_LENGTH",
        "llm_injection",
        "llm_permute_seed",  # said in words
    ]
)


def label(result: dict) -> str:
    """Name of a row: the model, and what sets its configuration apart."""
    name = result.get("variant", result["model"])
    if result["config"].get("llm_permute_seed") is not None and result["features"]:
        name += " (permuted text)"
    # Sorted, so that it does not matter in which order a command said it.
    given = sorted(argument[2:].partition("=") for argument in result["command"].split() if argument.startswith("--"))
    return ", ".join([name, *(f"`{key}: {value}`" for key, _, value in given if key not in NOT_THE_MODEL)])


def cell(values: list[float]) -> str:
    """`mean ± sd` of several seeds, the value of a single one."""
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def table(results: list[dict]) -> str:
    """A Markdown table of results on one dataset."""
    domains = list(results[0]["test"]["domains"])
    head = ["model", "candidates", "seeds"]
    head += [f"{name} {metric}" for name in [*domains, "overall"] for metric in METRICS]
    head += ["best epoch", "training (s)"]
    by_model = defaultdict(list)
    for result in results:
        by_model[label(result)].append(result)
    lines = [head, ["---"] * len(head)]
    for model, runs in by_model.items():
        for candidates in runs[0]["eval_candidates"]:
            parts = [run["test"][candidates] for run in runs]
            values = [
                cell(
                    [part["domains"][name][metric] if name != "overall" else part["overall"][metric] for part in parts]
                )
                for name in [*domains, "overall"]
                for metric in METRICS
            ]
            epochs = "; ".join(epoch_text(run["best_epoch"]) + (" (budget)" if capped(run) else "") for run in runs)
            seconds = "; ".join(f"{run['seconds']['training']:.0f}" for run in runs)
            seeds = ", ".join(str(run["seed"]) for run in runs)
            lines.append([model, candidates, seeds, *values, epochs, seconds])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def capped(result: dict) -> bool:
    """Whether training ended at the most epochs it was given, not by itself: such a cell supports no claim."""
    return result.get("budget", result["epochs"] >= result["config"]["epochs"])  # older files do not say


def epoch_text(best_epoch: int | dict[str, int] | None) -> str:
    """The selected epoch, or one per domain."""
    if isinstance(best_epoch, dict):
        return ", ".join(f"{name} {epoch}" for name, epoch in best_epoch.items())
    return str(best_epoch)


def main() -> None:
    """Print a table per dataset of the given files, then the command of every file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    results = [json.loads(path.read_text(encoding="utf-8")) for path in parser.parse_args().files]
    by_dataset = defaultdict(list)
    for result in results:
        by_dataset[result["dataset"]].append(result)
    for dataset, runs in by_dataset.items():
        print(f"**{dataset}**{' (synthetic)' if runs[0]['synthetic'] else ''}\n\n{table(runs)}\n")


if __name__ == "__main__":
    main()
