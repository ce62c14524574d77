"""What a stored set of features says of the answers it was made from, and whether some of them are to be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_cdsr.llm import store
from recbole_cdsr.llm.settings import FeatureSettings


def stored_answers(settings: FeatureSettings, kind: str, name: str) -> dict[str, Any] | None:
    """The report of a stored set on its answers; None without such a set."""
    if not store.feature_set_exists(settings.features_dir, kind, name):
        return None
    sidecar = store.read_sidecar(store.feature_paths(settings.features_dir, kind, name)[1])
    return {"given_up": 0} | (sidecar.get("answers") or {})


def to_ask(settings: FeatureSettings, report: Mapping[str, Any]) -> str | None:
    """Which requests of a set with this report a run asks, as part of a sentence; None when the set is complete.

    These are the ones that were given up, and those whose answers are of a kind that `llm_ask_again` names. A report
    without kinds was written before there were any: what its answers are is seen in the cache.
    """
    if report["given_up"]:
        return f"{report['given_up']:,} requests are open still"
    again = settings.generator_settings().ask_again
    kinds = report.get("kinds")
    if "by_llm" not in report and "asked" not in report:  # no LLM was asked at all
        return None
    if again and kinds is None:
        return f"answers that are {' or '.join(sorted(again))} are to be asked for again"
    counts = {kind: kinds[kind] for kind in sorted(again) if kinds.get(kind)}
    if not counts:
        return None
    return f"answers are to be asked for again ({', '.join(f'{count:,} {kind}' for kind, count in counts.items())})"
