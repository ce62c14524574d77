"""Cross-domain sequential recommendation with LLMs, on RecBole.

Importing this package makes RecBole usable on today's Python stack from then on (see `recbole_cdsr.compat`).
"""

from __future__ import annotations

from recbole_cdsr import compat

compat.mend_on_import()

__version__ = "0.1.0"


def register() -> None:
    """Make our models known to RecBole itself, e.g. `recbole.quick_start.run_recbole(model="LLM4CDSR", ...)`."""
    from recbole_cdsr.registration import register as register_models

    register_models()


__all__ = ["__version__", "register"]
