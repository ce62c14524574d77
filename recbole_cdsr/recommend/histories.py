"""Whose histories are served: users of the dataset with all that is known of them, or histories given from outside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import numpy as np

from recbole_cdsr.config_names import did_you_mean
from recbole_cdsr.data.dataset import CrossDomainDataset
from recbole_cdsr.data.user_tables import has_user_table
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.ranges import expand_ranges, runs

_NAMED_AT_MOST = 5


@dataclass(frozen=True, eq=False)
class ServedHistories:
    """R users with their histories.

    Attributes
    ----------
    names : np.ndarray
        object ``[R]``, what the users are called.
    user_ids : np.ndarray
        int64 ``[R]``, internal ids; 0 for users that the model does not know.
    pointers : np.ndarray
        int64 ``[R + 1]``: user r consumed ``items[pointers[r]:pointers[r + 1]]``, oldest first.
    items : np.ndarray
        int64 ``[N]``, internal ids.
    """

    names: np.ndarray
    user_ids: np.ndarray
    pointers: np.ndarray
    items: np.ndarray

    def __len__(self) -> int:
        return len(self.user_ids)

    def take(self, rows: np.ndarray) -> ServedHistories:
        """The users at some places, in that order."""
        lengths = self.lengths[rows]
        _, flat = expand_ranges(self.pointers[rows], lengths)
        return ServedHistories(
            self.names[rows], self.user_ids[rows], np.append(0, np.cumsum(lengths)), self.items[flat]
        )

    @property
    def lengths(self) -> np.ndarray:
        """int64 ``[R]``, items of each history."""
        return np.diff(self.pointers)


def known_histories(data: CrossDomainDataset, user_ids: np.ndarray | None = None) -> ServedHistories:
    """All that is known of users, validation and test items included.

    In a release with files of its own for training, validation and test, a user's rows follow each other in this
    order of the files, and an interaction that several of them hold counts once.

    Parameters
    ----------
    data
        The dataset.
    user_ids
        int64 ``[R]``; None for every user with an interaction, in the order of their internal ids.

    Raises
    ------
    ConfigError
        A user that was asked for has no interaction, as one who stands in `.user` alone.
    """
    log = data.log
    order = np.argsort(log.users, kind="stable")  # a user's files one after the other, each in order of time
    users, items, times = log.users[order], log.items[order], log.times[order]
    if data.is_pre_split:
        alike = np.lexsort((times, items, users))  # stable: the first of equal ones comes first
        first = np.zeros(len(users), dtype=bool)
        first[alike[runs(users[alike], items[alike], times[alike])[0]]] = True
        users, items = users[first], items[first]
    if user_ids is None:
        user_ids = users[runs(users)[0]]
    starts, stops = np.searchsorted(users, user_ids, "left"), np.searchsorted(users, user_ids, "right")
    if (starts == stops).any():
        unseen = data.id2token(data.uid_field, int(user_ids[np.argmax(starts == stops)]))
        raise ConfigError(f"User '{unseen}' has no interactions; give a history with --history.")
    _, flat = expand_ranges(starts, stops - starts)
    names = np.asarray(data.id2token(data.uid_field, user_ids), dtype=object)
    return ServedHistories(names, user_ids, np.append(0, np.cumsum(stops - starts)), items[flat])


def users_named(data: CrossDomainDataset, tokens: Sequence[str]) -> np.ndarray:
    """Internal ids of users, int64 ``[R]``, each once in the order named.

    Raises
    ------
    ConfigError
        The dataset has no such user.
    """
    known = data.field2token_id[data.uid_field]
    ids = _ids(tokens, known, f"user of '{data.dataset_name}'")
    return np.array(list(dict.fromkeys(ids)), dtype=np.int64)


def for_the_model(data: CrossDomainDataset, histories: ServedHistories, named: bool) -> ServedHistories:
    """Those users that a model can score: one with a table of users knows the ones it was trained on.

    Parameters
    ----------
    data
        The dataset.
    histories
        Of users of the dataset.
    named
        Whether somebody asked for each of them; the others are left out with a warning.

    Raises
    ------
    ConfigError
        The model does not know a user that was named, or none at all.
    """
    if not has_user_table(data.config.model_class):
        return histories
    known = np.isin(histories.user_ids, data.log.users[data.log.training_positions(data.fold_in)])
    if known.all():
        return histories
    if named or not known.any():
        raise ConfigError(
            f"{data.config['model']} has a table of users and was not trained on {histories.names[~known][0]!r}, who "
            "is held out for evaluation; train it with fold_in, or use a model that scores from the history alone."
        )
    getLogger().warning(
        f"{int((~known).sum())} users are left out: {data.config['model']} has a table of users and was not trained on "
        "them."
    )
    return histories.take(np.flatnonzero(known))


def check_takes_histories(data: CrossDomainDataset) -> None:
    """Refuse histories from outside for a model that knows a user by an entry of its own.

    Raises
    ------
    ConfigError
        It has a table of users.
    """
    if has_user_table(data.config.model_class):
        raise ConfigError(
            f"{data.config['model']} knows users by what it learnt of each in training and cannot score a new history; "
            "name users of the dataset with --users, or use a model that scores from the history alone, such as "
            "LLM4CDSR or SASRec."
        )


def given_histories(
    data: CrossDomainDataset, histories: Sequence[tuple[str, Sequence[str]]], where: Sequence[str]
) -> ServedHistories:
    """Histories of users whom the model need not know.

    Parameters
    ----------
    data
        The dataset.
    histories
        R pairs of a user's name and item tokens, oldest first.
    where
        Where each of them comes from, for errors.

    Raises
    ------
    DataError
        A history is empty or names an item that the dataset does not have.
    """
    known = data.field2token_id[data.iid_field]
    items: list[int] = []
    pointers = [0]
    for (_, tokens), place in zip(histories, where, strict=True):
        if not tokens:
            raise DataError(f"{place}: the history is empty; name one item at least.")
        try:
            items += _ids(tokens, known, f"item of '{data.dataset_name}'")
        except ConfigError as error:
            raise DataError(f"{place}: {error}") from None
        pointers.append(len(items))
    names = np.array([name for name, _ in histories], dtype=object)
    return ServedHistories(
        names, np.zeros(len(names), dtype=np.int64), np.array(pointers), np.array(items, dtype=np.int64)
    )


def read_histories(path: Path) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Read histories from JSON lines: `{"user": "ann", "items": ["book:1", "movie:7"]}`, oldest item first.

    Returns
    -------
    (histories, where)
        Pairs of a name and item tokens, and the file and line of each; blank lines are passed over.

    Raises
    ------
    DataError
        The file cannot be read, holds no history, or a line is none.
    """
    histories, where = [], []
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    where.append(f"{path}, line {number}")
                    histories.append(_history_of(line, where[-1]))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(f"{path} cannot be read ({reason}); give a file of JSON lines.") from None
    if not histories:
        raise DataError(f"{path} holds no history; write a line for each user.")
    return histories, where


def _history_of(line: str, where: str) -> tuple[str, list[str]]:
    try:
        entry = json.loads(line)
        user, items = entry["user"], entry["items"]
    except (ValueError, KeyError, TypeError, RecursionError):
        user = items = None
    if isinstance(user, str) and not _is_text(user):
        raise DataError(f"{where}: the user {user!r} is no text that a file can hold; give another name.")
    if not isinstance(user, str) or not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise DataError(f'{where}: expected {{"user": "ann", "items": ["book:1", "movie:7"]}}, found {line[:80]!r}.')
    return user, items


def _is_text(name: str) -> bool:
    """Whether UTF-8 can say it: half of a surrogate pair, which JSON can name, is no character."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _ids(tokens: Sequence[str], known: dict[str, int], what: str) -> list[int]:
    ids = [known.get(token, 0) for token in tokens]  # 0 is padding, which a file cannot name: its token is not theirs
    missing = list(dict.fromkeys(token for token, number in zip(tokens, ids, strict=True) if number == 0))
    if missing:
        named = ", ".join(map(repr, missing[:_NAMED_AT_MOST])) + (", …" if len(missing) > _NAMED_AT_MOST else "")
        near = did_you_mean(missing[0], [token for token in known if known[token]]) if len(missing) == 1 else "."
        raise ConfigError(f"There is no {what} named {named}{near}")
    return ids


def split_tokens(texts: Sequence[str], known: dict[str, int]) -> list[str]:
    """Tokens out of `a,b` and `c`; a text that is a token itself stays whole, whatever is in it."""
    tokens = []
    for text in texts:
        tokens += [text] if text in known else [part.strip() for part in text.split(",") if part.strip()]
    return tokens
