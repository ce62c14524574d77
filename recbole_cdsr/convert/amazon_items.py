"""Item details of the Amazon releases: title, brand or store, category, price, rating and description.

Release 2014 writes Python literals, which are read with `ast.literal_eval` (it knows constants and containers and
calls nothing); a pattern finds the rows of items that are wanted first, as it is slow. Releases 2018 and 2023 write
JSON lines.
"""

from __future__ import annotations

import ast
import logging
import re
import warnings
from collections.abc import Container, Iterator, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from recbole_cdsr.convert.json_lines import JsonLines
from recbole_cdsr.convert.raw_file import RawFile
from recbole_cdsr.convert.text import decode, plain_text

_COLUMNS = ("title", "brand", "category", "price", "rating", "description")
_LITERAL_ID = re.compile(rb"""['"]asin['"]\s*:\s*(?:'([^'\\]*)'|"([^"\\]*)")""")
# Pages scraped in 2018 left style sheets where some prices should be, and scripts where some titles should be: the
# clock that such a page starts, or a script that begins the title. A script in its own tags is gone as markup.
_LONGEST_PRICE = 60
_SCRIPT = re.compile(
    r"\bnew Date\s*(?:\(\))?\s*\)?\.getTime\("
    r"|^(?:(?i:<script\b)|(?:var|let|const)\s+[\w$]+\s*=|[!(]\s*function\b|(?:window|document)\.[\w$.]+\s*[=(])"
)


class _Item(msgspec.Struct, gc=False):
    """Details of 2018 and 2023; values are of any kind, as the scraped pages were."""

    asin: str = ""
    parent_asin: str = ""
    title: Any = None
    brand: Any = None
    store: Any = None
    category: Any = None
    categories: Any = None
    main_cat: Any = None
    main_category: Any = None
    price: Any = None
    average_rating: Any = None
    features: Any = None
    description: Any = None


def text_types(release: str) -> dict[str, str]:
    """Return RecBole's type of each text column; only 2023 publishes `features` apart from the description.

    `rating` is the published average. Releases 2014 and 2018 state none, and it is left empty: an average taken of
    the reviews would tell the targets of validation and test.
    """
    columns = (*_COLUMNS[:-1], "features", _COLUMNS[-1]) if release == "2023" else _COLUMNS
    return dict.fromkeys(columns, "token_seq")


def read_items(file: RawFile, release: str, wanted: Container[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield (asin, text per column) of the items wanted; rows of others are only counted.

    A title that is a script of the scraped page says nothing of the item: it is left empty and counted for the card.
    """
    read = _read_literals if release == "2014" else _read_json
    columns = list(text_types(release))
    title = columns.index("title")
    scripts = 0
    for item_id, item in read(file, wanted, "parent_asin" if release == "2023" else "asin"):
        cells = [_CELLS[column](item) for column in columns]
        if _SCRIPT.search(cells[title]):
            cells[title] = ""
            scripts += 1
        yield item_id, cells
    if scripts:
        file.counted["titles_of_script"] = scripts
        logging.getLogger().warning(
            "%s: %d of the items have JavaScript of the scraped page for a title in %s; their titles are left empty.",
            file.domain,
            scripts,
            file.path.name,
        )


def _read_json(file: RawFile, wanted: Container[str], key: str) -> Iterator[tuple[str, _Item]]:
    reader = JsonLines(
        _Item,
        lambda items: all(map(attrgetter(key), items)),
        lambda item: None if getattr(item, key) else f"there is no {key}",
    )
    for items in reader.read(file):
        for item in items:
            if (item_id := getattr(item, key)) in wanted:
                yield item_id, item


def _read_literals(file: RawFile, wanted: Container[str], key: str) -> Iterator[tuple[str, _Item]]:
    for number, line in file.lines():
        file.rows += 1
        found = _LITERAL_ID.findall(line)
        if found and not any(decode(single or double) in wanted for single, double in found):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)  # unknown escapes in titles are kept as they stand
                row = ast.literal_eval(decode(line).strip())
            if not isinstance(row, dict) or not isinstance(row.get(key), str) or not row[key]:
                raise ValueError(f"there is no {key}")
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            file.report_malformed(number, f"no Python literal with an {key}: {error}")
            continue
        if row[key] in wanted:
            known = {name: value for name, value in row.items() if name in _Item.__struct_fields__}
            yield row[key], _Item(**known)


def _title(item: _Item) -> str:
    return _joined(item.title, " ")


def _brand(item: _Item) -> str:
    return _joined(item.brand, " ") or _joined(item.store, " ")


def _category(item: _Item) -> str:
    """Return the path as `A > B > C`; several paths (2014) joined by ` | `."""
    levels = item.category or item.categories or ()
    if isinstance(levels, (list, tuple)) and levels and isinstance(levels[0], (list, tuple)):
        return " | ".join(filter(None, (_joined(path, " > ") for path in levels)))
    return _joined(levels, " > ") or _joined(item.main_cat, " ") or _joined(item.main_category, " ")


def _price(item: _Item) -> str:
    price = _joined(item.price, " ")
    return "" if len(price) > _LONGEST_PRICE or "{" in price else price


def _rating(item: _Item) -> str:
    return _joined(item.average_rating, " ")


def _features(item: _Item) -> str:
    return _joined(item.features, "\n")


def _description(item: _Item) -> str:
    return _joined(item.description, "\n")


_CELLS = {
    "title": _title,
    "brand": _brand,
    "category": _category,
    "price": _price,
    "rating": _rating,
    "features": _features,
    "description": _description,
}


def _joined(value: Any, separator: str) -> str:
    """Return a scalar or a list of them as plain text; parts that hold nothing but markup vanish."""
    if value is None or isinstance(value, (bool, dict)):
        return ""
    if isinstance(value, (list, tuple)):
        return separator.join(filter(None, (_joined(part, separator) for part in value)))
    return plain_text(value if isinstance(value, str) else str(value))
