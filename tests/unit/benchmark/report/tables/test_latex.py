"""LaTeX tables."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from recbole_cdsr.benchmark.report.tables.contents import all_tables, result_table
from recbole_cdsr.benchmark.report.tables.latex import HEADER, escaped, latex
from recbole_cdsr.benchmark.report.tables.table import Figure, Table, with_places


def test_nothing_in_a_name_is_a_command():
    assert escaped("*a* [2pt] −1") == "{*}a{*} {[}2pt{]} $-$1"  # none of it an argument of the line before
    assert escaped(r"50% of $x_1 & {y}^2 ~ #3 \input{a}" + "\n<|>") == (
        r"50\% of \$x\_1 \& \{y\}\textasciicircum{}2 \textasciitilde{} \#3 \textbackslash{}input\{a\} "
        r"\textless{}\textbar{}\textgreater{}"
    )


def test_best_second_stars_and_rules():
    rows = [["A_1", Figure(0.5, 0.1, "*"), None], ["B", Figure(0.4, float("nan"), "†"), Figure(0.1, 0.2)]]
    columns = [("book", "NDCG@10"), ("movie", "NDCG@10")]
    text = latex(Table("t of 1", "100 % of it", ["model"], columns, with_places(rows), ["* better"]))
    assert r"\caption{100 \% of it.}" in text
    assert r"\label{tab:t-of-1}" in text
    assert r"& \multicolumn{1}{c}{book} & \multicolumn{1}{c}{movie} \\" in text
    assert r"\cmidrule(lr){2-2}\cmidrule(lr){3-3}" in text
    assert r"A\_1 & \textbf{0.5000}$^{*}$ {\scriptsize$\pm$0.1000} & -- \\" in text
    assert r"B & \underline{0.4000}$^{\dagger}$ & 0.1000 {\scriptsize$\pm$0.2000} \\" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]


def test_every_line_of_a_table_has_all_its_columns(analysis):
    for table in all_tables(analysis):
        body = re.search(r"\\midrule\n(.*)\\bottomrule", latex(table), re.DOTALL)[1]
        n_columns = len(table.text_columns) + len(table.figure_columns)
        assert {line.count(" & ") + 1 for line in body.splitlines()} == {n_columns}, table.name


def test_a_star_stands_only_where_a_test_is_behind_it(analysis):
    (dataset,) = analysis.datasets
    text = latex(result_table(analysis, dataset, dataset.comparisons["full"]))
    assert text.count("$^{*}$") == 1
    assert r"LLM4CDSR & 3 & \underline{0.6111}$^{*}$" in text
    assert r"\\ {*} better than the reference: adjusted p $\leq$ 0.05" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_the_tables_compile_and_stay_on_the_page(analysis, tmp_path):
    columns = [(f"domain {number}", "NDCG@10") for number in range(12)]
    wide = Table("wide", "Wide", ["model"], columns, with_places([["A", *[Figure(0.5, 0.1)] * 12]]))
    narrow = Table("narrow", "Narrow", ["model"], columns[:1], with_places([["A", Figure(0.5, 0.1)]]))
    tables = "\n".join(map(latex, [*all_tables(analysis), wide, narrow]))
    document = (
        r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}"
        rf"\begin{{document}}{tables}\end{{document}}"
    )
    (tmp_path / "t.tex").write_text(HEADER + document, encoding="utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)
    log = (tmp_path / "t.log").read_text(encoding="latin-1")
    # A line of a note may be a little too long; a table that is not shrunk is too wide by hundreds of points.
    assert [width for width in re.findall(r"Overfull \\hbox \((\d+)\.\d+pt too wide", log) if int(width) > 20] == []
