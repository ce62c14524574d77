"""Who made the features of a dataset, noted in its card, so that a card never travels without that."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recbole_cdsr.data.card import DatasetCard, as_yaml, card_lock_path, card_path, load_card
from recbole_cdsr.files import replacing
from recbole_cdsr.locks import one_at_a_time

# The section and the indented lines that belong to it; the rest of the file may be somebody's own, comments included.
_SECTION = re.compile(r"^features:.*\n?(?:[ \t]+[^ \t\r\n].*\n?)*", re.MULTILINE)


def note_features(
    dataset_dir: Path, name: str, card: DatasetCard | None, kind: str, provenance: Mapping[str, Any]
) -> None:
    """Add who made features to a dataset's card, in memory and in its file; what is noted already stays as it is.

    A file that cannot be written is a warning: results carry the card in memory.

    Parameters
    ----------
    dataset_dir : Path
        The dataset's folder.
    name : str
        The dataset's name, which its files bear.
    card : DatasetCard or None
        The card as it was loaded, changed in place; None, nothing is done, where the dataset has none.
    kind : str
        `items`, `profiles` or `pseudo`.
    provenance : mapping
        Of the features: `made_by` and the encoder's `name` are noted.

    Raises
    ------
    DataError
        When the file is no card any more.
    """
    if card is None:
        return
    entry = {"made_by": str(provenance["made_by"]), "encoder": str(provenance["encoder"]["name"])}
    _add(card, kind, entry)
    if _has(load_card(dataset_dir, name), kind, entry):
        return
    path = card_path(dataset_dir, name)
    with one_at_a_time(card_lock_path(dataset_dir, name), f"Card {path.name}"):
        written = load_card(dataset_dir, name)  # again: what others noted meanwhile stays
        if _has(written, kind, entry):
            return
        _add(written, kind, entry)
        try:
            text = path.read_bytes().decode("utf-8")  # line ends as they are
            new = _with_section(text, written)
            if new is None:
                problem = "its YAML is written in a way that a section cannot be added to"
            else:
                problem = ""
                with replacing(path, shared=True) as part:
                    part.write_bytes(new.encode("utf-8"))
        except OSError as error:
            problem = str(error.strerror)
        if problem:
            logging.getLogger().warning(
                f"{path} cannot be written ({problem}), so that it does not say who made the {kind} features; "
                "the log and the result do."
            )


def _has(card: DatasetCard | None, kind: str, entry: dict[str, str]) -> bool:
    """Whether there is nothing to write: the entry is there, or the card is not any more."""
    return card is None or entry in card.features.get(kind, [])


def _add(card: DatasetCard, kind: str, entry: dict[str, str]) -> None:
    if not _has(card, kind, entry):
        card.features = {**card.features, kind: [*card.features.get(kind, []), entry]}


def _with_section(text: str, card: DatasetCard) -> str | None:
    """The card's text with the section of its features; None where no section can stand, as in flow style."""
    line_end = "\r\n" if "\r\n" in text else "\n"
    section = as_yaml({"features": card.features}).replace("\n", line_end)
    if _SECTION.search(text):
        new = _SECTION.sub(lambda _: section, text, count=1)
    else:
        new = text + ("" if text.endswith("\n") or not text else line_end) + section
    try:
        said, wanted = yaml.safe_load(new), {**yaml.safe_load(text), "features": card.features}
    except yaml.YAMLError:
        return None
    return new if said == wanted else None
