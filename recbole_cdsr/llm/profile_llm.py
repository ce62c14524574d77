"""Feature sets of user profiles that an LLM writes: asked, put where the LLM has none, encoded, kept."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm import profiles, store
from recbole_cdsr.llm.asking import Asking, asking_for, identity, weights_at_hand
from recbole_cdsr.llm.history_texts import histories_sha256, shown_words
from recbole_cdsr.llm.item_features import expected_encoder, said
from recbole_cdsr.llm.item_table import ItemTable
from recbole_cdsr.llm.kept_vectors import KeptVectors
from recbole_cdsr.llm.profile_writing import WrittenProfiles, write_flat, write_hierarchical
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.llm.stored_answers import stored_answers, to_ask
from recbole_cdsr.llm.written_sets import written_set_name

TEXTS_SUFFIX = "texts.jsonl"


def llm_profiles(
    settings: FeatureSettings, dataset: Any, items: ItemTable, histories: Histories, user_tokens: list[str]
) -> store.FeatureSet:
    """The set of LLM-written profiles: the stored one if it is up to date and complete, else asked for now.

    Parameters
    ----------
    settings : FeatureSettings
        Of the run.
    dataset : CrossDomainDataset
        The loaded dataset.
    items : ItemTable
        Its items.
    histories : Histories
        Input histories of U users.
    user_tokens : list of str
        `[U]`.

    Raises
    ------
    ConfigError
        No LLM is configured.
    FeatureError
        As `run_requests` and the feature store.
    """
    expected = expected_profiles(settings, dataset, items, histories, user_tokens)
    name = written_set_name(settings.features_dir, "profiles", expected)
    word = "reused"
    stored = stored_answers(settings, "profiles", name)
    wanting = None if stored is None else to_ask(settings, stored)
    if stored is None or wanting is not None:
        try:
            word = _make(settings, dataset, items, histories, user_tokens, expected, name)
        except FeatureError as error:
            if stored is None:
                raise
            # What was given up is asked again by every run, and a run must not fail for it.
            logging.getLogger().warning(f"User profiles: {wanting}. {error}")
    found = store.load_feature_set(settings.features_dir, "profiles", name, user_tokens, expected=expected)
    logging.getLogger().info(said("User profiles", word, found, settings, name))
    return found


def expected_profiles(
    settings: FeatureSettings, dataset: Any, items: ItemTable, histories: Histories, user_tokens: list[str]
) -> dict[str, Any]:
    """What the sidecar of the set must say."""
    generator = settings.generator_settings()
    generator.check_can_write("profiles")
    hierarchical = settings.profile_style == "hierarchical"
    prompts = settings.chat_prompts(*_tasks(settings))
    words = items.words(dataset.item_domain, dataset.domain_names)
    return {
        "style": settings.profile_style,
        "texts_sha256": histories_sha256(user_tokens, histories, dataset),
        "prompt_version": ", ".join(prompt.version for prompt in prompts.values()),
        "encoder": expected_encoder(settings.encoder, items.source.provenance),
        "generator_identity": identity(generator),
        "history_tokens": settings.history_tokens,
        "profiler": profiles.profiler_settings(settings.profile_clusters) if hierarchical else None,
        "made_of_items": {
            "titles_sha256": store.hash_strings(words.titles),
            **shown_words(prompts.values(), words, dataset.domain_names),
            "matrix_sha256": items.source.provenance["matrix_sha256"] if hierarchical else None,
            "permute_seed": settings.permute_seed,
        },
        **weights_at_hand(generator),
    }


def ask_profiles(
    settings: FeatureSettings,
    dataset: Any,
    items: ItemTable,
    histories: Histories,
    user_tokens: Sequence[str],
    asking: Asking,
) -> WrittenProfiles:
    """Have the LLM write the profiles in the configured style."""
    prompts = settings.chat_prompts(*_tasks(settings))
    words = items.words(dataset.item_domain, dataset.domain_names)
    if settings.profile_style == "flat":
        return write_flat(asking, prompts, words, histories, user_tokens, dataset.domain_names, settings.history_tokens)
    labels = items.by_id(profiles.cluster_items(items.source.matrix, settings.profile_clusters), -1)
    return write_hierarchical(asking, prompts, words, histories, user_tokens, labels, settings.history_tokens)


def encoded_texts(settings: FeatureSettings, texts: Sequence[str], kept: KeptVectors | None = None) -> np.ndarray:
    """Profile texts `[U]` as vectors float32 `[U, D_u]`; zero for a user without text."""
    encoder = settings.text_encoder()
    logging.getLogger().info(f"User profiles: encoding {len(texts)} profile texts with {encoder.name} …")
    matrix = encoder.encode(texts, settings.show_progress, kept)  # [U, D_u]
    matrix[np.array([not text for text in texts], dtype=bool)] = 0.0  # a user without items has no profile
    return matrix


def _tasks(settings: FeatureSettings) -> tuple[str, ...]:
    return ("profile",) if settings.profile_style == "flat" else ("analyser", "summariser")


def _make(
    settings: FeatureSettings,
    dataset: Any,
    items: ItemTable,
    histories: Histories,
    user_tokens: list[str],
    expected: dict[str, Any],
    name: str,
) -> str:
    store.check_writable(settings.features_dir)
    settings.text_encoder()  # refused now rather than after the LLM was paid
    started = time.perf_counter()
    with asking_for(settings.generator_settings(), "profiles") as asking:
        written = ask_profiles(settings, dataset, items, histories, user_tokens, asking)
        generator = asking.generator.provenance()
    texts, by = _with_fallback(settings, items, histories, written)
    lines = [
        json.dumps({"user": user, "by": who, "text": text}, ensure_ascii=False)
        for user, who, text in zip(user_tokens, by, texts, strict=True)
    ]
    made_by = f"LLM {generator['model']} ({settings.profile_style} profiles)"
    if written.report["by_fallback"]:
        made_by += f"; {written.report['by_fallback']} of {len(texts)} users by the {profiles.EXTRACTIVE_PROFILER}"
        logging.getLogger().warning(
            f"User profiles: the LLM has none for {written.report['by_fallback']} of {len(texts)} users, who get "
            f"those of the {profiles.EXTRACTIVE_PROFILER}."
        )
    if _is_stored(settings, user_tokens, expected, name, lines, written.report):
        return "reused"
    with KeptVectors(settings.features_dir) as kept:
        matrix = encoded_texts(settings, texts, kept)
        store.save_feature_set(
            settings.features_dir,
            "profiles",
            name,
            matrix,
            user_tokens,
            made_by=made_by,
            extra={
                **expected,
                "how": "every user's profile text encoded",
                "generator": generator,
                "answers": written.report,
            },
            texts_sha256=expected["texts_sha256"],
            prompt_version=expected["prompt_version"],
            encoder=expected["encoder"],
            texts={TEXTS_SUFFIX: lines},
        )
    return f"made in {time.perf_counter() - started:.0f} s"


def _is_stored(
    settings: FeatureSettings,
    user_tokens: list[str],
    expected: dict[str, Any],
    name: str,
    lines: list[str],
    report: dict[str, Any],
) -> bool:
    """Whether a sound set of the very same texts and counts is stored: what was open still got no answer again."""
    if not store.feature_set_exists(settings.features_dir, "profiles", name):
        return False
    _, sidecar_path = store.feature_paths(settings.features_dir, "profiles", name)
    try:
        found = store.load_feature_set(settings.features_dir, "profiles", name, user_tokens, expected=expected)
        stored = store.text_path(sidecar_path, TEXTS_SUFFIX).read_bytes()
    except (FeatureError, OSError):
        return False
    return found.provenance.get("answers") == report and stored == "".join(f"{line}\n" for line in lines).encode()


def _with_fallback(
    settings: FeatureSettings, items: ItemTable, histories: Histories, written: WrittenProfiles
) -> tuple[list[str], list[str]]:
    """Texts of all users, and who wrote each: `llm`, `extractive` or, without history, `none`."""
    missing = [user for user, text in enumerate(written.texts) if not text]
    texts, by = list(written.texts), ["llm"] * len(written.texts)
    if missing:
        labels = profiles.cluster_items(items.source.matrix, settings.profile_clusters)
        interests = profiles.interest_clusters(items.vectors, items.by_id(labels, -1), histories)
        extracted = profiles.profile_texts(interests, items.titles(), missing)
        for user, text in zip(missing, extracted, strict=True):
            texts[user], by[user] = text, "extractive" if text else "none"
    return texts, by
