"""Time of the cross-entropy over all items, loss and gradients, in pieces and as PyTorch's operations, in turns.

python benchmarks/item_softmax.py [--items 36299] [--rows 2048] [--width 64] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import sys

import torch
from measuring import Stopwatch
from torch.nn import functional as F

from recbole_cdsr.model.item_softmax import item_cross_entropy


def main() -> int:
    """Print the median of each and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=36_299)
    parser.add_argument("--rows", type=int, default=2_048)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(1)
    states = torch.randn(options.rows, options.width, requires_grad=True)  # [B, H]
    table = torch.randn(options.items, options.width).mul_(0.1).requires_grad_()  # [n_items, H]
    targets = torch.randint(1, options.items, (options.rows,))  # [B]
    ways = {"pieces": item_cross_entropy, "PyTorch": lambda h, w, v: F.cross_entropy(F.linear(h, w), v)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + options.rounds):  # the first is not counted
        for name, loss in ways.items():
            with Stopwatch() as taken:
                torch.autograd.grad(loss(states, table, targets), [states, table])
            seconds[name].append(taken.wall)
    pieces, whole = (statistics.median(taken[1:]) for taken in seconds.values())
    print(
        f"{options.rows:,} rows, {options.items:,} items, width {options.width}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}: pieces {pieces:.3f} s   PyTorch {whole:.3f} s   {whole / pieces:.2f} times"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
