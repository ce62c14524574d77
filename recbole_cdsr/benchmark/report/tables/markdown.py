"""Tables in GitHub's Markdown."""

from __future__ import annotations

import re

from recbole_cdsr.benchmark.report.tables.table import Entry, Figure, Table

# What would otherwise be read as markup, in a cell or in a sentence.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~#])")


def escaped(text: str) -> str:
    """Text in which nothing is markup, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def markdown(table: Table) -> str:
    """Best in bold, second underlined, marks as they are."""
    head = [*table.text_columns, *(f"{of} {what}" for of, what in table.figure_columns)]
    lines = [[escaped(each) for each in head], ["---"] * len(table.text_columns) + ["---:"] * len(table.figure_columns)]
    lines += [[_entry(entry) for entry in row] for row in table.rows]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"- {escaped(note)}" for note in table.notes)
    return f"**{escaped(table.caption)}**\n\n{rows}\n" + (f"\n{notes}\n" if notes else "")


def _entry(entry: Entry) -> str:
    if not isinstance(entry, Figure):
        return escaped(entry) if entry else "–"
    mean = {1: f"**{entry.mean_text}**", 2: f"<u>{entry.mean_text}</u>"}.get(entry.place, entry.mean_text)
    return mean + escaped(entry.mark) + (f" ± {entry.sd_text}" if entry.sd_text else "")
