"""Feature sets of pseudo items that an LLM writes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.asking import Asking, asking_for, identity, weights_at_hand
from recbole_cdsr.llm.encoder import TextEncoder
from recbole_cdsr.llm.history_texts import shown_words
from recbole_cdsr.llm.item_features import expected_encoder
from recbole_cdsr.llm.item_table import ItemTable
from recbole_cdsr.llm.pseudo_writing import PseudoLimits, WrittenPseudoItems, write_pseudo_items
from recbole_cdsr.llm.settings import FeatureSettings


def expected_llm_pseudo(settings: FeatureSettings, dataset: Any, items: ItemTable) -> dict[str, Any]:
    """What the sidecar of an LLM's set must say besides what every set of pseudo items says.

    Raises
    ------
    ConfigError
        No LLM is configured.
    """
    generator = settings.generator_settings()
    generator.check_can_write("pseudo items")
    prompts = settings.chat_prompts(*_tasks(settings))
    words = items.words(dataset.item_domain, dataset.domain_names)
    return {
        "prompt_version": ", ".join(prompt.version for prompt in prompts.values()),
        "encoder": expected_encoder(settings.encoder, items.source.provenance),
        "how": "every name encoded",
        "generator_identity": identity(generator),
        "asked_with": {
            "shots": settings.pseudo_shots,
            "seed": settings.pseudo_seed,
            "history_tokens": settings.history_tokens,
            "max_names": settings.pseudo_max_names,
            "extraction": settings.pseudo_extraction,
        },
        "made_of_items": {
            "matrix_sha256": None,
            "permute_seed": settings.permute_seed,
            **shown_words(prompts.values(), words, dataset.domain_names),
        },
        **weights_at_hand(generator),
    }


def ask_pseudo_items(
    settings: FeatureSettings,
    dataset: Any,
    items: ItemTable,
    histories: Histories,
    user_tokens: Sequence[str],
    asking: Asking,
) -> WrittenPseudoItems:
    """Have the LLM name pseudo items."""
    return write_pseudo_items(
        asking,
        settings.chat_prompts("generate", "extract"),
        items.words(dataset.item_domain, dataset.domain_names),
        histories,
        user_tokens,
        dataset.item_domain,
        dataset.domain_names,
        PseudoLimits(
            shots=settings.pseudo_shots,
            seed=settings.pseudo_seed,
            history_tokens=settings.history_tokens,
            min_names=settings.pseudo_min_names,
            max_names=settings.pseudo_max_names,
            extraction=settings.pseudo_extraction,
        ),
    )


def llm_pseudo_items(
    settings: FeatureSettings,
    dataset: Any,
    items: ItemTable,
    histories: Histories,
    user_tokens: Sequence[str],
) -> tuple[WrittenPseudoItems, TextEncoder, dict[str, Any]]:
    """Pairs and names, what the names are to be encoded with, and the sidecar's entries about who made them.

    Raises
    ------
    FeatureError
        As `run_requests`; or when the names' vectors would be of another width than the items'.
    """
    encoder = settings.text_encoder()
    if encoder.dim != items.vectors.shape[1]:
        raise FeatureError(
            f"Names of pseudo items are compared with items: {encoder.name} (llm_encoder) gives vectors of "
            f"{encoder.dim} numbers and the item features have {items.vectors.shape[1]}; make both with one encoder."
        )
    if settings.item_features_file is not None:
        logging.getLogger().warning(
            f"Pseudo items: names are encoded with {encoder.name}, and the items' vectors are from "
            "item_features_file; they can be compared only if the same encoder made them."
        )
    with asking_for(settings.generator_settings(), "pseudo items") as asking:
        written = ask_pseudo_items(settings, dataset, items, histories, user_tokens, asking)
        generator = asking.generator.provenance()
    made_by = f"LLM {generator['model']} ({settings.pseudo_shots} examples)"
    return written, encoder, {"made_by": made_by, "generator": generator, "answers": written.report}


def _tasks(settings: FeatureSettings) -> tuple[str, ...]:
    return ("generate", "extract") if settings.pseudo_extraction == "llm" else ("generate",)
