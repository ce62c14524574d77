"""What the dataset hands to a model: LLM features by internal id."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class LLMFeatures(NamedTuple):
    """Frozen text features of a dataset's items and users.

    Attributes
    ----------
    items : np.ndarray
        float32 `[n_items, D]`, by internal item id; row 0 (padding) is zero.
    profiles : np.ndarray or None
        float32 `[n_users, D_u]`, by internal user id; row 0 and the rows of users without training history
        are zero. None when no profiles were asked for.
    provenance : dict
        Plain data (JSON-able): who made the features, from what, in which way.
    """

    items: np.ndarray
    profiles: np.ndarray | None
    provenance: dict[str, Any]
