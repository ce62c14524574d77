"""Benchmark folders written by hand: cells whose ranks are given, and whose results follow from them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

CARD = {
    "name": "shop",
    "synthetic": False,
    "source": {"title": "a shop", "files": [{"name": "rows.csv", "sha256": "ab12", "bytes": 7}]},
    "converter": {"name": "csv", "options": {"domains": "book,movie", "seed": 2026}},
    "split": "loo",
    "domains": [{"name": "book", "items": 9, "interactions": 30, "users": 8}, {"name": "movie", "items": 8}],
    "users": 12,
}
FEATURES = {"made_by": "items: text encoder only (no LLM)", "llm": None, "items": {"encoder": {"name": "MiniLM"}}}
CONFIG = {
    **{"epochs": 100, "valid_metric": "NDCG@10", "select": "overall", "topk": [10], "llm_injection": "none"},
    **{"eval_seed": 1, "exclude_history": True, "candidate_domains": "target", "ties": "half"},
}


def write_cell(
    folder: Path,
    label: str,
    seed: int,
    ranks: Mapping[str, Sequence[int]] | None = None,
    *,
    model: str | None = None,
    dataset: str = "shop",
    status: str = "done",
    reason: str | None = None,
    config: Mapping[str, Any] | None = None,
    **result: Any,
) -> Path:
    """A cell; `ranks` by domain become its table of ranks and, as NDCG@10 and Hit@10, its result."""
    place = folder / "cells" / dataset / label.replace("/", "_") / f"seed-{seed}"
    place.mkdir(parents=True)
    stated = {"label": label, "model": model or label, "dataset": dataset, "seed": seed, "settings": dict(config or {})}
    stated |= {"status": status, "reason": reason, "attempts": 1, "seconds": 1.5}
    (place / "cell.json").write_text(json.dumps(stated), encoding="utf-8")
    if ranks is None:
        return place
    table = pd.DataFrame(
        [(domain, rank) for domain, of_domain in ranks.items() for rank in of_domain], columns=["domain", "full"]
    )
    table.insert(0, "row", np.arange(100, 100 + len(table)))
    table.insert(1, "user_id", [f"u{row}" for row in table["row"]])
    table.insert(2, "item_id", [f"i{row}" for row in table["row"]])
    # In another order for every seed: rows are matched by their key.
    table.sample(frac=1, random_state=seed).to_csv(place / "test_ranks.tsv", sep="\t", index=False)
    test = {
        "overall": _figures(table["full"]),
        "domains": {domain: _figures(own["full"]) for domain, own in table.groupby("domain", sort=False)},
        "groups": {"overlapped": _figures(table["full"][:4]), "single_domain": {"count": 0}},
    }
    content = {
        **{"model": model or label, "dataset": dataset, "seed": seed, "synthetic": False, "features": None},
        **{"injection": None, "fold_in": False, "eval_candidates": ["full"], "config": CONFIG | dict(config or {})},
        **{"card": CARD | {"name": dataset}, "command": f"run --model={label}", "date": "2026-11-24"},
        **{"environment": {"torch": "2.13.0", "device": "cpu"}, "best_valid_score": 0.5, "best_epoch": 1, "epochs": 3},
        **{"budget": False, "train_losses": [2.0, 1.0, 0.5], "test": test | {"full": test}},
        "valid_scores": [{"epoch": epoch, "score": score} for epoch, score in enumerate((0.1, 0.5, 0.4))],
        "seconds": {"features": 0.5, "training": 12.0, "evaluation": 1.0, "total": 14.0},
    }
    (place / "result.json").write_text(json.dumps(content | result), encoding="utf-8")
    return place


def diluted_card(name: str, ratio: float | None, **changes: Any) -> dict[str, Any]:
    """`CARD` of a dataset converted with `--overlap-ratio`, or without where that is None."""
    card = copy.deepcopy(CARD) | {"name": name, "overlapped_users": 3 if ratio is None else int(8 * ratio)} | changes
    if ratio is not None:
        card["converter"]["options"]["overlap_ratio"] = ratio
    return card


def write_grid(folder: Path, labels: Sequence[str], seeds: Sequence[int], datasets: Sequence[str] = ("shop",)) -> None:
    """A grid whose models are their own labels."""
    grid = {
        "models": [{"name": label, "model": label.partition("+")[0], "settings": {}} for label in labels],
        "datasets": [{"name": dataset, "settings": {}} for dataset in datasets],
        "seeds": list(seeds),
        "settings": {},
    }
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid), encoding="utf-8")


def _figures(ranks: pd.Series) -> dict[str, float]:
    gains = [1 / np.log2(rank + 1) if 1 <= rank <= 10 else 0.0 for rank in ranks]
    hits = [float(1 <= rank <= 10) for rank in ranks]
    return {"count": len(ranks), "ndcg@10": float(np.mean(gains)), "hit@10": float(np.mean(hits))}
