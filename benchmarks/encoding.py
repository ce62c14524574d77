"""Seconds and memory to encode item texts with the default encoder, ours against one `encode` call by hand.

    python benchmarks/encoding.py [--dataset food-kitchen] [--data_path atomic_data] [--texts N] [--rounds 1]

Each way runs in a process of its own, so that its peak memory is its own; both load the same weights before the clock
starts, and take turns, so that a busy machine slows both. Extra memory is what the process grew by at most while it
encoded, with what the vectors themselves take among it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
from measuring import Stopwatch

WAYS = {"hand": "SentenceTransformer.encode by hand", "ours": "SentenceTransformerEncoder.encode"}


class PeakMemory:
    """The largest resident size of this process while it is watched, in MB beyond what it began with."""

    def __enter__(self) -> PeakMemory:
        self._process, self._ended = psutil.Process(), threading.Event()
        self._begun = self._peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def megabytes(self) -> float:
        return (self._peak - self._begun) / 1e6


def measure(way: str, dataset: str, data_path: str, count: int | None) -> dict[str, float]:
    """Encode one way; seconds, CPU seconds and MB."""
    from recbole_cdsr.data.atomic import read_item_text
    from recbole_cdsr.llm.encoder import SentenceTransformerEncoder
    from recbole_cdsr.llm.prompts import item_texts, load_item_prompt

    texts = item_texts(read_item_text(Path(data_path) / dataset, dataset), load_item_prompt())
    if count is not None and count < len(texts):
        texts = texts[:: len(texts) // count][:count]  # of all domains and lengths
    encoder = SentenceTransformerEncoder()
    encoder.encode(texts[:256])  # libraries and weights are there
    if way == "hand":
        model, size = encoder._model(), encoder.batch_size

        def encode(texts: list[str]) -> object:
            return model.encode(texts, batch_size=size, convert_to_numpy=True, show_progress_bar=False)
    else:
        encode = encoder.encode
    with PeakMemory() as peak, Stopwatch() as seconds:
        vectors = encode(texts)
    return {
        "texts": len(texts),
        "different": len(set(texts)),
        "seconds": seconds.wall,
        "cpu": seconds.processor,
        "extra": peak.megabytes,
        "sum": float(abs(vectors).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="food-kitchen")
    parser.add_argument("--data_path", default="atomic_data")
    parser.add_argument("--texts", type=int, help="encode only so many, taken evenly from all")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.dataset, options.data_path, options.texts)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[way].append(json.loads(out.splitlines()[-1]))
    best = {way: min(rounds, key=lambda round_: round_["cpu"]) for way, rounds in found.items()}
    first = best["hand"]
    print(f"{first['texts']:,} texts of {options.dataset}, {first['different']:,} different; best of {options.rounds}")
    print(f"{'':40}{'seconds':>10}{'CPU s':>10}{'extra MB':>10}")
    for way, row in best.items():
        extra = max(round_["extra"] for round_ in found[way])
        print(f"{WAYS[way]:40}{row['seconds']:10.1f}{row['cpu']:10.1f}{extra:10.0f}")
    ratios = [best["ours"][clock] / best["hand"][clock] for clock in ("seconds", "cpu")]
    print(f"ours / by hand: {ratios[0]:.3f} in seconds, {ratios[1]:.3f} in CPU seconds")
    print(f"the same vectors: {abs(best['ours']['sum'] / best['hand']['sum'] - 1) < 1e-4}")
    print(f"load average of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
