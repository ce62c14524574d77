"""Write the report of a benchmark into a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from recbole_cdsr.benchmark.analysis import Analysis
from recbole_cdsr.benchmark.report.page import page
from recbole_cdsr.benchmark.report.tables.contents import all_tables
from recbole_cdsr.benchmark.report.tables.latex import HEADER, latex
from recbole_cdsr.benchmark.report.tables.markdown import escaped, markdown
from recbole_cdsr.errors import DataError
from recbole_cdsr.files import replacing

HTML, MARKDOWN, LATEX = "report.html", "report.md", "tables.tex"
RESULTS, COMPARISON, CELLS = "results.csv", "comparison.csv", "cells.csv"


def write_report(folder: Path, output: Path | None = None) -> list[Path]:
    """Everything that finished cells say, as a page, tables and data.

    Parameters
    ----------
    folder
        Of the benchmark. Cells may still be running or missing: they are named as such.
    output
        Folder to write to; None: `report` in `folder`.

    Returns
    -------
    list[Path]
        `report.html`, `report.md`, `tables.tex`, `results.csv` (every figure), `comparison.csv` (every test) and
        `cells.csv` (every cell with its state).

    Raises
    ------
    DataError
        The folder is no benchmark's, or the report cannot be written.
    """
    folder = Path(folder)
    output = folder / "report" if output is None else Path(output)
    analysis = Analysis.of_folder(folder)
    title = folder.resolve().name
    tables = all_tables(analysis)
    # In this order, so that the figures are there whatever becomes of the page.
    texts: dict[str, Callable[[], str]] = {
        RESULTS: lambda: _csv(analysis.summary),
        COMPARISON: lambda: _csv(comparison_frame(analysis)),
        CELLS: lambda: _csv(analysis.cells_frame),
        MARKDOWN: lambda: "\n".join([f"# {escaped(title)}\n", *map(markdown, tables)]),
        LATEX: lambda: "\n".join([HEADER, *map(latex, tables)]),
        HTML: lambda: page(analysis, title),
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            content = text()
            with replacing(output / name) as part:
                part.write_text(content, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"The report cannot be written to {output} ({error.strerror}); name another folder.") from error
    return [output / name for name in (HTML, MARKDOWN, LATEX, RESULTS, COMPARISON, CELLS)]


def comparison_frame(analysis: Analysis) -> pd.DataFrame:
    """The tests of all comparisons: `Comparison.tests` with dataset, candidate set, reference, and why no claim."""
    frames = [
        comparison.tests.drop(columns="favours").assign(
            dataset=dataset.name,
            candidates=comparison.candidates,
            reference=comparison.reference.label,
            family=comparison.family,
            no_claim=comparison.tests["label"].map(comparison.no_claim),
        )
        for dataset in analysis.datasets
        for comparison in dataset.comparisons.values()
    ]
    keys = ["dataset", "candidates", "reference", "label", "domain"]
    if not frames:
        return pd.DataFrame(columns=keys)
    frame = pd.concat(frames, ignore_index=True).astype({"rows": "int64", "differing": "int64"})
    return frame[keys + [name for name in frame.columns if name not in keys]]


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")
