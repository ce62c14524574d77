"""What LLM features inside a table cost: a training step and judging, against a plain `nn.Embedding`.

`python benchmarks/injection_step.py [--items 36300] [--features 384] [--width 64] [--rounds 3]`

Two steps are timed on random data: `softmax` looks up a batch of windows and scores all items (SASRec with
cross-entropy), `pairs` looks up the windows and one item per row. Times are processor time of one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import process_time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_cdsr.model.injected_embedding import AdaptedEmbedding, ConcatenatedEmbedding, FrozenEmbedding


def contenders(n_rows: int, n_features: int, width: int) -> dict[str, nn.Embedding]:
    """A plain table and what takes its place in every mode, by name."""
    table = nn.Embedding(n_rows, width, padding_idx=0)
    known = torch.arange(n_rows) > 0
    features = torch.randn(n_rows, n_features) * n_features**-0.5 * known.unsqueeze(1)
    return {
        "none, init": table,
        "frozen": FrozenEmbedding(table, known, torch.randn(n_rows, width)),
        "adapter": AdaptedEmbedding(table, known, features, None, 0.02),
        "adapter, hidden layer": AdaptedEmbedding(table, known, features, n_features // 2, 0.02),
        "concat": ConcatenatedEmbedding(table, known, features, 0.02),
    }


def windows(n_rows: int, n_windows: int, length: int) -> Tensor:
    """Item ids ``[n_windows, length]``, popular ones often, most of a window padding."""
    ids = (torch.rand(n_windows, length) ** 3 * n_rows).long()
    return ids * (torch.rand(n_windows, length) > 0.6)


def milliseconds(action: Callable[[], object], rounds: int) -> float:
    """Mean processor time of an action, after one that is not counted."""
    action()
    start = process_time()
    for _ in range(rounds):
        action()
    return (process_time() - start) / rounds * 1000


def main() -> None:
    """Print a line per mode."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("items", 36300), ("features", 384), ("width", 64), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ids = windows(chosen.items, 512, 50)
    states = torch.randn(512, chosen.width, requires_grad=True)
    targets = torch.randint(1, chosen.items, (512,))

    def step(table: nn.Embedding, softmax: bool) -> None:
        table.zero_grad()
        history = table(ids).sum() * 1e-3
        if softmax:
            loss = F.cross_entropy(states @ table.weight.T, targets)
        else:
            loss = (states * table(targets)).sum()
        (loss + history).backward()

    def judge(table: nn.Embedding) -> None:
        table.eval()  # drops what is kept
        with torch.no_grad():
            _ = table.weight

    print(f"{chosen.items} items, {chosen.features} features into width {chosen.width}, 512 windows of 50, ms:")
    for name, table in contenders(chosen.items, chosen.features, chosen.width).items():
        table.train()
        softmax = milliseconds(lambda table=table: step(table, True), chosen.rounds)
        pairs = milliseconds(lambda table=table: step(table, False), chosen.rounds)
        judging = milliseconds(lambda table=table: judge(table), chosen.rounds)
        print(f"{name:22} softmax {softmax:7.0f}   pairs {pairs:6.1f}   whole table when judging {judging:6.1f}")


if __name__ == "__main__":
    main()
