"""What several models read from a configuration in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_cdsr.config_reading import choice, number, switch, whole_number, wrong


def thread_settings(config: Mapping[str, Any], positions: str) -> dict[str, Any]:
    """Keyword arguments of :class:`~recbole_cdsr.model.layers.SASRecThread`.

    Reads ``hidden_size``, ``n_layers``, ``n_heads``, ``MAX_ITEM_LIST_LENGTH``, ``hidden_dropout_prob``,
    ``attn_dropout_prob``, ``attention`` and ``mask_padding``.

    Parameters
    ----------
    config : Mapping[str, Any]
        RecBole's configuration.
    positions : str
        ``count`` or ``column``.
    """
    hidden_size, n_heads = whole_number(config, "hidden_size"), whole_number(config, "n_heads")
    if hidden_size % n_heads:
        raise wrong("hidden_size", hidden_size, f"a multiple of n_heads, {n_heads}")
    return {
        "hidden_size": hidden_size,
        "n_layers": whole_number(config, "n_layers", 0),
        "n_heads": n_heads,
        "window": whole_number(config, "MAX_ITEM_LIST_LENGTH"),
        "hidden_dropout_prob": number(config, "hidden_dropout_prob", 0, 1),
        "attn_dropout_prob": number(config, "attn_dropout_prob", 0, 1),
        "attention": choice(config, "attention", ("causal", "bidirectional")),
        "mask_padding": switch(config, "mask_padding"),
        "positions": positions,
    }
