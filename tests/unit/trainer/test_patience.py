"""How long early stopping waits."""

import pytest

from recbole_cdsr.trainer.patience import patience


@pytest.mark.parametrize(
    ("stopping_step", "stopping_updates", "updates_between", "expected"),
    [(20, 0, 63, 20), (20, 3000, 400, 20), (20, 3000, 63, 48), (0, 1, 1000, 1), (0, 0, 1, 0), (3, 12, 4, 3)],
)
def test_the_longer_of_two_counts(stopping_step, stopping_updates, updates_between, expected):
    assert patience(stopping_step, stopping_updates, updates_between) == expected
