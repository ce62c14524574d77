"""What is drawn anew for every training row of our models: negatives, and an item of each domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from recbole_cdsr.config_reading import switch, whole_number
from recbole_cdsr.data.negatives import ConsumedItems, InDomainNegatives
from recbole_cdsr.data.sequences import Rows, SequenceLog
from recbole_cdsr.data.windows import Windows
from recbole_cdsr.ranges import expand_ranges

TARGET_LIST = "target_id_list"
DOMAIN_ITEM = "domain_item_id"


class TrainingDraws(Protocol):
    """Draws for the rows of one training split."""

    def fields(self, index: np.ndarray, rows: Rows, windows: Windows) -> dict[str, torch.Tensor]:
        """Fields of a batch: of the rows `index` (int64 ``[B]``), which are `rows` and have these windows."""


class PrefixDraws:
    """Negatives for rows of one target each.

    Parameters
    ----------
    config
        Read are `n_negatives`, `shared_negatives` and RecBole's names of fields.
    log
        All interactions.
    item_domain
        int64 ``[n_items]``.
    negatives
        What is drawn from.
    """

    def __init__(
        self, config: Mapping[str, Any], log: SequenceLog, item_domain: np.ndarray, negatives: InDomainNegatives
    ) -> None:
        self._log, self._item_domain = log, item_domain
        self._field = config["NEG_PREFIX"] + config["ITEM_ID_FIELD"]
        self._n_negatives = whole_number(config, "n_negatives")
        self._draw = negatives.draw_shared if switch(config, "shared_negatives") else negatives.draw_several

    def fields(self, index: np.ndarray, rows: Rows, windows: Windows) -> dict[str, torch.Tensor]:
        """Negatives of each row's target, `[B, n_negatives]`."""
        users, domains = self._log.users[rows.targets], self._item_domain[self._log.items[rows.targets]]  # [B]
        return {self._field: torch.from_numpy(self._draw(users, domains, self._n_negatives))}


class UserDraws:
    """Targets and negatives for rows of one user each, and, for models that ask for them, an item of each domain.

    Parameters
    ----------
    config
        Read are RecBole's names of fields.
    log
        All interactions.
    item_domain
        int64 ``[n_items]``.
    negatives
        What is drawn from.
    rows
        The training rows.
    domain_offsets
        int64 ``[K+1]``, to draw an item of each domain from a row's own; None draws none.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        log: SequenceLog,
        item_domain: np.ndarray,
        negatives: InDomainNegatives,
        rows: Rows,
        domain_offsets: np.ndarray | None,
    ) -> None:
        self._log, self._item_domain, self._negatives = log, item_domain, negatives
        self._item_field = config["ITEM_ID_FIELD"]
        self._field = config["NEG_PREFIX"] + self._item_field + config["LIST_SUFFIX"]
        self._consumed = None
        if domain_offsets is not None:
            owners, flat = expand_ranges(rows.starts, rows.targets - rows.starts + 1)
            self._consumed = ConsumedItems(owners, log.items[flat], len(rows), domain_offsets)

    def fields(self, index: np.ndarray, rows: Rows, windows: Windows) -> dict[str, torch.Tensor]:
        """The next item of each position and a negative of its domain, both `[B, L]`, and the items `[B, K]`."""
        targets = windows.values(self._item_field, shift=1)  # [B, L]
        real = windows.real
        users = np.repeat(self._log.users[rows.targets], windows.lengths)
        negatives = np.zeros(real.shape, dtype=np.int64)  # [B, L]
        negatives[real] = self._negatives.draw(users, self._item_domain[targets.numpy()[real]])
        fields = {TARGET_LIST: targets, self._field: torch.from_numpy(negatives)}
        if self._consumed is not None:
            fields[DOMAIN_ITEM] = torch.from_numpy(self._consumed.draw(index))
        return fields
