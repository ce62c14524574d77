"""Item names out of an answer in JSON, which may stand in other talk, or break off."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_NAME_KEYS = ("name", "title", "item", "product", "item_name", "product_name", "商品", "名称")
_BEGIN = re.compile(r"[\[{]\s*[\"\[{]")
# A text that breaks off is one piece as well, for its quotes are no beginnings to look for an end from.
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|(?P<broken>\\?\Z))|[\[\]{}]', re.DOTALL)
_CLOSING = {"[": "]", "{": "}"}
_MOST_TRIED = 100  # places where a broken value may be cut, from its end
_DEEPEST = 20  # brackets within each other; names stand in a few


def names_in_json(text: str) -> tuple[list[str] | None, bool]:
    """The names in a JSON value, alone or within talk.

    Returns
    -------
    (names, whole)
        None where there is no such value. `whole` says that the last of the names is complete, whether or not the value
        is: a name that breaks off is left out.
    """
    found: list[str] | None = None
    for opening, closing in (("[", "]"), ("{", "}")):
        begin, end = text.find(opening), text.rfind(closing)
        if begin < 0 or end <= begin or not _BEGIN.match(text[begin:]):
            continue
        try:
            content = json.loads(text[begin : end + 1])
        except (ValueError, RecursionError):
            continue
        found = list(_json_names(content))
        break
    begins = re.search(rf"^[^\S\n]*({_BEGIN.pattern})", text, re.MULTILINE)
    broken = [] if begins is None else list(_json_names(_up_to_the_break(text[begins.start(1) :])))
    # What is whole may be one entry of what is broken.
    found = broken if len(broken) > len(found or []) else found
    return found, found is not None


def _up_to_the_break(text: str) -> Any:
    """The broken value that a text begins with, as far as it goes: cut behind the last complete piece, and closed.

    None where the value is whole, so that whatever follows it counts as well.
    """
    open_ones: list[str] = []
    cuts: list[tuple[int, str]] = []  # where a piece ends, and what closes all that is open there
    for piece in _PIECE.finditer(text):
        sign = piece[0]
        if piece["broken"] is not None or len(open_ones) > _DEEPEST:
            break
        if sign in _CLOSING:
            open_ones.append(_CLOSING[sign])
            continue
        if sign in ("]", "}") and (not open_ones or open_ones.pop() != sign):
            break
        cuts.append((piece.end(), "".join(reversed(open_ones))))
        if not open_ones:
            break
    for end, closing in reversed(cuts[-_MOST_TRIED:]):
        try:
            value = json.loads(text[:end] + closing)
        except (ValueError, RecursionError):
            continue
        return value if closing or end != cuts[-1][0] else None
    return None


def _json_names(content: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list) and depth < 4:
        for entry in content:
            yield from _json_names(entry, depth + 1)
    elif isinstance(content, dict) and depth < 4:
        for key in _NAME_KEYS:
            value = next((v for k, v in content.items() if str(k).casefold() == key and isinstance(v, str)), None)
            if value is not None:
                yield value
                return
        for key, value in content.items():
            if isinstance(value, list | dict) or (str(key).strip().isdigit() and isinstance(value, str)):
                yield from _json_names(value, depth + 1)
