"""A dataset whose features are written by a service on this machine, and what that service answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from .flat_dataset import FlatDataset
from .service import Received, Reply, Service, completion

ITEMS = {domain: [f"{domain}:{i}" for i in range(6)] for domain in ("food", "tool", "book")}
HISTORIES = {
    "ann": ["food:0", "tool:0", "food:1", "tool:1"],
    "bob": ["food:4", "tool:4", "book:5", "tool:0"],
    "cid": ["tool:1", "tool:2", "tool:3"],
    "eve": ["food:0", "food:1"],
}
# How the wordings of the package begin, by task.
OPENINGS = {
    "analyser": "One person chose these items",
    "summariser": "The interests of one person",
    "profile": "The history of one person",
    "generate": "The people below chose",
    "extract": "Somebody recommended items",
}


def task_of(received: Received) -> str:
    return next(task for task, opening in OPENINGS.items() if received.asked.startswith(opening))


def answering(received: Received, nth: int) -> Reply:
    texts = {
        "analyser": "likes things of kind " + received.asked.split("Title of ")[-1][:4],
        "summariser": "A person who "
        + " and ".join(line[2:] for line in received.asked.splitlines() if line.startswith("- ")),
        "profile": f"<think>hm</think>\nA person of {received.asked.count('Title of')} choices.",
        "generate": "I would suggest Red Lamp, Blue Lamp and a Green Lamp.",
        "extract": "Here they are:\n1. **Red Lamp**\n2. Blue Lamp\n3. Green Lamp\n4. red lamp",
    }
    return Reply(completion(texts[task_of(received)]))


def write_items(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [token for of in ITEMS.values() for token in of]
    columns = {
        "item_id:token": tokens,
        "domain:token": [token.split(":")[0] for token in tokens],
        "title:token_seq": [f"Title of {token}" for token in tokens],
        "category:token_seq": ["" if token.endswith("5") else f"kind {token[-1]}" for token in tokens],
    }
    pd.DataFrame(columns).to_csv(folder / "toy.item", sep="\t", index=False)


def settings(folder: Path, service: Service, **keys: Any) -> dict[str, Any]:
    write_items(folder)
    return {
        "data_path": str(folder),
        "show_progress": False,
        "profile_generator": "llm",
        "profile_clusters": 3,
        "pseudo_generator": "llm",
        "llm_generator": "openai",
        "llm_model": "m",
        "llm_base_url": service.url,
        "llm_api_key_env": "TEST_KEY",
        "llm_max_attempts": 1,
    } | keys


def toy(histories: dict[str, list[str]] | None = None, **options: Any) -> FlatDataset:
    return FlatDataset("toy", ITEMS, histories or HISTORIES, **options)


def texts(folder: Path) -> dict[str, dict[str, str]]:
    (path,) = (folder / "features").glob("profiles-*.texts.jsonl")
    return {entry["user"]: entry for entry in map(json.loads, path.read_text().splitlines())}


def asked(service: Service) -> dict[str, int]:
    counts: dict[str, int] = {}
    for received in service.requests:
        counts[task_of(received)] = counts.get(task_of(received), 0) + 1
    return counts
