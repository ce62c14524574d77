"""The worked example of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recbole_cdsr.benchmark.analysis import Analysis

from . import benchmark_folder
from .benchmark_folder import FEATURES, diluted_card, write_cell, write_grid

MISS = 20
BOOKS, MOVIES = 8, 6


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A benchmark with two baselines and two contenders; every figure of it is worked out in `test_comparison.py`.

    NDCG@10 is 1 at rank 1, 1/2 at rank 3, 1/3 at rank 7, and 0 beyond rank 10.
    """
    folder = tmp_path / "bench"
    nothing = {"book": [MISS] * BOOKS, "movie": [MISS, MISS, MISS, MISS, MISS, 7]}
    for seed in (1, 2, 3):
        # Best on test, not on validation: (0.30 + 0.40 + 0.35) / 3 = 0.35.
        ranks = {"book": [1] * BOOKS, "movie": [1] * MOVIES}
        write_cell(folder, "SASRec", seed, ranks, best_valid_score=(0.3, 0.4, 0.35)[seed - 1])
        # Best on validation: (0.5 + 0.3 + 0.4) / 3 = 0.4.
        write_cell(folder, "BPR", seed, nothing, best_valid_score=(0.5, 0.3, 0.4)[seed - 1])
        # Books: ranks 1, 3 and 7 over the seeds in every row. Movies: the rows end at 1/2, 1, 5/6, 0, 0 and 0.
        book = [(1, 3, 7)[seed - 1]] * BOOKS
        movie = [3, 1, (1, 1, 3)[seed - 1], MISS, MISS, MISS]
        write_cell(folder, "LLM4CDSR", seed, {"book": book, "movie": movie}, features=FEATURES)
    for seed in (1, 2):
        # Two seeds only: books as the reference, movies all better.
        ranks = {"book": [MISS] * BOOKS, "movie": [1, 1, 3, 3, 7, 3]}
        write_cell(
            folder,
            "SASRec+llm",
            seed,
            ranks,
            model="SASRec",
            config={"llm_injection": "init"},
            injection={"mode": "init"},
            features=FEATURES,
            best_valid_score=0.9,
        )
    write_grid(folder, ["LLM4CDSR", "SASRec+llm", "SASRec", "BPR"], [1, 2, 3])
    return folder


@pytest.fixture
def analysis(example: Path) -> Analysis:
    """Of the worked example."""
    return Analysis.of_folder(example)


@pytest.fixture
def dilemma(tmp_path: Path) -> Path:
    """The backbone, and BPR with folded-in histories, at overlap ratios of 1, 1/4 and 1/2."""
    for ratio, ranks in ((1, [1, 1, 1, 1]), (0.25, [1, 3, MISS, MISS]), (0.5, [1, 1, MISS, MISS])):
        card = diluted_card(f"shop{ratio}", ratio)
        for label, fold_in in (("SASRecBCE", False), ("BPR", True)):
            write_cell(tmp_path, label, 1, {"book": ranks}, dataset=card["name"], card=card, fold_in=fold_in)
    return tmp_path


@pytest.fixture
def cell() -> Callable[..., Path]:
    """`benchmark_folder.write_cell`."""
    return benchmark_folder.write_cell


@pytest.fixture
def grid() -> Callable[..., None]:
    """`benchmark_folder.write_grid`."""
    return benchmark_folder.write_grid
