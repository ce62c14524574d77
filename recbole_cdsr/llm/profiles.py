"""The offline extractive profiler (no LLM): user profiles from the titles of a user's own items.

It takes the place of LLM4CDSR's two prompts (summarise each interest cluster, then describe the preference)
where no LLM is at hand. The clusters are the paper's: K-means over the item embeddings of all domains, a
user's training items split by cluster, the latest ten of each considered. Instead of a summary, a cluster is
represented by the up to three of them that lie nearest to the centroid of those considered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.llm.prompts import read_prompt_file
from recbole_cdsr.ranges import expand_ranges, places_in_ranges, runs

EXTRACTIVE_PROFILER = "offline extractive profiler (no LLM)"
LATEST_PER_CLUSTER = 10
REPRESENTATIVES = 3
CLUSTER_SEED = 0
# Raise with any change of what the profiler computes: profiles made by another version are not taken.
_VERSION = 1
_BLOCK_INTERACTIONS = 32768


@dataclass(frozen=True)
class InterestClusters:
    """Every user's non-empty interest clusters and their representative items.

    Attributes
    ----------
    user_pointers : np.ndarray
        int64 `[U+1]`; the clusters of the j-th user are `user_pointers[j] .. user_pointers[j+1]-1`, the one
        with most items considered first.
    item_pointers : np.ndarray
        int64 `[G+1]`; the representatives of cluster g are `item_ids[item_pointers[g]:item_pointers[g+1]]`.
    item_ids : np.ndarray
        int64 `[R]`, of `interest_clusters` nearest to the cluster's centroid first, of `latest_in_clusters` oldest
        first.
    """

    user_pointers: np.ndarray
    item_pointers: np.ndarray
    item_ids: np.ndarray


def profiler_settings(clusters: int) -> dict[str, int]:
    """What decides a profile besides items and histories, for provenance."""
    return {
        "version": _VERSION,
        "clusters": clusters,
        "cluster_seed": CLUSTER_SEED,
        "latest_per_cluster": LATEST_PER_CLUSTER,
        "representatives": REPRESENTATIVES,
    }


def cluster_items(matrix: np.ndarray, clusters: int = 10, seed: int = CLUSTER_SEED) -> np.ndarray:
    """K-means over item vectors.

    Parameters
    ----------
    matrix : np.ndarray
        float32 `[n, D]`, one row per item.
    clusters : int
        Number of clusters; clamped to the number of items, which is logged.
    seed : int
        Of the k-means++ start; the same seed gives the same clusters.

    Returns
    -------
    np.ndarray
        int64 `[n]`, cluster of each row.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    kept = min(clusters, len(matrix))
    if kept < clusters:
        logging.getLogger().info(f"{clusters} profile clusters clamped to {kept}: there are no more items.")
    # One thread: the order of a threaded sum varies, and with it, now and then, a label.
    with threadpool_limits(limits=1):
        labels = KMeans(kept, n_init=1, max_iter=100, random_state=seed).fit_predict(matrix)
    return labels.astype(np.int64)


def interest_clusters(
    items: np.ndarray,
    item_cluster: np.ndarray,
    histories: Histories,
    latest: int = LATEST_PER_CLUSTER,
    representatives: int = REPRESENTATIVES,
) -> InterestClusters:
    """Split users' histories into interest clusters and pick the representatives of each.

    An item that a user consumed several times counts once, at its latest time. Of a user's items in a cluster
    the `latest` ones are considered; their mean is the cluster's centroid; the `representatives` nearest to
    it (Euclidean, the later one first where equally near) represent it.

    Parameters
    ----------
    items : np.ndarray
        float32 `[n_items, D]` by internal id.
    item_cluster : np.ndarray
        int64 `[n_items]`, from `cluster_items`; the padding row's value is never read.
    histories : Histories
        Training histories of U users.

    Returns
    -------
    InterestClusters
    """
    user, item, cluster = _considered(item_cluster, histories, latest)  # [M]
    starts, stops = runs(user, cluster)  # [G]
    sizes = stops - starts  # [G]
    distance = _distance_to_centroid(items, item, starts)  # [M]
    group = np.repeat(np.arange(len(starts)), sizes)  # [M]
    group_order = _largest_first(user[starts], cluster[starts], sizes)
    rank = np.empty_like(group_order)
    rank[group_order] = np.arange(len(group_order))
    # Nearest first, then newest.
    order = np.lexsort((np.arange(len(item)), distance, rank[group]))
    chosen = order[places_in_ranges(sizes[group_order]) < representatives]  # [R]
    per_group = np.minimum(sizes[group_order], representatives)  # [G]
    return _clusters(user[starts], per_group, item[chosen], len(histories.pointers) - 1)


def latest_in_clusters(
    item_cluster: np.ndarray, histories: Histories, latest: int = LATEST_PER_CLUSTER
) -> InterestClusters:
    """Split users' histories into interest clusters and keep the latest items of each, the oldest first.

    As `interest_clusters`, but with all the items considered instead of representatives: what LLM4CDSR's
    analyser is shown.
    """
    user, item, cluster = _considered(item_cluster, histories, latest)
    user, item, cluster = user[::-1], item[::-1], cluster[::-1]  # oldest first
    order = np.lexsort((cluster, user))  # stable
    user, item, cluster = user[order], item[order], cluster[order]
    starts, stops = runs(user, cluster)
    sizes = stops - starts
    group_order = _largest_first(user[starts], cluster[starts], sizes)
    _, chosen = expand_ranges(starts[group_order], sizes[group_order])
    return _clusters(user[starts], sizes[group_order], item[chosen], len(histories.pointers) - 1)


def _considered(
    item_cluster: np.ndarray, histories: Histories, latest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and clusters `[M]` of what is considered, by user and cluster, the newest first."""
    user = np.repeat(np.arange(len(histories.pointers) - 1), np.diff(histories.pointers))  # [N]
    item = np.asarray(histories.item_ids, dtype=np.int64)  # [N]
    time = np.arange(len(item))  # [N]
    # Latest occurrence of each (user, item): the last one of its run once sorted.
    order = np.lexsort((time, item, user))
    _, stops = runs(user[order], item[order])
    kept = order[stops - 1]
    user, item, time = user[kept], item[kept], time[kept]
    cluster = item_cluster[item]
    # Per (user, cluster), newest first; the place within the group decides who is considered.
    order = np.lexsort((-time, cluster, user))
    user, item, cluster = user[order], item[order], cluster[order]
    starts, stops = runs(user, cluster)
    considered = places_in_ranges(stops - starts) < latest
    return user[considered], item[considered], cluster[considered]


def _largest_first(user: np.ndarray, cluster: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Order of clusters `[G]`: by user, largest first, lowest cluster number first among equals."""
    return np.lexsort((cluster, -sizes, user))


def _clusters(user: np.ndarray, sizes: np.ndarray, items: np.ndarray, n_users: int) -> InterestClusters:
    per_user = np.bincount(user, minlength=n_users)  # [U]
    return InterestClusters(
        user_pointers=np.append(0, np.cumsum(per_user)).astype(np.int64),
        item_pointers=np.append(0, np.cumsum(sizes)).astype(np.int64),
        item_ids=items,
    )


def _distance_to_centroid(items: np.ndarray, item: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Squared distance of each item to the mean of its group, in float64 `[M]`."""
    distance = np.empty(len(item))
    for first, end in _blocks(starts, len(item)):
        begins = starts[first:end]
        stop = starts[end] if end < len(starts) else len(item)
        vectors = items[item[begins[0] : stop]].astype(np.float64)  # [m, D]
        sizes = np.diff(np.append(begins, stop))
        centroid = np.add.reduceat(vectors, begins - begins[0], axis=0) / sizes[:, None]  # [g, D]
        vectors -= np.repeat(centroid, sizes, axis=0)
        distance[begins[0] : stop] = np.einsum("md,md->m", vectors, vectors)
    return distance


def _blocks(starts: np.ndarray, length: int) -> list[tuple[int, int]]:
    """Cut groups into consecutive blocks of some ten thousand elements, whose vectors fit in memory."""
    bounds = np.searchsorted(starts, np.arange(0, length, _BLOCK_INTERACTIONS))
    bounds = np.unique(np.append(bounds, len(starts)))
    return list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))


def profile_vectors(items: np.ndarray, interests: InterestClusters) -> np.ndarray:
    """Profile vector of each user.

    ``p_u = normalise( 1/|C_u| Σ_{c ∈ C_u} 1/|R_uc| Σ_{v ∈ R_uc} e_v )``: C_u the user's clusters, R_uc the
    representatives of a cluster, e_v item vectors. Every cluster weighs the same.

    Parameters
    ----------
    items : np.ndarray
        float32 `[n_items, D]` by internal id.
    interests : InterestClusters
        Of U users.

    Returns
    -------
    np.ndarray
        float32 `[U, D]` of length 1; zero for a user without items.
    """
    n_users = len(interests.user_pointers) - 1
    profiles = np.zeros((n_users, items.shape[1]), dtype=np.float32)
    with_items = np.flatnonzero(np.diff(interests.user_pointers))  # [U']
    first_group = interests.user_pointers[with_items]  # [U']
    first_item = interests.item_pointers[first_group]  # [U']
    for first, end in _blocks(first_item, len(interests.item_ids)):
        groups = slice(first_group[first], interests.user_pointers[with_items[end - 1] + 1])
        begins = interests.item_pointers[groups]  # [g]
        stop = interests.item_pointers[groups.stop]
        vectors = items[interests.item_ids[begins[0] : stop]].astype(np.float64)  # [m, D]
        sizes = np.diff(np.append(begins, stop))
        of_cluster = np.add.reduceat(vectors, begins - begins[0], axis=0) / sizes[:, None]  # [g, D]
        # The mean over clusters differs from their sum by a factor, which the normalisation takes out again.
        of_user = np.add.reduceat(of_cluster, first_group[first:end] - groups.start, axis=0)  # [u, D]
        norm = np.linalg.norm(of_user, axis=1, keepdims=True)  # [u, 1]
        profiles[with_items[first:end]] = of_user / np.where(norm > 0, norm, 1.0)
    return profiles


def profile_texts(
    interests: InterestClusters,
    titles: Sequence[str],
    users: Sequence[int] | np.ndarray | None = None,
    prompt: str = "profile_extractive_en",
) -> list[str]:
    """Readable profile of users: the titles of their clusters' representatives.

    Parameters
    ----------
    interests : InterestClusters
        Of U users.
    titles : sequence of str
        `[n_items]`, by internal item id.
    users : sequence of int, optional
        Places of the users in `interests` (not internal ids); all when omitted.
    prompt : str
        The prompt file with the wording.

    Returns
    -------
    list of str
        One text per user, e.g. `Interests: Green tea, Matcha sweets; Cake tin`; "" for a user without items.
    """
    wording = read_prompt_file(prompt)
    cut = [title[: int(wording["title_max_chars"])].rstrip() for title in titles]
    item_ids, item_pointers = interests.item_ids.tolist(), interests.item_pointers.tolist()
    chosen = np.arange(len(interests.user_pointers) - 1) if users is None else np.asarray(users, dtype=np.int64)
    first, end = interests.user_pointers[chosen].tolist(), interests.user_pointers[chosen + 1].tolist()

    def entry(group: int) -> str:
        return wording["title_separator"].join(
            cut[item] for item in item_ids[item_pointers[group] : item_pointers[group + 1]]
        )

    return [
        wording["text"].replace("{interests}", wording["interest_separator"].join(map(entry, range(begin, stop))))
        if stop > begin
        else ""
        for begin, stop in zip(first, end, strict=True)
    ]


def profile_prompt_version(prompt: str = "profile_extractive_en") -> str:
    """Version of the wording of `profile_texts`."""
    wording = read_prompt_file(prompt)
    return f"{wording['name']}-{wording['version']}"
