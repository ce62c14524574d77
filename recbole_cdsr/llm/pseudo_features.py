"""Pseudo items of a loaded dataset: read from the store, or made now."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pandas as pd

from recbole_cdsr.data.card_features import note_features
from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm import store
from recbole_cdsr.llm.history_texts import histories_sha256
from recbole_cdsr.llm.item_table import ItemTable, item_table
from recbole_cdsr.llm.kept_vectors import KeptVectors
from recbole_cdsr.llm.pseudo_items import NamedPairs, PseudoItems
from recbole_cdsr.llm.pseudo_llm import expected_llm_pseudo, llm_pseudo_items
from recbole_cdsr.llm.pseudo_retrieval import RETRIEVAL_GENERATOR, VERSION, retrieve_pseudo_items
from recbole_cdsr.llm.pseudo_store import load_pseudo_items, save_pseudo_items
from recbole_cdsr.llm.pseudo_writing import WrittenPseudoItems
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.llm.spending import spent_together
from recbole_cdsr.llm.stored_answers import stored_answers, to_ask
from recbole_cdsr.llm.written_sets import written_set_name

_USERS_NAMED = 20


@spent_together()
def build_pseudo_items(config: Any, dataset: Any, items: ItemTable | None = None) -> PseudoItems:
    """Pseudo items of a dataset's single-domain users; what its lazy `pseudo_items` calls.

    Only training rows are read: a user is single-domain, and an example to others, by the training part.

    Parameters
    ----------
    config : mapping or RecBole Config
        As `build_llm_features`, and `pseudo_generator` (`retrieval`, offline, or `llm`), `pseudo_max_names` (10),
        `pseudo_min_names` (3), and for the LLM `pseudo_shots` (3), `pseudo_seed` (2026), `pseudo_extraction`
        (`llm` or `parser`).
    dataset : CrossDomainDataset
        Needs what `build_llm_features` needs, `item_domain`, `domain_names` and
        `training_histories(held_out=False)`.
    items : ItemTable, optional
        The dataset's items, where they have been read already.

    Returns
    -------
    PseudoItems

    Raises
    ------
    FeatureError
        When stored features are stale or damaged, the encoder is refused, or nothing can be written.
    ConfigError
        When a key has a value it cannot have.
    """
    settings = FeatureSettings(config, dataset.dataset_name)
    items = items or item_table(settings, dataset)
    histories = dataset.training_histories(held_out=False)
    user_tokens = list(map(str, dataset.id2token(dataset.uid_field, histories.user_ids)))
    expected = _expected(settings, dataset, items, items.titles(), histories, user_tokens)
    name = _set_name(settings, expected)
    word = "reused"
    if not _is_complete(settings, name):
        store.check_writable(settings.features_dir)
        # What an LLM writes is shared out among the processes that ask it, so that none has to wait.
        by_llm = settings.pseudo_generator == "llm"
        alone = nullcontext() if by_llm else store.sole_maker(settings.features_dir, "pseudo", name)
        with alone:
            if by_llm or not _is_complete(settings, name):  # else made while this one waited
                started = time.perf_counter()
                if _make(settings, dataset, items, histories, user_tokens, name, expected):
                    word = f"made in {time.perf_counter() - started:.0f} s"
    pairs, names, vectors, provenance = load_pseudo_items(settings.features_dir, name, user_tokens, expected)
    _say(provenance, word, settings, name)
    note_features(settings.dataset_dir, settings.dataset_name, dataset.card, "pseudo", provenance)
    kept = pairs.with_at_least(settings.pseudo_min_names)
    return PseudoItems(
        user_ids=histories.user_ids[kept.users],
        into_domain=kept.into_domain,
        pointers=kept.pointers,
        name_ids=kept.name_ids,
        vectors=vectors,
        names=names,
        provenance=provenance,
    )


def _is_complete(settings: FeatureSettings, name: str) -> bool:
    """Whether a set is stored and nothing is to be asked for it."""
    stored = stored_answers(settings, "pseudo", name)
    return stored is not None and to_ask(settings, stored) is None


def _make(
    settings: FeatureSettings,
    dataset: Any,
    items: ItemTable,
    histories: Histories,
    user_tokens: list[str],
    name: str,
    expected: dict[str, Any],
) -> bool:
    """Make and store the set; False where the stored one stays."""
    try:
        with KeptVectors(settings.features_dir) as kept:
            if settings.pseudo_generator == "llm":
                written, encoder, made = llm_pseudo_items(settings, dataset, items, histories, user_tokens)
                if _is_stored(settings, user_tokens, expected, name, written):
                    return False
                pairs, names = written.pairs, written.names
                logging.getLogger().info(f"Pseudo items: encoding {len(names)} different names with {encoder.name} …")
                vectors = encoder.encode(names, settings.show_progress, kept)
            else:
                pairs, names, vectors = _retrieved(settings, dataset, items, items.titles(), histories)
                made = {}
            report = _too_few(pairs, settings.pseudo_min_names, user_tokens, dataset.domain_names)
            save_pseudo_items(
                settings.features_dir, name, pairs, names, vectors, user_tokens, expected | made | {"too_few": report}
            )
    except FeatureError as error:
        if not store.feature_set_exists(settings.features_dir, "pseudo", name):
            raise
        # What was given up is asked again by every run, and a run must not fail for it.
        logging.getLogger().warning(f"Pseudo items: some requests are open still. {error}")
        return False
    return True


def _is_stored(
    settings: FeatureSettings, user_tokens: list[str], expected: dict[str, Any], name: str, written: WrittenPseudoItems
) -> bool:
    """Whether a sound set of the very same names and counts is stored: what was open still got no answer again."""
    if not store.feature_set_exists(settings.features_dir, "pseudo", name):
        return False
    try:
        pairs, names, _, provenance = load_pseudo_items(settings.features_dir, name, user_tokens, expected)
    except FeatureError:
        return False
    return (
        provenance.get("answers") == written.report
        and names == written.names
        and all(np.array_equal(of, vars(written.pairs)[part]) for part, of in vars(pairs).items())
    )


def stored_pseudo_items(
    settings: FeatureSettings, dataset: Any, items: ItemTable
) -> tuple[NamedPairs, list[str], np.ndarray, dict[str, Any]] | None:
    """The stored set of all pairs, those with too few names too, as `load_pseudo_items`; None when there is none."""
    histories = dataset.training_histories(held_out=False)
    user_tokens = list(map(str, dataset.id2token(dataset.uid_field, histories.user_ids)))
    expected = _expected(settings, dataset, items, items.titles(), histories, user_tokens)
    name = _set_name(settings, expected)
    if not store.feature_set_exists(settings.features_dir, "pseudo", name):
        return None
    return load_pseudo_items(settings.features_dir, name, user_tokens, expected)


def _expected(
    settings: FeatureSettings,
    dataset: Any,
    items: ItemTable,
    titles: Sequence[str],
    histories: Histories,
    user_tokens: list[str],
) -> dict[str, Any]:
    """What the sidecar of the set must say."""
    common = {
        "texts_sha256": histories_sha256(user_tokens, histories, dataset),
        "titles_sha256": store.hash_strings(titles),
        "domains": list(dataset.domain_names),
        "min_names": settings.pseudo_min_names,
    }
    by_llm = settings.pseudo_generator == "llm"
    return common | (expected_llm_pseudo(settings, dataset, items) if by_llm else _expected_retrieval(settings, items))


def _set_name(settings: FeatureSettings, expected: dict[str, Any]) -> str:
    if settings.pseudo_generator == "llm":
        return written_set_name(settings.features_dir, "pseudo", expected)
    digest = hashlib.sha256(json.dumps(expected, sort_keys=True).encode()).hexdigest()[:8]
    return f"{store.slug(expected['encoder']['name'])}-{digest}"


def _expected_retrieval(settings: FeatureSettings, items: ItemTable) -> dict[str, Any]:
    return {
        "made_by": RETRIEVAL_GENERATOR,
        "prompt_version": "none",
        "encoder": dict(items.source.provenance["encoder"]),
        "how": "rows of the item features; no name was encoded anew",
        "retrieval": {"version": VERSION, "max_names": settings.pseudo_max_names},
        "made_of_items": {
            "matrix_sha256": items.source.provenance["matrix_sha256"],
            "permute_seed": settings.permute_seed,
        },
    }


def _retrieved(
    settings: FeatureSettings, dataset: Any, items: ItemTable, titles: Sequence[str], histories: Histories
) -> tuple[NamedPairs, list[str], np.ndarray]:
    name_of = pd.factorize(np.array(titles, dtype=object))[0]  # [n_items], equal titles share a number
    pairs = retrieve_pseudo_items(
        items.vectors,
        name_of,
        histories,
        dataset.item_domain,
        len(dataset.domain_names),
        max_names=settings.pseudo_max_names,
        min_names=settings.pseudo_min_names,
    )
    named, name_ids = np.unique(pairs.name_ids, return_inverse=True)  # [V], [M]
    pairs = NamedPairs(pairs.users, pairs.into_domain, pairs.pointers, name_ids)
    return pairs, [titles[item] for item in named.tolist()], items.vectors[named]


def _too_few(
    pairs: NamedPairs, min_names: int, user_tokens: Sequence[str], domain_names: Sequence[str]
) -> dict[str, Any]:
    """How many pairs have fewer names than needed, by domain, and the first users among them."""
    short = np.diff(pairs.pointers) < min_names
    counts = np.bincount(pairs.into_domain[short], minlength=len(domain_names)).tolist()
    first = np.unique(pairs.users[short])[:_USERS_NAMED].tolist()
    return {
        "pairs": int(short.sum()),
        "by_domain": dict(zip(domain_names, counts, strict=True)),
        "first_users": [user_tokens[user] for user in first],
    }


def _say(provenance: dict[str, Any], word: str, settings: FeatureSettings, name: str) -> None:
    logger = logging.getLogger()
    path, _ = store.feature_paths(settings.features_dir, "pseudo", name)
    logger.info(
        f"Pseudo items: {provenance['pairs']} single-domain users x other domains, {provenance['names']} different "
        f"names, {word}, made by {provenance['made_by']} with {provenance['encoder']['name']} ({path})."
    )
    short = provenance["too_few"]
    if short["pairs"]:
        shown = ", ".join(short["first_users"][:3])
        logger.warning(
            f"Pseudo items: {short['pairs']} of {provenance['pairs']} have fewer than {provenance['min_names']} "
            f"different names and are left out (first users: {shown})."
        )
