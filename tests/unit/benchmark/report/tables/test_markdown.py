"""Markdown tables."""

from __future__ import annotations

from recbole_cdsr.benchmark.report.tables.contents import result_table
from recbole_cdsr.benchmark.report.tables.markdown import escaped, markdown
from recbole_cdsr.benchmark.report.tables.table import Figure, Table, with_places

NAN = float("nan")


def test_best_second_and_marks():
    rows = [["A", Figure(0.5, 0.1, "*")], ["B", Figure(0.4, NAN)], ["C", Figure(0.50001, 0.2)], ["D", None]]
    table = Table("t", "figures", ["model"], [("book", "NDCG@10")], with_places(rows), ["n: 3"])
    assert markdown(table) == (
        "**figures**\n\n"
        "| model | book NDCG@10 |\n"
        "| --- | ---: |\n"
        "| A | **0.5000**\\* ± 0.1000 |\n"
        "| B | <u>0.4000</u> |\n"
        "| C | **0.5000** ± 0.2000 |\n"
        "| D | – |\n"
        "\n- n: 3\n"
    )


def test_a_column_of_equal_figures_has_no_best():
    assert [row[0].place for row in with_places([[Figure(0.0, NAN)], [Figure(0.0, NAN)]])] == [0, 0]


def test_markup_in_names_stays_text():
    assert escaped("a|b <b>*x*</b>\n# `c`") == "a\\|b \\<b\\>\\*x\\*\\</b\\> \\# \\`c\\`"


def test_the_table_of_the_worked_example(analysis):
    (dataset,) = analysis.datasets
    text = markdown(result_table(analysis, dataset, dataset.comparisons["full"]))
    lines = text.splitlines()
    heads = [f"{name} {metric}" for name in ("book", "movie", "overall") for metric in ("NDCG@10", "Hit@10")]
    assert lines[2] == f"| model | seeds | {' | '.join(heads)} |"
    ours = next(line for line in lines if line.startswith("| LLM4CDSR "))
    # Books by seed: 1, 1/2 and 1/3. Movies by seed: 5/12, 5/12 and 1/3. All: 10.5/14, 6.5/14 and (8/3 + 2)/14.
    assert ours == (
        "| LLM4CDSR | 3 | <u>0.6111</u>\\* ± 0.3469 | **1.0000** ± 0.0000 | 0.3889 ± 0.0481 | <u>0.5000</u> ± 0.0000 | "
        "<u>0.5159</u> ± 0.2131 | <u>0.7857</u> ± 0.0000 |"
    )
    assert any(line.startswith("| SASRec+llm | 2 of 3 |") for line in lines)
    assert any(line.startswith("| BPR (reference) | 3 |") for line in lines)
    assert "- \\* better than the reference: adjusted p ≤ 0.05 (two-sided Wilcoxon signed-rank test, Holm" in text
    assert "- No claim: SASRec+llm: 2 finished seeds, a claim needs 3." in text
    assert "- Cells without figures: SASRec+llm seed 3 (missing)." in text
