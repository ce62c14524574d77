"""Users per second of `recommend` for a whole user base, against a loop over users.

    python benchmarks/recommending.py [--models LLM4CDSR LeCDSR SASRec] [--users 50000] [--items 10000] [--looped 2000]
                                      [--topk 10]

A dataset of two domains is made up, and each model is kept as it is initialised, for recommending costs the same before
and after training. The best items of each domain are written for all users twice: by `recommend` in one call, loading
included, and user by user, each with a window of full width, scores of all items, the history masked, `torch.topk` and
a line of JSON. The loop is timed on `--looped` users. Processor time is printed beside the clock, which other programs
on the machine slow down.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import Stopwatch, peak_mib

DOMAINS = ("book", "movie")
WINDOW = 50


def write_dataset(folder: Path, n_users: int, n_items: int) -> None:
    """Users with 3 to 60 items, most of them few, popular ones more often; leave-one-out."""
    from recbole_cdsr.data.atomic import write_atomic

    random = np.random.default_rng(0)
    lengths = np.minimum(3 + random.exponential(8, n_users).astype(int), 60)
    users = np.repeat(np.arange(n_users), lengths)
    items = (random.random(len(users)) ** 2 * n_items).astype(int)
    tokens = np.array([f"{DOMAINS[item % 2]}:{item}" for item in range(n_items)], dtype=object)
    frame = pd.DataFrame({"user_id": users.astype(str), "item_id": tokens[items], "timestamp": np.arange(len(users))})
    folder.mkdir(parents=True)
    kinds = {"user_id": "token", "item_id": "token", "timestamp": "float"}
    write_atomic(folder / f"{folder.name}.inter", frame, kinds)
    catalogue = pd.DataFrame(
        {
            "item_id": tokens,
            "domain": [DOMAINS[item % 2] for item in range(n_items)],
            "title": [f"Title number {item}" for item in range(n_items)],
        }
    )
    write_atomic(
        folder / f"{folder.name}.item", catalogue, {"item_id": "token", "domain": "token", "title": "token_seq"}
    )


def initial_run(model: str, root: Path, n_items: int) -> Path:
    """A run directory with the model as it is initialised: recommending costs the same before and after training."""
    from recbole_cdsr.config import CDSRConfig
    from recbole_cdsr.quick_start import build_model, create_dataset
    from recbole_cdsr.trainer.checkpoint import model_state, save_checkpoint

    np.save(root / "items.npy", np.random.default_rng(0).normal(size=(n_items, 64)).astype(np.float32))
    settings = {
        "data_path": str(root),
        "item_features_file": str(root / "items.npy"),
        "use_profiles": False,
        "MAX_ITEM_LIST_LENGTH": WINDOW,
        "hidden_size": 64,
        "use_gpu": False,
    }
    if model == "LLM4CDSR":
        settings["global_dim"] = 64
    config = CDSRConfig(model, "base", config_dict=settings, command_line=[])
    data = create_dataset(config)
    train, *_ = data.build()
    state = {"model": model, "config": config.plain(), "epoch": -1, **model_state(build_model(config, train))}
    (root / "run").mkdir()
    save_checkpoint(root / "run" / "best.pth", state)
    return root / "run"


def one_by_one(place: Path, n_users: int, topk: int, output: Path) -> Stopwatch:
    """Seconds of the loop over the first users, without loading the run."""
    import torch
    from recbole.data.interaction import Interaction

    from recbole_cdsr.recommend.output import ItemNames
    from recbole_cdsr.trained_run import SavedRun, TrainedRun

    saved = SavedRun.open(place)
    run = TrainedRun(saved, saved.config())
    data, names = run.data, ItemNames(run.data)
    model = run.model_of(DOMAINS[0])
    log = data.log
    with Stopwatch() as seconds, output.open("w", encoding="utf-8") as stream, torch.no_grad():
        for segment in range(n_users):
            history = log.items[log.segment_starts[segment] : log.segment_stops[segment]]
            window = history[-WINDOW:]
            row = Interaction(
                {
                    "user_id": torch.tensor([log.segment_users[segment]]),
                    "item_id_list": torch.from_numpy(np.pad(window, (0, WINDOW - len(window))))[None],
                    "item_length": torch.tensor([len(window)]),
                }
            )
            scores = model.full_sort_predict(row).view(-1)
            scores[torch.from_numpy(history)] = -torch.inf
            entries = []
            for low, high in zip(data.domain_offsets[:-1], data.domain_offsets[1:], strict=True):
                values, places = torch.topk(scores[low:high], topk)
                for rank, (value, place_in) in enumerate(zip(values.tolist(), places.tolist(), strict=True), start=1):
                    item = int(low) + place_in
                    told = {"domain": names.domains[item], "item": names.tokens[item], "title": names.titles[item]}
                    entries.append(told | {"rank": rank, "score": value})
            stream.write(json.dumps({"user": str(log.segment_users[segment]), "recommendations": entries}) + "\n")
    return seconds


def main() -> None:
    """Print users per second both ways, for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["LLM4CDSR", "LeCDSR", "SASRec"])
    for name, default in (("users", 50_000), ("items", 10_000), ("looped", 2_000), ("topk", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()

    import recbole_cdsr  # noqa: F401 - makes RecBole importable

    warnings.simplefilter("ignore")
    from recbole_cdsr.recommend import recommender  # noqa: F401 - imports are not timed

    for model in chosen.models:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            compare(model, Path(folder), chosen)


def compare(model: str, root: Path, chosen: argparse.Namespace) -> None:
    """Recommend with one model both ways, and print what came of it."""
    import torch

    from recbole_cdsr.cli import main as command

    write_dataset(root / "base", chosen.users, chosen.items)
    place = initial_run(model, root, chosen.items)
    loop = one_by_one(place, chosen.looped, chosen.topk, root / "loop.jsonl")
    arguments = ["--all-users", "--topk", str(chosen.topk), "--output", str(root / "all.jsonl")]
    with Stopwatch() as whole:
        code = command(["recommend", "--run", str(place), *arguments, "--show_progress=False"])
    assert code == 0
    lines = (root / "all.jsonl").read_text(encoding="utf-8").splitlines()
    looped = (root / "loop.jsonl").read_text(encoding="utf-8").splitlines()
    agreeing = sum(_items(one) == _items(other) for one, other in zip(looped, lines, strict=False))

    print(
        f"{model}, {len(lines):,} users, {chosen.items:,} items in {len(DOMAINS)} domains, top {chosen.topk} of each;"
    )
    print(f"{torch.get_num_threads()} thread(s), process peak {peak_mib():,.0f} MiB; users per second:")
    speeds = [_speeds("loop over users", loop, len(looped)), _speeds("one call, loading included", whole, len(lines))]
    by_processor, by_clock = (after / before for before, after in zip(*speeds, strict=True))
    print(f"{by_processor:.1f} times as many by processor time, {by_clock:.1f} times by the clock")
    print(f"{agreeing} of {len(looped)} users have the same lists both ways", flush=True)


def _speeds(name: str, seconds: Stopwatch, n_users: int) -> tuple[float, float]:
    """Users per second of processor time and by the clock, which are printed."""
    speeds = n_users / seconds.processor, n_users / seconds.wall
    print(f"{name:28} of processor time {speeds[0]:8,.0f}, by the clock {speeds[1]:8,.0f}")
    return speeds


def _items(line: str) -> list[str]:
    return [entry["item"] for entry in json.loads(line)["recommendations"]]


if __name__ == "__main__":
    main()
