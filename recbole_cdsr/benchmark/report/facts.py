"""What a report states beside its figures: states of cells, datasets, who made the features, machines, commands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from recbole_cdsr.benchmark.analysis import Analysis
from recbole_cdsr.benchmark.claims import by_label, role_of
from recbole_cdsr.benchmark.collect import DONE, NOT_APPLICABLE, Cell

LLM_FREE, UNKNOWN_MAKER = "no LLM", "the user's own features"
# How result files call a matrix of the user's own.
_GIVEN = "given by the user"
# Said elsewhere, or of no use to a reader.
_LEFT_OUT_OF_PROVENANCE = ("made_by", "llm", "format", "kind")


def states(analysis: Analysis) -> list[dict[str, Any]]:
    """By dataset: every label, and every seed of it with its state and reason."""
    return [
        {
            "dataset": dataset.name,
            "labels": [
                {"label": label, "role": role_of(cells), "seeds": [_state(cell) for cell in cells]}
                for label, cells in by_label(dataset.cells).items()
            ],
        }
        for dataset in analysis.datasets
    ]


def _state(cell: Cell) -> dict[str, Any]:
    return {
        "seed": cell.seed,
        "state": f"{cell.state}, budget" if cell.budget else cell.state,
        "reason": cell.reason,
        "attempts": cell.attempts,
        "done": cell.state in (DONE, NOT_APPLICABLE) and not cell.budget,
    }


def cards(analysis: Analysis) -> list[dict[str, Any]]:
    """By dataset: its card as pairs of name and text; more than one where its cells ran on different data."""
    found = []
    for dataset in analysis.datasets:
        own = [cell.result["card"] for cell in dataset.cells if cell.result.get("card")]
        # What features were made meanwhile makes no other data of them; those of each cell are a section of their own.
        own = [{key: value for key, value in card.items() if key != "features"} for card in own]
        different = list({json.dumps(card, sort_keys=True, default=str): card for card in own}.values())
        found.append(
            {
                "name": dataset.name,
                "synthetic": dataset.synthetic,
                "cards": [list(_card_facts(card)) for card in different],
                "files": [list(_source_files(card)) for card in different],
                "domains": [card.get("domains") or [] for card in different],
            }
        )
    return found


def _source_files(card: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for file in (card.get("source") or {}).get("files") or []:
        yield {"name": "?", **file} if isinstance(file, dict) else {"name": str(file)}


def features(analysis: Analysis) -> list[dict[str, Any]]:
    """By dataset and label: who made the text features, the language model that took part, and every detail."""
    found: dict[str, dict[str, Any]] = {}
    for cell in _finished(analysis):
        for kind in ("features", "pseudo_items"):
            made = cell.result.get(kind)
            if not made:
                continue
            stated = {
                "dataset": cell.dataset,
                "kind": "pseudo items" if kind == "pseudo_items" else "item features and profiles",
                "made_by": made.get("made_by") or "unknown",
                "tag": _who_wrote(made),
                "permuted": made.get("permute_seed") is not None,
                "details": list(_flat({key: made[key] for key in made if key not in _LEFT_OUT_OF_PROVENANCE})),
            }
            key = json.dumps(stated, sort_keys=True, default=str)
            labels = found.setdefault(key, stated | {"labels": []})["labels"]
            if cell.label not in labels:
                labels.append(cell.label)
    return list(found.values())


def _who_wrote(made: Mapping[str, Any]) -> str:
    llm = made.get("llm") or (made.get("generator") or {}).get("llm")  # of profiles; of pseudo items
    if llm:
        return f"LLM: {llm}"
    return UNKNOWN_MAKER if _GIVEN in str(made.get("made_by")) else LLM_FREE


def feature_headline(analysis: Analysis) -> str:
    """Whether a language model took part in the text features, in a few words; empty where there are none."""
    tags = {made["tag"] for made in features(analysis)}
    if not tags:
        return ""
    if tags == {LLM_FREE}:
        return "LLM-free features: no LLM took part."
    llms = sorted(tags - {LLM_FREE, UNKNOWN_MAKER})
    unknown = ["some features are the user's own, and what made them is not recorded"] if UNKNOWN_MAKER in tags else []
    return f"Text features: {'; '.join([*llms, *unknown])}."


def makers(analysis: Analysis) -> list[str]:
    """Who made the text features of all cells, each once."""
    stated = [part for made in features(analysis) for part in str(made["made_by"]).split("; ")]
    return list(dict.fromkeys(stated))


def environments(analysis: Analysis) -> list[dict[str, Any]]:
    """Every environment that cells ran in, with how many did."""
    found: dict[str, dict[str, Any]] = {}
    for cell in _finished(analysis):
        stated = cell.result.get("environment") or {}
        key = json.dumps(stated, sort_keys=True, default=str)
        found.setdefault(key, {"facts": list(_flat(stated)), "cells": 0})["cells"] += 1
    return list(found.values())


def commands(analysis: Analysis) -> list[dict[str, Any]]:
    """The command of every finished cell, and the settings that the grid gave it."""
    return [
        {
            "dataset": cell.dataset,
            "label": cell.label,
            "seed": cell.seed,
            "command": cell.result.get("command") or "not recorded",
            "settings": json.dumps(cell.settings, ensure_ascii=False, default=str) if cell.settings else "",
        }
        for cell in _finished(analysis)
    ]


def _finished(analysis: Analysis) -> list[Cell]:
    return [cell for cell in analysis.cells if cell.state in (DONE, NOT_APPLICABLE)]


def _card_facts(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    converter, rows = card.get("converter") or {}, card.get("rows") or {}
    options = " ".join(f"{key}={value}" for key, value in (converter.get("options") or {}).items())
    if card.get("synthetic"):
        yield "synthetic", "yes: made by a program, nothing in it is of real users"
    for name in ("description", "split"):
        if card.get(name):
            yield name, str(card[name])
    if title := (card.get("source") or {}).get("title"):
        yield "source", str(title)
    if converter:
        yield "converter", f"{converter.get('name', '?')} {options}".strip()
    if rows:
        yield "rows of the source", ", ".join(f"{number_text(value)} {key}" for key, value in rows.items())
    for sentence in card.get("filters") or []:
        yield "filter", str(sentence)
    counts = {"users": "users", "overlapped_users": "overlapped users", "single_domain_users": "single-domain users"}
    for key, name in (counts | {"interactions": "interactions"}).items():
        if key in card:
            yield name, number_text(card[key])
    if card.get("density"):
        yield "density", f"{card['density']:.2e}"
    if lengths := card.get("sequence_length"):
        yield "interactions per user", ", ".join(f"{key} {value:g}" for key, value in lengths.items())
    for part, counts in (card.get("splits") or {}).items():
        yield part, ", ".join(f"{number_text(value)} {key}" for key, value in counts.items())


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as pairs of a dotted name and text."""
    for key, value in facts.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif value is not None:
            yield name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def number_text(value: Any) -> str:
    """A whole number with separators; anything else as it is."""
    return f"{value:,}" if isinstance(value, int) else str(value)
