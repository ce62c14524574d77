"""What `recbole-cdsr features build` does: build, plan, ask for a part, write batch files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recbole_cdsr.data.card import FEATURE_NAMES
from recbole_cdsr.data.card_features import note_features
from recbole_cdsr.data.sequences import Histories
from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.llm import store
from recbole_cdsr.llm.asking import Asking, StepNotAnsweredError, asking_for
from recbole_cdsr.llm.batch_files import import_batch, named
from recbole_cdsr.llm.build import build_llm_features
from recbole_cdsr.llm.generator_settings import GeneratorSettings
from recbole_cdsr.llm.item_features import item_set_name, read_items
from recbole_cdsr.llm.item_table import ItemTable, item_table
from recbole_cdsr.llm.profile_llm import ask_profiles
from recbole_cdsr.llm.prompts import item_texts
from recbole_cdsr.llm.pseudo_features import build_pseudo_items
from recbole_cdsr.llm.pseudo_llm import ask_pseudo_items
from recbole_cdsr.llm.request_limits import Shard, read_shard
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.llm.spending import spent_together

_SQLITE = b"SQLite format 3\x00"


@spent_together()
def build(config: Any, dataset: Any, wanted: Sequence[str]) -> list[str]:
    """Build what is missing; a line for each feature that says who made it."""
    settings = FeatureSettings(config, dataset.dataset_name)
    items = item_table(settings, dataset)
    note_features(settings.dataset_dir, settings.dataset_name, dataset.card, "items", items.provenance)
    lines = []
    if "items" in wanted or "profiles" in wanted:
        lines.append(f"items: {items.provenance['made_by']}, {items.provenance['encoder']['name']}")
    if "profiles" in wanted:
        profiles = build_llm_features(config, dataset, items).provenance["profiles"]
        lines.append(f"profiles: {'none are wanted' if profiles is None else profiles['made_by']}")
    if "pseudo" in wanted:
        pseudo = build_pseudo_items(config, dataset, items)
        few = pseudo.provenance["too_few"]["pairs"]
        lines.append(
            f"pseudo items: {pseudo.provenance['made_by']}; {len(pseudo.user_ids):,} single-domain users x other "
            f"domains have names, {few:,} have too few"
        )
    return lines


@dataclass
class _Questions:
    """The features of one dataset that an LLM is to write."""

    settings: FeatureSettings
    dataset: Any

    @cached_property
    def _words(self) -> ItemTable:
        return item_table(self.settings, self.dataset, words_only=True)

    @cached_property
    def _vectors(self) -> ItemTable:
        return item_table(self.settings, self.dataset)

    def ask(self, feature: str, asking: Asking) -> None:
        """Go through all steps of a feature."""
        histories = self.histories(feature)
        tokens = list(map(str, self.dataset.id2token(self.dataset.uid_field, histories.user_ids)))
        ask = ask_profiles if feature == "profiles" else ask_pseudo_items
        items = self._vectors if self.vectors_are_needed(feature) else self._words
        ask(self.settings, self.dataset, items, histories, tokens, asking)

    def histories(self, feature: str) -> Histories:
        """What a feature is made of."""
        return self.dataset.training_histories(held_out=feature == "profiles")

    def by_llm(self, feature: str) -> bool:
        if feature == "profiles":
            return self.settings.use_profiles and self.settings.profile_generator == "llm"
        return feature == "pseudo" and self.settings.pseudo_generator == "llm"

    def vectors_are_needed(self, feature: str) -> bool:
        """Whether the questions of a feature depend on the items' vectors: interest clusters do."""
        return feature == "profiles" and self.settings.profile_style == "hierarchical"


def plan(config: Any, dataset: Any, wanted: Sequence[str], shard: str | None = None) -> list[str]:
    """What a build would ask, count and cost; nothing is asked, and no feature set is built."""
    settings = FeatureSettings(config, dataset.dataset_name)
    questions = _Questions(settings, dataset)
    lines = []
    unmade = _items_to_encode(settings)
    if "items" in wanted or unmade:
        lines += _item_plan(settings, unmade)
    part = None if shard is None else read_shard(shard)
    for feature in wanted:
        if feature == "items":
            continue
        if not questions.by_llm(feature):
            paid = _texts_to_pay(questions, feature)
            end = f"no LLM is asked; {paid}" if paid else "nothing is asked and nothing costs"
            lines.append(f"{FEATURE_NAMES[feature]}: made offline or not wanted; {end}")
        elif unmade and questions.vectors_are_needed(feature):
            lines.append(
                f"{FEATURE_NAMES[feature]}: interest clusters are made of the items' vectors, which are not there yet; "
                "build them with --what=items, then plan again"
            )
        else:
            lines += _request_plan(questions, feature, part)
    return lines


def _request_plan(questions: _Questions, feature: str, shard: Shard | None) -> list[str]:
    with asking_for(questions.settings.generator_settings(), FEATURE_NAMES[feature], shard, plan_only=True) as asking:
        questions.ask(feature, asking)
    lines = []
    for step in asking.steps:
        guess = " (made of answers not given yet: taken to be as long as the prompt allows)"
        lines.append(f"{step.name}{guess if step.stands_on_guesses else ''}")
        lines += [f"  {line}" for line in str(step.plan).splitlines()]
    costs = [step.plan.most_cost for step in asking.steps]
    total = f"{FEATURE_NAMES[feature]}, all steps: {sum(step.plan.missing for step in asking.steps):,} requests to ask"
    lines.append(total + ("" if None in costs else f", at most {sum(costs):.4f}"))
    if asking.steps and (paid := _texts_to_pay(questions, feature, asking.steps[-1].requests)):
        lines.append(f"  then {paid}")
    return lines


def _texts_to_pay(questions: _Questions, feature: str, n_answers: int | None = None) -> str:
    """What an embeddings service will be asked for of a feature whose texts are not written yet; "" where nothing is.

    Parameters
    ----------
    n_answers
        Of the LLM's last step; None where none writes.
    """
    settings = questions.settings
    if settings.encoder.backend != "openai":
        return ""
    if n_answers is not None:
        count = n_answers if feature == "profiles" else n_answers * settings.pseudo_max_names
    elif feature == "profiles" and settings.use_profiles and settings.profile_encoding == "text":
        count = len(questions.histories(feature).user_ids)
    else:
        return ""
    return f"at most {count:,} texts are encoded by {settings.encoder.name}, which costs as well and is in no sum here"


@spent_together()
def ask_only(config: Any, dataset: Any, wanted: Sequence[str], shard: str | None, batch_file: Path | None) -> list[str]:
    """Ask for a part of the users, or write the next step's requests into a batch file; no set is built."""
    settings = FeatureSettings(config, dataset.dataset_name)
    questions = _Questions(settings, dataset)
    asked = [feature for feature in wanted if questions.by_llm(feature)]
    if not asked:
        raise ConfigError(
            "No LLM writes any of the features wanted, so that there is nothing to ask; set profile_generator=llm or "
            "pseudo_generator=llm, and llm_generator."
        )
    part = None if shard is None else read_shard(shard)
    lines = []
    for feature in asked:
        file = batch_file if len(asked) == 1 or batch_file is None else _one_for(batch_file, feature)
        with asking_for(settings.generator_settings(), FEATURE_NAMES[feature], part, batch_file=file) as asking:
            try:
                questions.ask(feature, asking)
            except StepNotAnsweredError:
                step = asking.steps[-1]
                lines.append(
                    f"{step.name}: {step.requests:,} requests were written to {named(step.files)}; take their results "
                    "in with --batch-import=FILE, and the same command goes on from there"
                )
                continue
            where = f"shard {part} of the users" if part is not None else "all users"
            lines.append(f"{FEATURE_NAMES[feature]}: every request for {where} is asked ({asking.given_up:,} given up)")
            if part is not None:
                lines.append(
                    f"  join the caches of all shards with `recbole-cdsr features import --dataset {config['dataset']} "
                    "FILE…`, then build without --shard"
                )
            else:
                lines.append("  nothing is left to write into a batch file; build without --batch-export")
    return lines


def take_answers(config: Any, files: Sequence[Path]) -> Iterator[str]:
    """Take batch results and other caches into the dataset's cache; a line for each file."""
    settings = GeneratorSettings(config, config["dataset"])
    store.check_writable(settings.cache_file.parent)
    with settings.open_cache() as cache:
        for path in files:
            if _is_cache(path):
                yield f"{path}: {cache.take_from(path):,} new answers"
            else:
                yield f"{path}: {import_batch(path, cache).describe()}"


def warn_of_idle_generator(config: Mapping[str, Any]) -> None:
    """Say so when an LLM is configured and no feature is to be written by it."""
    if config["llm_generator"] not in (None, "offline") and "llm" not in (
        config["profile_generator"],
        config["pseudo_generator"],
    ):
        logging.getLogger().warning(
            f"llm_generator is {config['llm_generator']}, but profile_generator is {config['profile_generator']} and "
            f"pseudo_generator {config['pseudo_generator']}, so that it is asked nothing; set one of them to llm."
        )


def _one_for(path: Path, feature: str) -> Path:
    """A file for each of several features: `requests.jsonl` -> `requests-profiles.jsonl`."""
    return path.with_name(f"{path.stem}-{feature}{path.suffix}")


def _is_cache(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise FeatureError(f"{path} cannot be read ({error.strerror}).") from None


def _items_to_encode(settings: FeatureSettings) -> list[str]:
    """Item texts without a stored set; none where the user gives the features."""
    if settings.item_features_file is not None:
        return []
    if store.feature_set_exists(settings.features_dir, "items", item_set_name(settings)):
        return []
    return item_texts(read_items(settings), settings.item_prompt())


def _item_plan(settings: FeatureSettings, texts: Sequence[str]) -> list[str]:
    if not texts:
        return ["items: nothing to encode, the features are there"]
    if settings.encoder.backend != "openai":
        return [f"items: {len(texts):,} texts to encode with {settings.encoder.name} on this machine"]
    with settings.generator_settings().open_cache() as cache:
        planned = settings.text_encoder(asks=False).plan(texts, cache)
    return ["items", *(f"  {line}" for line in str(planned).splitlines())]
