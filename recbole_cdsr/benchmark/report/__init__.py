"""The report of a benchmark: one self-contained HTML page, and its tables as Markdown, CSV and LaTeX."""

from recbole_cdsr.benchmark.report.writing import write_report

__all__ = ["write_report"]
