"""Tables made of text features: part of a model, rebuilt from the feature store, not carried by checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FEATURE_TABLES = ("text_table", "profile_table")


class FeatureTables:
    """Mixin over a model that holds text features under the names of `FEATURE_TABLES`.

    A frozen table is a buffer, which neither an initialiser nor an optimiser reaches; it takes the place of a
    parameter that would be held, and on most optimisers updated, for nothing.
    """

    def _add_table(self, name: str, rows: np.ndarray, frozen: bool = True) -> None:
        if not frozen:
            table = torch.tensor(rows, dtype=torch.float32)  # a copy: the feature store's array stays as it is
            self.register_parameter(name, nn.Parameter(table))
            return
        # Read only, so the array of the feature store serves; whatever writes to the table makes it its own first.
        shareable = rows.dtype == np.float32 and rows.flags.writeable and rows.flags.c_contiguous
        table = torch.from_numpy(rows) if shareable else torch.tensor(rows, dtype=torch.float32)
        self.register_buffer(name, table, persistent=False)

    def keep_in_checkpoints(self, name: str) -> None:
        """Make checkpoints carry a text table, for tables that no feature store can rebuild.

        The table is then the model's own: what is written to it does not reach the features it was made of.
        """
        if name in self._buffers and name in self._non_persistent_buffers_set:
            self.register_buffer(name, self._buffers[name].clone(), persistent=True)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """As in ``torch.nn.Module``; a checkpoint that carries its own text tables brings them along."""
        for name in FEATURE_TABLES:
            if name in state_dict:
                self.keep_in_checkpoints(name)
        return super().load_state_dict(state_dict, *args, **kwargs)
