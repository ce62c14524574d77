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
from dataclasses import dataclass

import numpy as np
import pandas as pd

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
    parts
        `train`, `valid` and `test` rows; the latter two are the same at every ratio.
    overlapped
        Training users active in two domains or more before the experiment.
    kept
        How many of them still are.
    single_domain
        How many single-domain users the others have become.
    """

    parts: dict[str, pd.DataFrame]
    overlapped: int
    kept: int
    single_domain: int

    def sentence(self, ratio: float, seed: int) -> str:
        """What the dataset's card says of it."""
        return (
            f"overlap ratio {ratio:g} (seed {seed}): {self.kept:,} of {self.overlapped:,} overlapped training users "
            f"stay overlapped, the others are {self.single_domain:,} single-domain users in training rows; "
            "evaluation rows are those of every other ratio"
        )


def check_overlap_ratio(ratio: float) -> float:
    """Return `ratio` if it is in (0, 1]; else `ConfigError`."""
    if not 0 < ratio <= 1:
        raise ConfigError(f"--overlap-ratio: {ratio:g} is no share of users; give more than 0 and at most 1.")
    return ratio


def with_overlap_ratio(
    parts: Mapping[str, pd.DataFrame], items: pd.DataFrame, ratio: float, seed: int
) -> OverlapDilution:
    """Leave a share of the overlapped training users overlapped and split the others.

    For one seed the users kept are nested: those of a smaller ratio are among those of a larger one. Training rows
    keep their order, so that items are numbered alike at every ratio when RecBole loads them, and drawn candidates,
    which are a function of those numbers, are the same.

    In pre-split data the candidates of a judged row leave out the user's training items as well. An overlapped
    training user who is judged is therefore written under a name of their own in the training file, kept
    (`ann@train`) or split: else those candidates would differ from ratio to ratio. Data split by leave-one-out do
    not need this, as the test row of a user holds everything.

    Parameters
    ----------
    parts
        Rows with `user_id`, `item_id` and `timestamp`: either one frame under the key `""`, which is split by
        leave-one-out, or `train`, `valid` and `test` of pre-split data.
    items
        Columns `item_id` and `domain`, in the order of `.item`.
    ratio
        Share of the overlapped training users that stays overlapped, in (0, 1]; the count is rounded to the nearest.
    seed
        Draws who stays.

    Returns
    -------
    OverlapDilution
        Frames with the columns they had.

    Raises
    ------
    ConfigError
        For a ratio outside (0, 1].
    DataError
        When no training user is active in two domains.
    """
    check_overlap_ratio(ratio)
    pre_split = "" not in parts
    files = {part: parts[part] for part in PARTS} if pre_split else leave_one_out_files(parts[""])
    train = files["train"]
    domain_of_item, domains = pd.factorize(items["domain"])
    rows = pd.Index(items["item_id"]).get_indexer(train["item_id"])  # [N]
    row_domains = domain_of_item[rows]  # [N]
    codes, users = pd.factorize(train["user_id"])  # [N], [U]

    active = np.zeros((len(users), len(domains)), dtype=bool)  # [U, K]
    active[codes, row_domains] = True
    overlapped = np.flatnonzero(active.sum(axis=1) > 1)  # [O], in the order of the training file
    if not len(overlapped):
        raise DataError(
            "--overlap-ratio: no training user has interactions in two domains, so there is nobody to split; "
            "leave the option out."
        )
    kept_count = int(np.floor(ratio * len(overlapped) + 0.5))
    is_split = np.zeros(len(users), dtype=bool)  # [U]
    is_split[np.random.default_rng(seed).permutation(overlapped)[kept_count:]] = True

    everybody = pd.Index(pd.unique(pd.concat([files[part]["user_id"] for part in PARTS])))
    separator = _free_separator(users[overlapped], [*map(str, domains), KEPT_IN_TRAINING], everybody)
    tokens = train["user_id"].to_numpy(dtype=object).copy()  # [N]
    split_rows = is_split[codes]
    names = np.array([separator + str(domain) for domain in domains], dtype=object)  # [K]
    tokens[split_rows] = tokens[split_rows] + names[row_domains[split_rows]]
    if pre_split:
        is_judged = np.isin(users, pd.unique(pd.concat([files["valid"]["user_id"], files["test"]["user_id"]])))
        renamed = np.zeros(len(users), dtype=bool)
        renamed[overlapped] = True
        renamed &= is_judged & ~is_split
        tokens[renamed[codes]] = tokens[renamed[codes]] + (separator + KEPT_IN_TRAINING)
    files["train"] = train.assign(user_id=tokens)
    return OverlapDilution(files, len(overlapped), kept_count, int(active[is_split].sum()))


def leave_one_out_files(interactions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Write leave-one-out as flat files: the rows that loading the single file would train on and judge.

    Parameters
    ----------
    interactions
        Columns `user_id` and `timestamp` and any others; equal times keep the order of the frame.

    Returns
    -------
    dict[str, pandas.DataFrame]
        `train`: all interactions but the last two of each user (the last only of a user with three, none of a
        shorter one). `valid` and `test`: of each judged user everything up to the target, which is last. Users come in
        the order in which they first appear, each one's rows in order of time.

    Raises
    ------
    DataError
        When all users are too short to be judged.
    """
    users, _ = pd.factorize(interactions["user_id"])
    times = interactions["timestamp"].to_numpy(dtype=np.float64)
    log = leave_one_out(users, users, times)
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
    return {part: interactions.iloc[log.order[positions]].reset_index(drop=True) for part, positions in flat.items()}


def _free_separator(users: np.ndarray, suffixes: list[str], taken: pd.Index) -> str:
    """`@`, repeated until none of the new names is somebody's; the same for every ratio."""
    separator = "@"
    while any((pd.Index(users) + (separator + suffix)).isin(taken).any() for suffix in suffixes):
        separator += "@"
    return separator
