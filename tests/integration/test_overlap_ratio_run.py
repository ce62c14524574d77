"""Datasets at an overlap ratio, from raw files to results."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.cli import main

SETTINGS = {"epochs": 1, "use_gpu": False, "show_progress": False, "train_batch_size": 64, "eval_candidates": "[uni5]"}


@pytest.fixture
def shop() -> Path:
    """`data/half` and `data/whole`: forty users of two domains, at a ratio of one half and of one."""
    random = np.random.default_rng(0)
    for domain in ("book", "movie"):
        rows = [
            f"u{user},{domain[0]}{item},{random.integers(0, 10_000)}"
            for user in range(40)
            for item in random.choice(15, 3, replace=False)
        ]
        Path(f"{domain}.csv").write_text("\n".join(["user,item,time", *rows]), encoding="utf-8")
    given = ["--domain", "book=book.csv", "--domain", "movie=movie.csv", "--out", "data"]
    given += ["--user-col", "user", "--item-col", "item", "--time-col", "time"]
    for name, ratio in (("half", "0.5"), ("whole", "1")):
        assert main(["convert", "csv", "--name", name, *given, "--overlap-ratio", ratio]) == 0
    return Path("data").absolute()


def test_models_run_at_every_ratio_and_a_user_table_is_warned_about(shop, read_json, caplog):
    def run(model: str, dataset: str, **settings: object) -> dict:
        caplog.clear()
        values = SETTINGS | {"data_path": shop, "result_file": f"{model}-{dataset}.json"} | settings
        arguments = [f"--{key}={value}" for key, value in values.items()]
        with caplog.at_level(logging.WARNING):
            assert main(["run", f"--model={model}", f"--dataset={dataset}", *arguments]) == 0
        return read_json(f"{model}-{dataset}.json")

    def undiluted() -> bool:
        return "the ratio does not apply to it" in caplog.text

    for dataset in ("half", "whole"):
        result = run("SASRecBCE", dataset, hidden_size=16)
        assert not undiluted()
        assert result["epochs"] == 1
    run("BPR", "whole")
    assert not undiluted()
    assert run("BPR", "half")["fold_in"] is True
    assert undiluted()
    run("BPR", "half", fold_in=False)
    assert not undiluted()
    assert "n/a" in caplog.text
