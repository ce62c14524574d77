"""Small raw files in the layouts of the Amazon releases."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# user, item, rating, Unix second; of two users one is active in both domains, with ties and events one second apart.
CLOTH = [
    ("U2", "B2", 4.0, 1_520_000_000),
    ("U1", "B1", 5.0, 1_520_000_001),
    ("U1", "B2", 3.0, 1_520_000_000),
    ("U1", "B3", 2.5, 1_520_000_002),
    ("U1", "B1", 1.0, 1_520_000_009),
]
SPORT = [
    ("U1", "B1", 2.0, 1_520_000_001),  # the same asin in another category, at the same second as one of CLOTH
    ("U3", "S9", 5.0, 1_520_000_000),
]
FILES = {"Clothing_Shoes_and_Jewelry": CLOTH, "Sports_and_Outdoors": SPORT}
HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
INTER = HEADER + (
    "U1\tcloth:B2\t3\t1520000000\n"
    "U1\tcloth:B1\t5\t1520000001\n"
    "U1\tsport:B1\t2\t1520000001\n"
    "U1\tcloth:B3\t2.5\t1520000002\n"
    "U1\tcloth:B1\t1\t1520000009\n"
    "U2\tcloth:B2\t4\t1520000000\n"
    "U3\tsport:S9\t5\t1520000000\n"
)


def write(path: Path, lines: Iterable[str | bytes], packed: bool = True) -> None:
    """Write lines, strings as UTF-8, as gzip under the name with `.gz`, or plainly."""
    content = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content, mtime=0))
    else:
        path.write_bytes(content)


def review(release: str, user: str, item: str, rating: float, second: int, **more: Any) -> str:
    """Return one review as the release writes it."""
    text = {"reviewText": 'tab\t"quote"\nline 中文 🍜', "summary": "s", "style": {"Size:": " 9"}}
    if release == "2023":
        row = {"rating": rating, "title": "t", "text": "x", "images": [], "asin": "V" + item, "parent_asin": item}
        row |= {"user_id": user, "timestamp": second * 1000 + 250, "helpful_vote": 0, "verified_purchase": True}
    else:
        row = {"overall": rating, "reviewerID": user, "asin": item, **text, "unixReviewTime": second}
    return json.dumps({**row, **more})


def write_reviews(folder: Path, release: str, five_core: bool = False, packed: bool = True) -> Path:
    """Write the reviews of both categories and return the folder."""
    pattern = {"2014": "reviews_{}.json", "2018": "{}.json", "2023": "{}.jsonl"}[release]
    if five_core:
        pattern = pattern.replace("{}", "{}_5")
    for category, rows in FILES.items():
        write(folder / pattern.format(category), [review(release, *row) for row in rows], packed)
    return folder


def write_ratings(folder: Path, release: str, packed: bool = False) -> Path:
    """Write the ratings-only files of both categories and return the folder."""
    for category, rows in FILES.items():
        lines = []
        for user, item, rating, second in rows:
            first, after = (item, user) if release == "2018" else (user, item)
            lines.append(f"{first},{after},{rating},{second * 1000 + 250 if release == '2023' else second}")
        if release == "2023":
            lines.insert(0, "user_id,parent_asin,rating,timestamp")
        write(folder / f"{'ratings_' if release == '2014' else ''}{category}.csv", lines, packed)
    return folder


def write_items(folder: Path, release: str, rows: Mapping[str, list[str | bytes]] | None = None) -> Path:
    """Write item details of both categories, `rows` by category or one bare row for each item."""
    for category, reviews in FILES.items():
        key = "parent_asin" if release == "2023" else "asin"
        plain: list[str | bytes] = [json.dumps({key: item}) for item in sorted({row[1] for row in reviews})]
        suffix = "jsonl" if release == "2023" else "json"
        write(folder / f"meta_{category}.{suffix}", (rows or {}).get(category, plain))
    return folder
