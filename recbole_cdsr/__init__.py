"""Cross-domain sequential recommendation with LLMs, on RecBole.

Importing this package makes RecBole usable on today's Python stack (see `recbole_cdsr.compat`).
"""

from __future__ import annotations

import importlib.util

from recbole_cdsr import compat

if importlib.util.find_spec("recbole") is None:
    raise ImportError(
        "RecBole is not installed beside recbole-cdsr: run `pip install --no-deps recbole==1.2.1` "
        "(its requirement ray<=2.6.3 is not needed here and has no build for Python 3.12 and later)."
    )
compat.mend()

__version__ = "0.1.0"


def register() -> None:
    """Make our models known to RecBole itself, e.g. `recbole.quick_start.run_recbole(model="LLM4CDSR", ...)`."""
    from recbole_cdsr.registration import register as register_models

    register_models()


__all__ = ["__version__", "register"]
