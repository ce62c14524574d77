"""Groups of rows that results are reported for (protocol, item 6)."""

from __future__ import annotations

import numpy as np

from recbole_cdsr.evaluator.rows import EvaluationRows

_LENGTH_BOUNDS = {"len_1_5": (0, 5), "len_6_10": (6, 10), "len_11_20": (11, 20), "len_21_up": (21, None)}
_HEAD_PARTS = 5  # the head holds one part in five of the training interactions, in whole numbers


def groups(rows: EvaluationRows) -> dict[str, np.ndarray]:
    """Which rows belong to which group.

    Returns
    -------
    dict[str, np.ndarray]
        bool ``[R]`` for each of

        - ``overlapped`` (the input history holds items of two domains or more) and ``single_domain`` (the
          others),
        - ``len_1_5``, ``len_6_10``, ``len_11_20``, ``len_21_up``, by the whole input history; a row without
          any counts to the first,
        - ``head`` (the target is one of :func:`head_items`) and ``tail`` (the others),
        - ``cold_target`` (the target has no training interaction).
    """
    overlapped = history_domain_counts(rows) >= 2
    lengths = rows.history_pointers[:, 1] - rows.history_pointers[:, 0]
    by_length = {
        name: (lengths >= shortest) & (lengths <= (np.inf if longest is None else longest))
        for name, (shortest, longest) in _LENGTH_BOUNDS.items()
    }
    head = head_items(rows.train_item_counts)[rows.targets]
    return {
        "overlapped": overlapped,
        "single_domain": ~overlapped,
        **by_length,
        "head": head,
        "tail": ~head,
        "cold_target": rows.train_item_counts[rows.targets] == 0,
    }


def history_domain_counts(rows: EvaluationRows) -> np.ndarray:
    """int64 ``[R]``, number of different domains in each input history."""
    flat_domains = np.searchsorted(rows.domain_offsets, rows.flat_items, side="right") - 1  # [N]
    counts = np.zeros(len(rows), dtype=np.int64)
    for domain in range(rows.n_domains):
        # Histories of different rows overlap in flat_items, so they are read off running totals.
        running = np.concatenate([[0], np.cumsum(flat_domains == domain)])  # [N + 1]
        starts, stops = rows.history_pointers.T
        counts += running[stops] > running[starts]
    return counts


def head_items(train_item_counts: np.ndarray) -> np.ndarray:
    """The most popular items that together hold the top 20 % of training interactions.

    Items of all domains are sorted by their training interactions, most first, and equally popular ones by
    id; the head is the shortest prefix that holds at least 20 % of all interactions. So of the items as
    popular as the last one in the head, those with larger ids are tail.

    Parameters
    ----------
    train_item_counts
        int64 ``[n_items]``.

    Returns
    -------
    np.ndarray
        bool ``[n_items]``; nothing is head where there are no training interactions.
    """
    by_popularity = np.argsort(-train_item_counts, kind="stable")
    running = np.cumsum(train_item_counts[by_popularity])
    total = running[-1]
    head = np.zeros(len(train_item_counts), dtype=bool)
    if total > 0:
        n_head = np.searchsorted(running * _HEAD_PARTS, total, side="left") + 1
        head[by_popularity[:n_head]] = True
    return head
