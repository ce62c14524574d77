"""Results as tables: Markdown, CSV and LaTeX."""
