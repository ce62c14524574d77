"""Item names out of an LLM's answer, whatever way it lists them.

Models number (`1.`, `(1)`, `1、`, `①`), bullet, quote, bold, answer in JSON or a table, think aloud, greet, explain
and repeat themselves. `item_names` gives the names in the order of the answer, each once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

from recbole_cdsr.llm.json_names import names_in_json

LONGEST_NAME = 300
_LONG_LINE = 160
_LONGEST_RAW = 5000  # of what is listed, with its links and explanation

_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"\A.*</(?:think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^\s*(?:```|~~~)\w*\s*$", re.MULTILINE)
_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳"
_NUMBERED = re.compile(
    rf"^\s*(?:>\s*)?(?:#+\s+)?(?:[-*+•]\s+)?(?P<bold>\*\*\*|\*\*|__|\*|_)?"
    rf"(?:[(\[（【]\s*(?P<in>\d{{1,3}})\s*[)\]）】](?!\(\w+://)[.:：、]?"
    rf"|(?:no\.?|item|product|title|recommendation|#|第)?\s*(?P<n>\d{{1,3}})\s*"
    rf"(?:[)\]）、．:：]|\.(?!\d)|\s[-–—](?=\s)|个[:：]?|(?=\s*\*\*\s))"
    rf"|(?P<circled>[{_CIRCLED}])[.、:：]?)"
    rf"(?P<closed>(?(bold)(?P=bold)))?\s*(?P<text>.*)$",
    re.IGNORECASE,
)
_BULLET = re.compile(r"^\s*(?:>\s*)?(?:[-+•‣◦▪●○·*–—]|→|✓|✔)\s+(?:\[[ xX]\]\s+)?(?P<text>.*)$")
_LIST_TAG = re.compile(r"<li\b[^<>]*>", re.IGNORECASE)
_BREAK_TAG = re.compile(r"<br\b[^<>]*>|</(?:li|p|div|h[1-6])\s*>", re.IGNORECASE)
_TAG = re.compile(r"</?(?:ol|ul|li|br|p|div|span|b|i|em|strong|h[1-6])\b[^<>]*>", re.IGNORECASE)
_BLANKS = re.compile(r"[^\S\n]{2,}")
_BLANK_LINES = re.compile(r"\n\s*\n")
_OTHER_MARKS = (
    ("abcdefghijklmnopqrst", re.compile(r"^\s*\(?(?P<mark>[A-Za-z])[.):]\s+(?P<text>\S.*)$")),
    (
        ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"),
        re.compile(r"^\s*\(?(?P<mark>[IVXivx]+)[.):]\s+(?P<text>\S.*)$"),
    ),
    (tuple(map(str, range(1, 51))), re.compile(r"^\s*(?P<mark>\d{1,2})\s+(?P<text>\S.*)$")),
)
_INLINE = re.compile(r"(?:(?<=\s)|(?<=^)|(?<=[,;，；。]))(?P<n>\d{1,2})[.)、．]\s*(?=\S)")
_LABEL = re.compile(
    r"^(?:item|product|title|name|book|movie|film|game|商品|名称|书名|片名)(?:\s*name)?\s*[:：]\s*", re.IGNORECASE
)
_LINK = re.compile(r"!?\[([^\]]+)\]\([^)]*\)")
_QUOTED = re.compile(r"[\"“「《][^\"”」》]+[\"”」》]")
# There is one way only to divide the blanks between two names: with two, long rows that are none would take for ever.
_QUOTED_ROW = re.compile(rf"(?:{_QUOTED.pattern}\s*(?:(?:[,;、，；]|and|和)\s*)?){{2,}}\.?")
_TABLE_RULE = re.compile(r"^[\s|:+-]+$")
_NAME_COLUMN = re.compile(r"name|title|item|product|recommend|名|商品|推荐", re.IGNORECASE)
_NOTHING = frozenset({"n/a", "na", "none", "null", "nil", "unknown", "...", "…", "无", "没有", "name", "item", "title"})
_QUOTES = {'"': '"', "“": "”", "'": "'", "‘": "’", "«": "»", "„": "“", "「": "」", "『": "』", "《": "》", "`": "`"}
_TALK = re.compile(
    r"^(?:sure|certainly|of course|okay|ok\b|here (?:are|is)|here's|based on|note\b|please|let me|hope|in summary"
    r"|i (?:would|hope|think|recommend|suggest|have|am|can)|i'(?:m|d|ve|ll)\b|as an?\b.*\b(?:ai|model|assistant)"
    r"|these|this (?:user|list)|the (?:user|following|names?|items?)\b|thank|you (?:may|might|can)|feel free|sorry"
    r"|unfortunately|reason(?:ing|s)?\b|because|当然|好的|以下|根据|希望|这些|抱歉|注意|如果|请)",
    re.IGNORECASE,
)
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Co", "Cn"})


def item_names(answer: str | None, max_names: int | None = None, truncated: bool = False) -> list[str]:
    """The item names an answer lists.

    Parameters
    ----------
    answer : str or None
        What the model wrote; None and "" have no names.
    max_names : int, optional
        The first so many are kept.
    truncated : bool
        The answer was cut off at the token limit, so that its last name may be half a name and is left out.

    Returns
    -------
    list of str
        In the order of the answer; no line break, no markup, at most `LONGEST_NAME` characters each. Names that
        differ in case, width or blanks only are one name, spelled as it came first.
    """
    text = visible_text(answer or "")
    found, whole = names_in_json(text)
    if found is None:
        found, whole = list(_raw_names(text)), False
    if truncated and not whole and len(found) > 1:
        found.pop()
    names: dict[str, str] = {}
    for raw in found:
        name = _cleaned(raw)
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        if any(character.isalnum() for character in key) and key not in _NOTHING:
            names.setdefault(key, name)
    return list(names.values())[:max_names]


def visible_text(answer: str) -> str:
    """An answer without thoughts, fences, rows of blanks and characters that no file could hold."""
    text = answer.encode("utf-8", "ignore").decode("utf-8")
    text = _THOUGHT_END.sub("", _THOUGHT.sub("", text))
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _UNSEEN)
    text = _TAG.sub("", _BREAK_TAG.sub("\n", _LIST_TAG.sub("\n- ", text)))
    # A model that got stuck writes thousands of them, and patterns try each as a beginning. A tab stays one: within its
    # texts JSON has none.
    text = _BLANKS.sub(lambda row: "\t" if "\t" in row[0] else " ", text)
    text = _BLANK_LINES.sub("\n", text)
    return _FENCE.sub("", text).strip()


def _raw_names(text: str) -> Iterator[str]:
    lines = [line for line in text.split("\n") if line.strip()]
    table = _from_table(lines)
    if table:
        yield from table
        return
    marked = _from_list(lines)
    if len(marked) < 2:
        inline = _from_one_line(text)
        if len(inline) > max(1, len(marked)):
            marked = inline
    if marked:
        yield from marked
        return
    if len(lines) == 1 and len(pieces := re.split(r"[;；、]", text)) > 2:
        lines = pieces
    for line in lines:
        stripped = line.strip()
        if _QUOTED_ROW.fullmatch(stripped):
            yield from _QUOTED.findall(stripped)
        elif not (_is_heading(stripped) or _TALK.match(stripped.lstrip("*_#> ")) or len(stripped) > LONGEST_NAME):
            yield stripped


def _from_table(lines: list[str]) -> list[str]:
    """The column of names of a Markdown table."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if line.count("|") >= 2]
    rule = next((i for i, line in enumerate(lines) if "|" in line and "-" in line and _TABLE_RULE.match(line)), None)
    if rule is None or len(rows) < 3:
        return []
    header, *body = [row for row in rows if not all(_TABLE_RULE.match(cell or "-") for cell in row)]
    column = next((i for i, cell in enumerate(header) if _NAME_COLUMN.search(cell)), None)
    if column is None:
        column = 1 if len(header) > 1 and all(row[0].strip("*. ").isdigit() for row in body) else 0
    return [row[column] for row in body if len(row) > column]


def _from_list(lines: list[str]) -> list[str]:
    """Numbered lines; where there are none, or as headings only, bulleted ones."""
    numbered: list[str] = []
    below_headings: list[str] = []
    bulleted: list[str] = []
    under_heading = False
    counted = _counts(lines)
    for line in lines:
        if counted and (match := _NUMBERED.match(line)):
            text = match["text"].strip()
            if match["bold"] and not match["closed"]:
                text = text.removesuffix(match["bold"])  # of a whole line in bold
            under_heading = _is_heading(text)
            if text and not under_heading:
                numbered.append(text)
        elif match := _BULLET.match(line):
            text = match["text"].strip()
            if not _is_heading(text):
                bulleted.append(text)
                if under_heading:
                    below_headings.append(text)
    if numbered and below_headings and len(below_headings) <= len(numbered):
        return numbered
    return below_headings or numbered or bulleted or _from_other_marks(lines)


def _counts(lines: list[str]) -> bool:
    """Whether the numbers that lines begin with are those of a list, not of titles such as `300: Rise of an Empire`.

    A list begins with 1 (or 0), or some number follows another, or most lines have numbers that grow; among lines of
    other kinds a number alone is no list.
    """
    matches = [_NUMBERED.match(line) for line in lines]
    marked = [match for match in matches if match is not None]
    if any(match["circled"] for match in marked) or len(marked) == len(lines):
        return bool(marked)
    numbers = [int(match["n"] or match["in"]) for match in marked]
    if {0, 1} & set(numbers) or any(after == before + 1 for before, after in pairwise(numbers)):
        return True
    return len(numbers) > max(1, len(lines) // 2) and numbers == sorted(set(numbers))


def _from_other_marks(lines: list[str]) -> list[str]:
    """Lines marked `a)`, `I.` or with a bare number; the marks must count up from the first."""
    for marks, pattern in _OTHER_MARKS:
        found: list[str] = []
        for line in lines:
            match = pattern.match(line)
            if match and len(found) < len(marks) and match["mark"].casefold() == marks[len(found)]:
                found.append(match["text"])
        if len(found) > 1:
            return found
    return []


def _from_one_line(text: str) -> list[str]:
    """`1. first 2. second 3. third` in running text; the numbers must count up from 1."""
    marks = []
    for match in _INLINE.finditer(text):
        if int(match["n"]) == len(marks) + 1:
            marks.append(match)
    ends = [*(match.start() for match in marks[1:]), len(text)][: len(marks)]
    pieces = [text[match.end() : end] for match, end in zip(marks, ends, strict=True)]
    return [piece.split("\n")[0].strip().rstrip(",;，；") for piece in pieces]


def _is_heading(text: str) -> bool:
    return text.rstrip("*_ `").endswith((":", "：")) or bool(re.match(r"^#+\s", text))


def _cleaned(raw: str) -> str:
    """A name without markup, quotes, label, and the explanation behind it where it can be told."""
    text = _LINK.sub(r"\1", " ".join(raw.split())[:_LONGEST_RAW])
    for _ in range(3):  # quotes in bold, bold in quotes, labels in either
        text = _unquoted(_emphasised(_LABEL.sub("", text)))
    if len(text) > _LONG_LINE:  # a title and a sentence about it
        text = re.split(r"\s[-–—]\s|[:：]\s|\s\(", text, maxsplit=1)[0]
    text = text.replace("**", "").replace("__", "").replace("`", "").strip()
    return text[:LONGEST_NAME].strip().rstrip(",;，；。").strip()


def _emphasised(text: str) -> str:
    """What stands in bold or italics at the beginning, if only an explanation follows; else the text."""
    match = re.match(r"^(\*\*\*|\*\*|__|\*|_)(?P<name>\S(?:.*?\S)?)\1(?P<rest>.*)$", text)
    if not match:
        return text
    name, rest = match["name"].strip(), match["rest"]
    if not rest.strip() or name.endswith((":", "：")) or re.match(r"\s*(?:[-–—:：(（,，;]|by\b|is\b|because\b)", rest):
        label = _LABEL.fullmatch(name + " ") or (name.endswith((":", "：")) and _LABEL.match(name))
        return rest.strip() if label and rest.strip() else name.rstrip(":：").strip()
    return text


def _unquoted(text: str) -> str:
    """What stands in quotation marks at the beginning, if only an explanation follows; else the text."""
    closing = _QUOTES.get(text[:1])
    if closing is None:
        return text
    end = text.rfind(closing, 1) if text.endswith((closing, closing + ".", closing + ",")) else text.find(closing, 1)
    if end <= 1:
        return text
    rest = text[end + 1 :]
    if not rest.strip(" .,;") or re.match(r"\s*(?:[-–—:：(（,，;。]|by\b|is\b|because\b)", rest):
        return text[1:end].strip()
    return text
