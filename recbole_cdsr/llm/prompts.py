"""Item text for a text encoder, from the text columns of `.item` and a prompt file.

A prompt file says which columns are read in which order, how each is worded and where it is cut. The limits
of `item_en` are those of the LLM4CDSR release: titles and attributes 100 characters, category and description
128.
"""

from __future__ import annotations

import hashlib
import html
import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from recbole_cdsr.errors import FeatureError

DEFAULT_ITEM_PROMPT = "item_en"
MULTILINGUAL_ENCODER = "paraphrase-multilingual-MiniLM-L12-v2"
_SCRIPT_SAMPLE = 4000


@dataclass(frozen=True)
class PromptField:
    """One attribute of the item text: where it is read, how it is worded, where it is cut."""

    columns: tuple[str, ...]
    text: str
    max_chars: int


@dataclass(frozen=True)
class ItemPrompt:
    """The wording of item texts.

    Attributes
    ----------
    version : str
        `prompt_version` of the prompt file; stored with every feature set made from it.
    fields : tuple of PromptField
        Attributes in the order of the text.
    other : PromptField or None
        How columns that no field names are worded; None leaves them out.
    skip : frozenset of str
        Columns that are never text.
    separator, empty : str
        Between attributes; for an item without any (`{domain}` is replaced).
    """

    version: str
    language: str
    fields: tuple[PromptField, ...]
    other: PromptField | None
    skip: frozenset[str]
    separator: str
    empty: str


def read_prompt_file(name_or_path: str) -> dict[str, Any]:
    """Read a prompt file of the package by name (`item_en`) or one's own by path.

    Raises
    ------
    FeatureError
        When there is no such file, or it is not a YAML mapping with `name` and `version`.
    """
    inside = resources.files("recbole_cdsr.llm").joinpath("prompt_files", f"{name_or_path}.yaml")
    source = inside if inside.is_file() else Path(name_or_path)
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
    except OSError:
        raise FeatureError(
            f"There is no prompt file {name_or_path!r}: give the path of a YAML file or one of "
            f"{', '.join(packaged_prompts())}."
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a 13th month, no UTF-8
        reason = " ".join(str(error).split())
        raise FeatureError(f"The prompt file {name_or_path} is not valid YAML ({reason}).") from None
    if not isinstance(content, Mapping) or not {"name", "version"} <= set(content):
        raise FeatureError(f"The prompt file {name_or_path} must be a mapping with the keys `name` and `version`.")
    return dict(content)


@lru_cache(maxsize=1)
def packaged_prompts() -> tuple[str, ...]:
    """Names of the prompt files that come with the package."""
    folder = resources.files("recbole_cdsr.llm").joinpath("prompt_files")
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def prompt_version(name_or_path: str, content: Mapping[str, Any]) -> str:
    """`<name>-<version>` of a prompt file, and for one of the user's the first digits of its SHA-256 behind it."""
    version = f"{content['name']}-{content['version']}"
    if name_or_path in packaged_prompts():
        return version
    # Nobody remembers to raise the number in a file that is being tried out.
    digest = hashlib.sha256(repr(sorted(content.items())).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{version}-{digest[:8]}"


def load_item_prompt(name_or_path: str = DEFAULT_ITEM_PROMPT) -> ItemPrompt:
    """Load an item prompt; see `prompt_files/item_en.yaml` for the format.

    Raises
    ------
    FeatureError
        When the file is missing, or a key is missing or of a wrong type.
    """
    if name_or_path in packaged_prompts():
        return _packaged_item_prompt(name_or_path)
    return _item_prompt(name_or_path)


@lru_cache(maxsize=8)
def _packaged_item_prompt(name: str) -> ItemPrompt:
    return _item_prompt(name)


def _item_prompt(name_or_path: str) -> ItemPrompt:
    content = read_prompt_file(name_or_path)
    try:
        other = content.get("other")
        return ItemPrompt(
            version=prompt_version(name_or_path, content),
            language=str(content.get("language", "")),
            fields=tuple(_field(entry["columns"], entry) for entry in content["fields"]),
            other=_field((), other) if other else None,
            skip=frozenset(content.get("skip", ())) | {"item_id", "domain"},
            separator=str(content["separator"]),
            empty=str(content["empty"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FeatureError(
            f"The prompt file {name_or_path} lacks a key or has one of a wrong type ({error!r}); "
            "`fields` (each with `columns`, `text`, `max_chars`), `separator` and `empty` are needed."
        ) from None


def _field(columns: Sequence[str], entry: Mapping[str, Any]) -> PromptField:
    text, max_chars = entry["text"], int(entry["max_chars"])
    if "{value}" not in text or max_chars < 1:
        raise ValueError("`text` must hold {value} and `max_chars` be positive")
    return PromptField(tuple(columns), text, max_chars)


def item_texts(frame: pd.DataFrame, prompt: ItemPrompt | None = None) -> list[str]:
    """One text per row of `frame`, made of its text columns.

    Parameters
    ----------
    frame : pandas.DataFrame
        The `.item` file as strings, "" where a cell is empty; needs `item_id`, may have `domain` and text
        columns.
    prompt : ItemPrompt, optional
        The wording; the English default when omitted.

    Returns
    -------
    list of str
        In row order. An empty attribute leaves no trace in the text. Items without any text get the prompt's
        `empty` text, and their number is logged.
    """
    prompt = prompt or load_item_prompt()
    text = pd.Series("", index=range(len(frame)), dtype="str")
    for field in _present_fields(frame, prompt):
        value = _first_filled(frame, field.columns).str.slice(0, field.max_chars).str.rstrip()
        before, after = field.text.split("{value}", 1)
        piece = before + value + after
        joined = (text + prompt.separator + piece).where(text != "", piece)
        text = joined.where(value != "", text)
    without = text == ""
    if without.any():
        logging.getLogger().warning(f"{int(without.sum())} of {len(text)} items have no text at all.")
        domain = _clean(frame["domain"]) if "domain" in frame else pd.Series("", index=text.index, dtype="str")
        before, _, after = prompt.empty.partition("{domain}")
        text = text.where(~without, before + domain + after if "{domain}" in prompt.empty else prompt.empty)
    return text.tolist()


def item_titles(frame: pd.DataFrame, prompt: ItemPrompt | None = None) -> list[str]:
    """The short name of every item: the prompt's first field, or the whole item text where that is empty."""
    prompt = prompt or load_item_prompt()
    first = prompt.fields[0]
    title = _first_filled(frame, [column for column in first.columns if column in frame]).str.slice(0, first.max_chars)
    if (title == "").any():
        title = title.where(title != "", pd.Series(item_texts(frame, prompt), dtype="str"))
    return title.tolist()


def item_categories(frame: pd.DataFrame, prompt: ItemPrompt | None = None) -> list[str]:
    """The category of every item: the prompt's field that reads a column `category`; "" where there is none."""
    prompt = prompt or load_item_prompt()
    field = next((field for field in prompt.fields if "category" in field.columns), None)
    if field is None:
        return [""] * len(frame)
    found = _first_filled(frame, [column for column in field.columns if column in frame])
    return found.str.slice(0, field.max_chars).str.rstrip().tolist()


def _present_fields(frame: pd.DataFrame, prompt: ItemPrompt) -> list[PromptField]:
    """The prompt's fields cut down to the columns there are, then the columns it does not name."""
    fields = [
        PromptField(tuple(column for column in field.columns if column in frame), field.text, field.max_chars)
        for field in prompt.fields
    ]
    fields = [field for field in fields if field.columns]
    if prompt.other:
        named = prompt.skip.union(*(field.columns for field in prompt.fields))
        fields += [
            PromptField(
                (column,),
                prompt.other.text.replace("{column}", column.replace("_", " ")),
                prompt.other.max_chars,
            )
            for column in map(str, frame.columns)
            if column not in named
        ]
    return fields


def _first_filled(frame: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    value = pd.Series("", index=range(len(frame)), dtype="str")
    for column in columns:
        value = value.where(value != "", _clean(frame[column]))
    return value


def _clean(cells: pd.Series) -> pd.Series:
    """Cells without HTML entities, white space collapsed, on a fresh row index."""
    cells = cells.fillna("").astype("str").reset_index(drop=True)
    escaped = cells.str.contains("&", regex=False)
    if escaped.any():
        cells = cells.where(~escaped, cells[escaped].map(html.unescape).reindex(cells.index))
    return cells.str.replace(r"\s+", " ", regex=True).str.strip()


def non_latin_share(texts: Sequence[str]) -> float:
    """Share of letters outside the Latin script, in 0..1, over at most some thousand evenly spaced texts."""
    step = max(1, len(texts) // _SCRIPT_SAMPLE)
    letters = {char: count for char, count in Counter("".join(texts[::step])).items() if char.isalpha()}
    total = sum(letters.values())
    latin = sum(
        count for char, count in letters.items() if unicodedata.name(char, "").startswith(("LATIN", "FULLWIDTH LATIN"))
    )
    return 1.0 - latin / total if total else 0.0


def warn_of_unread_script(texts: Sequence[str]) -> bool:
    """Warn when the texts are mostly in a script that the English default encoder cannot read.

    Returns
    -------
    bool
        Whether it warned.
    """
    share = non_latin_share(texts)
    if share <= 0.5:
        return False
    logging.getLogger().warning(
        f"{share:.0%} of the letters in the item texts are not Latin, and the default encoder reads English: "
        f"set llm_encoder to a multilingual one, e.g. {MULTILINGUAL_ENCODER}."
    )
    return True
