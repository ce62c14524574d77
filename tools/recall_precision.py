"""How often what LLMCDSR recalls was really bought: users it was not trained on, one of whose domains is hidden.

    python tools/recall_precision.py saved/<run>

Judged users of a pre-split release with interactions in two domains or more are no part of training, neither of the
recommender nor of the alignment. Each stands in for a single-domain user: names come from the most similar overlapped
training user (offline retrieval, no LLM), items are recalled into the hidden domain, and a hit is an item that the user
has there. The rows of the table, each ten items of the hidden domain:

- `names`: the items whose titles were generated, the best that recall could give back;
- `recalled`: with the trained pooling; `recalled, uniform pooling`: without it; `recalled, raw texts`: without
  alignment;
- `most popular` and `random`: what knows nothing of the user.

`own items` tells the alignment apart from the names: the share of items whose own text has them among its ten nearest.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import numpy as np
import torch

import recbole_cdsr  # noqa: F401 - makes RecBole importable
from recbole_cdsr.data.sequences import TRAIN, Histories
from recbole_cdsr.errors import CDSRError, ConfigError
from recbole_cdsr.llm.item_table import item_table
from recbole_cdsr.llm.pseudo_items import NamedPairs
from recbole_cdsr.llm.pseudo_retrieval import retrieve_pseudo_items
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.model.recall_network import RecallNetwork, padded_names
from recbole_cdsr.ranges import expand_ranges
from recbole_cdsr.trained_run import SavedRun, TrainedRun

AT_ONCE = 512
TEN = 10


def main() -> int:
    """Print a table for each domain recalled into."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="directory of a run of LLMCDSR, or a checkpoint")
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    try:
        saved = SavedRun.open(options.run)
        run = TrainedRun(saved, saved.config(["--show_progress=False"]))
        if run.config["model"] != "LLMCDSR" or run.config["augmentation"] != "recalled" or not run.config["alignment"]:
            raise CDSRError(f"{options.run} is no run of LLMCDSR with aligned recall; name one.")
        data = run.data
        network = run.model_of(data.domain_names[0]).recall_network
        users, keys = hidden_users(data)
        pairs, own, texts = retrieved_names(run, data, users)
    except CDSRError as error:
        print(error, file=sys.stderr)
        return 2
    raw = RecallNetwork(data.domain_offsets, texts.shape[1], texts.shape[1], TEN, aligned=False)
    raw.item_table.copy_(texts)
    uniform = RecallNetwork(data.domain_offsets, texts.shape[1], network.item_table.shape[1], TEN)
    uniform.load_state_dict({**network.state_dict(), "pooling": torch.zeros_like(network.pooling)})
    generator = np.random.default_rng(run.config["seed"])
    popularity = np.bincount(data.log.items[data.log.training_positions(fold_in=False)], minlength=data.item_num)
    print("| into | ten items | users | a hit among them | hits an item | distinct items |")
    print("| --- | --- | --- | --- | --- | --- |")
    for domain, name in enumerate(data.domain_names):
        asked = np.flatnonzero((pairs.into_domain == domain) & np.isin(pairs.users, own))
        if not len(asked):
            continue
        start, stop = map(int, data.domain_offsets[domain : domain + 2])
        size = min(TEN, stop - start)
        owners = pairs.users[asked]
        names, counts = padded_names(pairs.name_ids, pairs.pointers, asked)
        popular = start + np.argsort(-popularity[start:stop], kind="stable")[:size]
        lists = {
            "names": names,
            "recalled": recalled(network, texts, names, counts, domain)[:, :size],
            "recalled, uniform pooling": recalled(uniform, texts, names, counts, domain)[:, :size],
            "recalled, raw texts": recalled(raw, texts, names, counts, domain)[:, :size],
            "most popular": np.tile(popular, (len(asked), 1)),
            "random": generator.integers(start, stop, (len(asked), size)),
        }
        for what, items in lists.items():
            hits = np.isin(owners[:, None] * data.item_num + items, keys) & (items > 0)  # [E, 10]
            print(
                f"| {name} | {what} | {len(asked)} | {hits.any(axis=1).mean():.4f} | "
                f"{hits.sum() / (items > 0).sum():.5f} | {len(np.unique(items[items > 0]))} |"
            )
        print(f"| {name} | own items | | {own_items(network, texts, start, stop, domain):.4f} | | |")
    return 0


def hidden_users(data) -> tuple[Histories, np.ndarray]:
    """Training histories with, after them, one single-domain user for each judged user and domain of theirs.

    Returns
    -------
    Histories
        Ids beyond the dataset's last one are stand-ins.
    np.ndarray
        int64, sorted ``stand-in * item_num + item`` of what is hidden.

    Raises
    ------
    ConfigError
        No judged user of two domains was left out of training.
    """
    log, train = data.log, data.training_histories(held_out=False)
    judged = np.flatnonzero((log.segment_parts != TRAIN) & ~np.isin(log.segment_users, train.user_ids))
    judged = judged[np.unique(log.segment_users[judged], return_index=True)[1]]  # a user counts once
    rows, flat = expand_ranges(log.segment_starts[judged], (log.segment_stops - log.segment_starts)[judged])
    domains = data.item_domain[log.items[flat]]
    n_domains = len(data.domain_names)
    knows = np.zeros((len(judged), n_domains), dtype=bool)
    knows[rows, domains] = True
    pairs = np.argwhere(knows & (knows.sum(axis=1) > 1)[:, None])  # stand-ins: judged user and the domain that is shown
    if not len(pairs):
        raise ConfigError(f"'{data.dataset_name}' has no user of two domains who is judged and not trained on.")
    place = np.full((len(judged), n_domains), -1)
    place[pairs[:, 0], pairs[:, 1]] = np.arange(len(pairs))
    shown = place[rows, domains]
    order = np.argsort(shown[shown >= 0], kind="stable")
    items = log.items[flat][shown >= 0][order]
    lengths = np.bincount(shown[shown >= 0], minlength=len(pairs))
    ids = data.user_num + np.arange(len(pairs))
    histories = Histories(
        np.append(train.user_ids, ids),
        np.append(train.pointers, train.pointers[-1] + np.cumsum(lengths)),
        np.append(train.item_ids, items),
    )
    hidden = [
        (len(train.user_ids) + place[rows, domain][mine]) * data.item_num + log.items[flat][mine]
        for domain in range(n_domains)
        for mine in [(place[rows, domain] >= 0) & (domains != domain)]
    ]
    return histories, np.unique(np.concatenate(hidden))


def retrieved_names(run: TrainedRun, data, users: Histories) -> tuple[NamedPairs, np.ndarray, torch.Tensor]:
    """Names for the stand-ins, their places among the users, and the items' text vectors ``[n_items, D]``."""
    settings = FeatureSettings(run.config, data.dataset_name)
    titles = np.asarray(item_table(settings, data).titles())
    numbers = np.unique([f"{d} {t}" for d, t in zip(data.item_domain, titles, strict=True)], return_inverse=True)[1]
    texts = data.llm_features.items
    pairs = retrieve_pseudo_items(
        texts, numbers, users, data.item_domain, len(data.domain_names), TEN, settings.pseudo_min_names
    )
    own = np.flatnonzero(users.user_ids >= data.user_num)
    return pairs.with_at_least(settings.pseudo_min_names), own, torch.from_numpy(np.asarray(texts))


@torch.no_grad()
def recalled(network: RecallNetwork, texts: torch.Tensor, names: np.ndarray, counts: np.ndarray, domain: int):
    """Ids of the items recalled, int64 ``[E, k]``."""
    found = []
    for part in np.array_split(np.arange(len(names)), -(-len(names) // AT_ONCE)):
        projected = network.project(texts[torch.from_numpy(names[part])].to(network.item_table.dtype), domain)
        into = torch.full((len(part),), domain)
        pooled, _ = network.pool(projected, torch.from_numpy(counts[part]), into)
        found.append(network.recall(pooled, into)[0].numpy())
    return np.concatenate(found)


def own_items(network: RecallNetwork, texts: torch.Tensor, start: int, stop: int, domain: int) -> float:
    """Share of items that are among the ten nearest of their own text."""
    items = np.arange(start, stop)
    found = recalled(network, texts, items[:, None], np.ones(len(items), dtype=np.int64), domain)
    return float((found[:, :TEN] == items[:, None]).any(axis=1).mean())


if __name__ == "__main__":
    sys.exit(main())
