"""Recall of a trained LLMCDSR, user by user and over all users with held-out interactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.config_names import did_you_mean
from recbole_cdsr.data.dataset import CrossDomainDataset
from recbole_cdsr.errors import CheckpointError, ConfigError
from recbole_cdsr.llm.item_table import item_table
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.model.llmcdsr import LLMCDSR
from recbole_cdsr.model.recall_network import padded_names
from recbole_cdsr.recommend.histories import split_tokens
from recbole_cdsr.trained_run import SavedRun, TrainedRun, selected_checkpoints
from recbole_cdsr.trainer.llmcdsr_trainer import pseudo_items_sha256

PAIRS_AT_ONCE = 512


@dataclass(frozen=True)
class RecalledInto:
    """Recall of one user into one domain.

    Attributes
    ----------
    domain : str
        Name of the domain.
    names : list[tuple[str, float]]
        Generated names with their pooling weights, heaviest first.
    items : list[tuple[str, float, bool]]
        Titles of the recalled items with their cosines, nearest first, and whether the item is held out.
    held_out : list[str]
        Titles of the user's held-out items in the domain.
    """

    domain: str
    names: list[tuple[str, float]]
    items: list[tuple[str, float, bool]]
    held_out: list[str]


@dataclass(frozen=True)
class ExplainedUser:
    """A user's training history (titles with domains, oldest first) and recall into every other domain."""

    token: str
    history: list[tuple[str, str]]
    n_held_out: int
    recalled: list[RecalledInto]


@dataclass(frozen=True)
class RecallSummary:
    """Over all pairs of a user and a domain recalled into that has held-out items of the user.

    Attributes
    ----------
    domain : str
        Domain recalled into.
    n_users : int
        Pairs.
    hit_rate : float
        Share with a held-out item among the recalled ones.
    by_chance : float
        The same share for as many different items of the domain drawn uniformly.
    """

    domain: str
    n_users: int
    hit_rate: float
    by_chance: float


def checkpoint_of_run(folder: Path) -> Path:
    """The selected checkpoint of a run.

    Raises
    ------
    CheckpointError
        There is none, or one for each domain, of which one must be named.
    """
    files = selected_checkpoints(folder)
    if None not in files:
        raise CheckpointError(
            f"{folder} has a checkpoint per domain; name one with --checkpoint {next(iter(files.values()))}."
        )
    return files[None]


class RecallView:
    """A trained LLMCDSR with its data.

    Parameters
    ----------
    config, data, model
        Of the run; the model in the state that is to be explained.
    """

    def __init__(self, config: CDSRConfig, data: CrossDomainDataset, model: LLMCDSR) -> None:
        self._data, self._model = data, model.eval()
        self._pseudo = data.pseudo_items
        self._titles = item_table(FeatureSettings(config, data.dataset_name), data).titles()
        log = data.log
        held_out = np.ones(len(log.items), dtype=bool)
        held_out[log.training_positions(fold_in=False)] = False
        self._held_out_keys = np.unique(log.users[held_out] * data.item_num + log.items[held_out])
        network = model.recall_network
        texts = torch.tensor(self._pseudo.vectors, dtype=network.item_table.dtype)
        self._projected = network.project_into_all(texts)  # [K, V, d]

    @classmethod
    def from_checkpoint(cls, path: Path, data_path: str | None = None) -> RecallView:
        """Load the model of a checkpoint, the data it was trained on and its pseudo items.

        Raises
        ------
        CheckpointError
            It cannot be read, is not of an LLMCDSR with recall, or was trained on other data or pseudo items.
        ConfigError, DataError, FeatureError
            Its configuration or data cannot be used here.
        """
        saved = SavedRun.open(path)
        if saved.state.get("model") != "LLMCDSR":
            raise CheckpointError(
                f"{path} is a checkpoint of {saved.state.get('model')}; explain shows the recall of LLMCDSR."
            )
        places = {} if data_path is None else {"data_path": data_path}
        config = saved.config(use_gpu=False, show_progress=False, **places)
        if config["augmentation"] != "recalled":
            raise CheckpointError(
                f"{path} was trained with augmentation: {config['augmentation']}; nothing is recalled."
            )
        run = TrainedRun(saved, config)
        run.check_learnt_from({"pseudo items": pseudo_items_sha256(run.data.pseudo_items)})
        return cls(config, run.data, run.model_of(run.data.domain_names[0]))

    def described(self) -> str:
        """Model, data and who generated the names, in one line."""
        return f"LLMCDSR on {self._data.dataset_name}, names by {self._pseudo.provenance.get('made_by')}"

    def random_users(self, count: int, seed: int) -> list[str]:
        """Tokens of users with pseudo items, without replacement."""
        users = np.unique(self._pseudo.user_ids)
        drawn = np.random.default_rng(seed).permutation(users)[:count]
        return [str(self._data.id2token(self._data.uid_field, user)) for user in drawn]

    def users_named(self, texts: Sequence[str]) -> list[str]:
        """Tokens of users out of `a,b` and `c`, as `recommend` reads them."""
        return split_tokens(texts, self._data.field2token_id[self._data.uid_field])

    def user(self, token: str) -> ExplainedUser:
        """Everything about one user.

        Raises
        ------
        ConfigError
            There is no such user.
        """
        data = self._data
        known = data.field2token_id[data.uid_field]
        user = known.get(token, 0)  # 0 is padding, which a file cannot name
        if not user:
            near = did_you_mean(token, [name for name in known if known[name]])
            raise ConfigError(f"There is no user '{token}' in '{data.dataset_name}'{near}")
        log = data.log
        trained = log.training_positions(fold_in=False)
        history = log.items[trained[log.users[trained] == user]]
        pairs = np.flatnonzero(self._pseudo.user_ids == user)
        items, cosines, weights = self._recall(pairs)
        recalled = []
        for row, pair in enumerate(pairs.tolist()):
            domain = int(self._pseudo.into_domain[pair])
            names = self._pseudo.names_of(pair)
            by_weight = sorted(zip(names, weights[row].tolist(), strict=False), key=lambda entry: -entry[1])
            size = self._model.recall_network.recall_sizes[domain]
            found = items[row, :size].numpy()
            hits = self._is_held_out(np.full(size, user), found)
            titles = [self._titles[item] for item in found.tolist()]
            held_out = self._held_out_items(user)
            recalled.append(
                RecalledInto(
                    data.domain_names[domain],
                    by_weight,
                    list(zip(titles, cosines[row, :size].tolist(), hits.tolist(), strict=True)),
                    [self._titles[item] for item in held_out[data.item_domain[held_out] == domain].tolist()],
                )
            )
        domains = [data.domain_names[domain] for domain in data.item_domain[history].tolist()]
        past = list(zip((self._titles[item] for item in history.tolist()), domains, strict=True))
        return ExplainedUser(token, past, len(self._held_out_items(user)), recalled)

    def summary(self) -> list[RecallSummary]:
        """How often recall meets held-out items, by the domain recalled into; those without such users are left out."""
        data, pseudo = self._data, self._pseudo
        owners, held = np.divmod(self._held_out_keys, data.item_num)
        keys = owners * len(data.domain_names) + data.item_domain[held]
        counts = np.bincount(keys, minlength=data.user_num * len(data.domain_names))
        n_held_out = counts[pseudo.user_ids * len(data.domain_names) + pseudo.into_domain]  # [P]
        results = []
        for domain, name in enumerate(data.domain_names):
            pairs = np.flatnonzero((n_held_out > 0) & (pseudo.into_domain == domain))
            if not len(pairs):
                continue
            size, hit = self._model.recall_network.recall_sizes[domain], []
            for part in np.array_split(pairs, -(-len(pairs) // PAIRS_AT_ONCE)):
                items = self._recall(part)[0][:, :size].numpy()  # [E, k]
                users = np.repeat(pseudo.user_ids[part], size).reshape(items.shape)
                hit.append(self._is_held_out(users, items).any(axis=1))
            n_items = int(data.domain_offsets[domain + 1] - data.domain_offsets[domain])
            # Chance that none of `size` different items is one of the h held-out ones.
            misses = [
                np.prod((n_items - size - np.arange(h)) / (n_items - np.arange(h))) for h in n_held_out[pairs].tolist()
            ]
            results.append(
                RecallSummary(name, len(pairs), float(np.concatenate(hit).mean()), 1 - float(np.mean(misses)))
            )
        return results

    @torch.no_grad()
    def _recall(self, pairs: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Items and cosines ``[E, k]`` and pooling weights ``[E, m]`` of some pairs."""
        names, counts = padded_names(self._pseudo.name_ids, self._pseudo.pointers, pairs)
        into = torch.from_numpy(self._pseudo.into_domain[pairs])
        projected = self._projected[into[:, None], torch.from_numpy(names)]  # [E, m, d]
        network = self._model.recall_network
        pooled, weights = network.pool(projected, torch.from_numpy(counts), into)
        return (*network.recall(pooled, into), weights)

    def _is_held_out(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.isin(users * self._data.item_num + items, self._held_out_keys)

    def _held_out_items(self, user: int) -> np.ndarray:
        first, last = np.searchsorted(
            self._held_out_keys, [user * self._data.item_num, (user + 1) * self._data.item_num]
        )
        return self._held_out_keys[first:last] % self._data.item_num
