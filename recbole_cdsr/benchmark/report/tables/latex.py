r"""Tables in LaTeX, with booktabs and graphicx: `\usepackage{booktabs,graphicx}`."""

from __future__ import annotations

import re

from recbole_cdsr.benchmark.comparison import BETTER, WORSE
from recbole_cdsr.benchmark.report.tables.table import Entry, Figure, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    # After the end of a line these would be its arguments.
    "*": "{*}",
    "[": "{[}",
    "]": "{]}",
    # Signs of our own sentences, which not every font has.
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "†": r"$^{\dagger}$",
    "−": "$-$",
    "–": "--",
    "…": r"\dots{}",
}
_PATTERN = re.compile("|".join(map(re.escape, _SPECIAL)))
_MARKS = {BETTER: r"$^{*}$", WORSE: r"$^{\dagger}$", "": ""}
# Only what is wider than the page shrinks.
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
HEADER = "% Needs \\usepackage{booktabs,graphicx}; \\textquotedbl needs \\usepackage[T1]{fontenc}.\n"


def escaped(text: str) -> str:
    """Text in which nothing is a command, on one line."""
    return _PATTERN.sub(lambda found: _SPECIAL[found[0]], " ".join(text.split()))


def latex(table: Table) -> str:
    """A `table*` no wider than the page: best in bold, second underlined, marks as superscripts, notes below."""
    n_text, n_figures = len(table.text_columns), len(table.figure_columns)
    lines = [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escaped(table.caption)}.}}",
        rf"\label{{tab:{_key(table)}}}",
    ]
    lines += [r"\small", _FITTED, rf"\begin{{tabular}}{{{'l' * n_text}{'r' * n_figures}}}", r"\toprule"]
    if n_figures:
        spans, first = table.spans(), n_text + 1
        above = [rf"\multicolumn{{{width}}}{{c}}{{{escaped(name)}}}" for name, width in spans]
        lines.append(" & ".join([""] * n_text + above).lstrip() + r" \\")
        rules = []
        for _, width in spans:
            rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
            first += width
        lines.append("".join(rules))
    heads = [*table.text_columns, *(what for _, what in table.figure_columns)]
    lines.append(_line([escaped(head) for head in heads]))
    lines.append(r"\midrule")
    lines += [_line([_entry(entry) for entry in row]) for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.notes:
        notes = r"\\ ".join(escaped(note) for note in table.notes)
        lines.append(rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize {notes}\end{{minipage}}")
    return "\n".join([*lines, r"\end{table*}", ""])


def _line(entries: list[str]) -> str:
    return " & ".join(entries) + r" \\"


def _entry(entry: Entry) -> str:
    if not isinstance(entry, Figure):
        return escaped(entry) if entry else "--"
    mean = {1: rf"\textbf{{{entry.mean_text}}}", 2: rf"\underline{{{entry.mean_text}}}"}.get(
        entry.place, entry.mean_text
    )
    spread = rf" {{\scriptsize$\pm${entry.sd_text}}}" if entry.sd_text else ""
    return mean + _MARKS[entry.mark] + spread


def _key(table: Table) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", table.name)
