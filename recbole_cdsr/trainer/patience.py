"""How long early stopping waits for a better validation.

RecBole counts validations (`stopping_step`). Models whose loss compares single items with sampled ones begin on a
plateau: until item vectors have grown, which takes some thousand steps of the optimiser, they rank by popularity and
validation stands still. An epoch of a small dataset has few steps, so that the same `stopping_step` which outlives the
plateau of a large dataset ends a small one on it. `stopping_updates` therefore also counts steps.
"""

from __future__ import annotations


def patience(stopping_step: int, stopping_updates: int, updates_between: int) -> int:
    """Validations without a better result after which training goes on waiting no longer.

    Parameters
    ----------
    stopping_step : int
        0 or more validations.
    stopping_updates : int
        0 or more steps of the optimiser; the wait is at least as long.
    updates_between : int
        Steps from one validation to the next, 1 or more.

    Returns
    -------
    int
        `stopping_step` or ``ceil(stopping_updates / updates_between)``, whichever is more.
    """
    return max(stopping_step, -(-stopping_updates // updates_between))
