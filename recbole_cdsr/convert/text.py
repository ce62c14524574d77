"""Text of raw files: bytes to strings without loss, HTML to plain text without touching anything else."""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Sequence
from html.entities import html5

from recbole_cdsr.data.atomic import LONGEST_CELL

# What a browser would break the line at.
_LINE_TAGS = "address article aside blockquote br center dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre section table tr ul"  # noqa: E501
_INLINE_TAGS = "a abbr acronym b bdi bdo big body caption cite code col colgroup del dfn em embed font html i iframe img input ins kbd label legend map mark meta noscript object option param q s samp select small source span strike strong sub sup tbody textarea tfoot thead time title tt u var video wbr"  # noqa: E501
_CELL_TAGS = "td th button"


_ATTRIBUTE = r"""\s+[a-zA-Z:_-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>=]+)"""


def _tag(names: str) -> str:
    # Only what HTML knows as an element is markup: `<3`, `a <b and c> d` or `<Emphasis>` in a title is text.
    return rf"</?(?:{'|'.join(names.split())})(?:{_ATTRIBUTE})*\s*/?>"


_HIDDEN = re.compile(r"<!--.*?-->|<(script|style)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
# `</p> <p>` is one break.
_LINE = re.compile(rf"{_tag(_LINE_TAGS)}(?:\s*{_tag(_LINE_TAGS)})*", re.IGNORECASE)
_INLINE, _CELL = (re.compile(_tag(names), re.IGNORECASE) for names in (_INLINE_TAGS, _CELL_TAGS))
_ENTITY = re.compile(r"&(?:[a-zA-Z][a-zA-Z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


# An item's token has its domain before it.
_LONGEST_ID = LONGEST_CELL // 2


def are_ids(tokens: Sequence[str]) -> bool:
    """Whether an atomic file can hold all of these; one look at their text together, as nearly all pass."""
    return all(tokens) and "\0" not in "".join(tokens) and max(map(len, tokens), default=0) <= _LONGEST_ID


def fault_in_ids(user: str, item: str) -> str | None:
    """Why the ids of an interaction cannot be written, None where they can."""
    for role, token in (("user", user), ("item", item)):
        if not token:
            return f"the {role} is empty"
        if "\0" in token:
            return f"the {role} is {token[:40]!r}, which holds a NUL character"
        if len(token) > _LONGEST_ID:
            return f"the {role} is longer than {_LONGEST_ID:,} characters"
    return None


def _windows_1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    # Five bytes are unused in Windows-1252; Latin-1 knows every byte.
    return "".join(
        bytes([byte]).decode("cp1252" if byte not in b"\x81\x8d\x8f\x90\x9d" else "latin-1") for byte in wrong
    ), error.end


codecs.register_error("recbole_cdsr_windows_1252", _windows_1252)


def decode(data: bytes) -> str:
    """Return UTF-8 as text; bytes that are not UTF-8 are read as Windows-1252, so that none is lost.

    `b"caf\\xe9"` becomes `café`, as does `b"caf\\xc3\\xa9"`.
    """
    return data.decode("utf-8", errors="recbole_cdsr_windows_1252")


def _character(entity: re.Match[str]) -> str:
    if entity[0].startswith("&#"):
        return html.unescape(entity[0])
    # Looked up as a whole: `html.unescape` would take the `&not` out of an unknown `&notes;`.
    return html5.get(entity[0][1:], entity[0])


def plain_text(text: str) -> str:
    """Return HTML as the text that a reader would see; everything that is no markup stays as it is.

    Tags that break a line become `\\n`, table cells a space, other tags of HTML nothing; comments, scripts and
    style sheets vanish with their content. Entities (with their semicolon) become their character, `&nbsp;` a
    space. Tabs, newlines, quotes and signs such as `<3` survive.
    """
    if "<" in text:
        text = _HIDDEN.sub("", text)
        text = _INLINE.sub("", _CELL.sub(" ", _LINE.sub("\n", text)))
    if "&" in text:
        text = _ENTITY.sub(_character, text.replace("&nbsp;", " "))
    return text.strip()


def writable(text: str) -> str:
    """Return `text` as an atomic file can hold it: without NUL, halves of characters and what exceeds a cell.

    RecBole's reader takes cells of up to 131,072 characters; the few longer descriptions are cut there.
    """
    if not text.isascii() or "\0" in text:
        text = _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    return text[:LONGEST_CELL]
