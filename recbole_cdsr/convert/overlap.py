"""The overlap dilemma: the same data with fewer overlapped users to learn from.

Cross-domain models learn how domains relate from users who are active in several of them, and real platforms have few.
The experiment keeps a share R of the overlapped *training* users as they are and splits each of the others into one
single-domain user per domain: the same interactions in the same order under new names, such as `ann@book` and
`ann@movie`. What is judged does not change with R, not in a byte: validation and test rows, their histories and their
candidates.

Under leave-one-out a judged user's history is training data, too. So that the one can be split and the other stay
whole, such data are written as three flat files, by the rule that leave-one-out applies when a single file is loaded:
`train` holds everybody's training interactions, `valid` and `test` the judged users' histories with the target last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from recbole_cdsr.convert.interactions import Interactions
from recbole_cdsr.data.sequences import leave_one_out
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.ranges import expand_ranges

PARTS = ("train", "valid", "test")
# A kept user of pre-split data who is judged as well, see `with_overlap_ratio`.
KEPT_IN_TRAINING = "train"


@dataclass(frozen=True)
class OverlapDilution:
    """A dataset at one overlap ratio.

    Parameters
    ----------
    parts : dict[str, Interactions]
        `train`, `valid` and `test`; the latter two are the same at every ratio.
    overlapped : int
        Training users active in two domains or more before the experiment.
    kept : int
        How many of them still are.
    single_domain : int
        How many single-domain users the others have become.
    """

    parts: dict[str, Interactions]
    overlapped: int
    kept: int
    single_domain: int

    def sentence(self, ratio: float, seed: int) -> str:
        """Return what the dataset's card says of it."""
        return (
            f"--overlap-ratio {ratio:g} (seed {seed}): {self.kept:,} of {self.overlapped:,} overlapped training users "
            f"stay overlapped, the others are {self.single_domain:,} single-domain users in training rows; evaluation "
            "rows are those of every other ratio"
        )


def check_overlap_ratio(ratio: float) -> float:
    """Return `ratio` if it is in (0, 1]; else `ConfigError`."""
    if not 0 < ratio <= 1:
        raise ConfigError(f"--overlap-ratio: {ratio:g} is no share of users; give more than 0 and at most 1.")
    return ratio


def with_overlap_ratio(
    parts: Mapping[str, Interactions], ratio: float, seed: int, people: np.ndarray | None = None
) -> OverlapDilution:
    """Leave a share of the overlapped training users overlapped and split the others.

    For one seed the users kept are nested: those of a smaller ratio are among those of a larger one. Training rows
    keep their order, so that RecBole numbers the items alike at every ratio, and drawn candidates, which are a function
    of those numbers, are the same.

    In pre-split data the candidates of a judged row leave out the user's training items as well. An overlapped
    training user who is judged is therefore written under a name of their own in the training file, kept
    (`ann@train`) or split: else those candidates would differ from ratio to ratio. Data split by leave-one-out do
    not need this, as the test row of a user holds everything.

    Parameters
    ----------
    parts : Mapping[str, Interactions]
        Either all rows under the key `""`, which are split by leave-one-out, or `train`, `valid` and `test` of
        pre-split data, whose users are numbered together.
    ratio : float
        Share of the overlapped training users that stays overlapped, in (0, 1]; the count is rounded to the nearest.
    seed : int
        Draws who stays.
    people : np.ndarray, optional
        int `[U]`: which person each user is, where one person has several sequences under several names; a person is
        kept or split with all of them. Default: every user is a person.

    Returns
    -------
    OverlapDilution
        Its counts are of people.

    Raises
    ------
    ConfigError
        For a ratio outside (0, 1].
    DataError
        When no training user is active in two domains, or nobody is long enough to be judged.
    """
    check_overlap_ratio(ratio)
    pre_split = "" not in parts
    files = {part: parts[part] for part in PARTS} if pre_split else leave_one_out_files(parts[""])
    train = files["train"]
    n_users, domains = len(train.user_tokens), train.domain_names
    person_of_user = np.arange(n_users) if people is None else people  # [U]
    row_domains = train.item_domains[train.items]  # [N]
    row_people = person_of_user[train.users]  # [N]

    active = np.zeros((int(person_of_user.max(initial=-1)) + 1, len(domains)), dtype=bool)  # [P, K]
    active[row_people, row_domains] = True
    is_overlapped = active.sum(axis=1) > 1  # [P]
    overlapped = np.flatnonzero(is_overlapped)
    if not len(overlapped):
        raise DataError(
            "--overlap-ratio: no training user has interactions in two domains, so there is nobody to split; "
            "leave the option out."
        )
    n_kept = int(np.floor(ratio * len(overlapped) + 0.5))
    is_split = np.zeros(len(active), dtype=bool)  # [P]
    is_split[np.random.default_rng(seed).permutation(overlapped)[n_kept:]] = True

    # The new name of a row's user: 0 none, k + 1 that of domain k, K + 1 that of a kept user who is judged as well.
    kinds = np.where(is_split[row_people], row_domains + 1, 0)  # [N]
    if pre_split:
        is_judged = np.zeros(n_users, dtype=bool)
        for part in ("valid", "test"):
            is_judged[files[part].users] = True
        kinds[(is_overlapped & ~is_split)[row_people] & is_judged[train.users]] = len(domains) + 1
    suffixes = [*domains, KEPT_IN_TRAINING]
    separator = _free_separator(train.user_tokens, is_overlapped[person_of_user], suffixes)
    renamed = np.flatnonzero(kinds)
    # New users are numbered as they first appear, after all others.
    keys, first, places = np.unique(
        train.users[renamed].astype(np.int64) * (len(suffixes) + 1) + kinds[renamed],
        return_index=True,
        return_inverse=True,
    )
    by_appearance = np.argsort(first)
    numbers = np.empty(len(keys), dtype=train.users.dtype)
    numbers[by_appearance] = n_users + np.arange(len(keys))
    old, kind = np.divmod(keys[by_appearance], len(suffixes) + 1)
    endings = np.array([separator + suffix for suffix in suffixes], dtype=object)
    tokens = np.concatenate([train.user_tokens, train.user_tokens[old] + endings[kind - 1]])
    users = train.users.copy()
    users[renamed] = numbers[places]
    files = {part: replace(rows, user_tokens=tokens) for part, rows in files.items()}
    files["train"] = replace(files["train"], users=users)
    return OverlapDilution(files, len(overlapped), n_kept, int((kind <= len(domains)).sum()))


def leave_one_out_files(interactions: Interactions) -> dict[str, Interactions]:
    """Return leave-one-out as flat files: the rows that loading the single file would train on and judge.

    Parameters
    ----------
    interactions : Interactions
        By user, time and source order.

    Returns
    -------
    dict[str, Interactions]
        `train`: all interactions but the last two of each user (the last only of a user with three, none of a
        shorter one). `valid` and `test`: of each judged user everything up to the target, which is last.

    Raises
    ------
    DataError
        When all users are too short to be judged.
    """
    log = leave_one_out(interactions.users, interactions.items, interactions.times)
    for part, judged in (("validated", log.valid), ("tested", log.test)):
        if not len(judged):
            raise DataError(
                f"--overlap-ratio: nobody can be {part}; leave-one-out validates users of four interactions or more."
            )
    flat = {
        "train": log.training_positions(fold_in=False),
        "valid": expand_ranges(log.valid.starts, log.valid.targets - log.valid.starts + 1)[1],
        "test": expand_ranges(log.test.starts, log.test.targets - log.test.starts + 1)[1],
    }
    return {part: interactions.take(log.order[positions]) for part, positions in flat.items()}


def _free_separator(tokens: np.ndarray, is_overlapped: np.ndarray, suffixes: list[str]) -> str:
    """`@`, repeated until none of the new names is somebody's; the same at every ratio."""
    taken = {token for token in tokens if "@" in token}
    separator = "@"
    while taken and any(token + separator + suffix in taken for token in tokens[is_overlapped] for suffix in suffixes):
        separator += "@"
    return separator
