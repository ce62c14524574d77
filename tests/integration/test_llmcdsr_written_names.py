"""LLMCDSR with names that a language model writes: users it leaves without any, and nobody to learn trust from."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.data.atomic import write_atomic
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.trainer.checkpoint import load_checkpoint

from ..unit.llm.service import Received, Reply, Service, completion
from .conftest import INTER_TYPES

SETTINGS = {
    "hidden_size": 16,
    "n_recalled": 3,
    "noisy_batch_size": 8,
    "pretrain_epochs": 1,
    "epochs": 1,
    "pseudo_generator": "llm",
    "pseudo_extraction": "parser",
    "pseudo_shots": 0,  # there is no overlapped user to show as an example
    "llm_generator": "openai",
    "llm_model": "m",
    "llm_api_key_env": "TEST_KEY",
    "llm_max_attempts": 1,
}
NAMES = "\n".join(f"{place}. A tale of {topic}" for place, topic in enumerate(("sea", "war", "love", "crime"), start=1))


def answering(to_book_readers: str, to_others: str):
    def answer(received: Received, nth: int) -> Reply:
        own_titles = received.asked[received.asked.rindex("A ") :]  # the user's own come last
        return Reply(completion(to_book_readers if own_titles.startswith("A books") else to_others))

    return answer


@pytest.fixture
def apart(make_dataset, monkeypatch):
    """Half of the users know books alone, the others movies alone."""
    monkeypatch.setenv("TEST_KEY", "sk-secret-of-the-test")
    dataset = make_dataset(n_users=16, n_per_user=5)
    frame = dataset.interactions
    reads = frame["user_id"].str[1:].astype(int) % 2 == 0
    is_book = frame["item_id"].str.startswith("books")
    write_atomic(dataset.folder / f"{dataset.name}.inter", frame[reads == is_book], INTER_TYPES)
    return dataset


def messages(caplog, text: str) -> list[str]:
    return [message for message in caplog.messages if text in message]


def pooling_of(result: dict):
    return load_checkpoint(Path(result["run_dir"]) / "last.pth")["state_dict"]["recall_network.pooling"]


def test_without_overlapped_users_names_are_recalled_from_and_pooling_stays_uniform(apart, run, caplog):
    with caplog.at_level(logging.INFO), Service(answering(NAMES, NAMES)) as service:
        result = run("LLMCDSR", apart, **SETTINGS, llm_base_url=service.url)
    assert messages(caplog, "nobody can judge a shadow step")
    assert messages(caplog, "Augmentation: 16 users with generated names")
    assert not messages(caplog, "meta-learning [meta loss")
    assert not pooling_of(result).any()
    assert np.isfinite(result["train_losses"]).all()


@pytest.mark.parametrize("nothing", ["", "1. Only\n2. Two"])
def test_users_whose_generations_are_empty_are_left_out(apart, run, caplog, nothing):
    with caplog.at_level(logging.INFO), Service(answering(NAMES, nothing)) as service:
        result = run("LLMCDSR", apart, **SETTINGS, llm_base_url=service.url)
    assert messages(caplog, "8 of 16 have fewer than 3 different names and are left out")
    assert messages(caplog, "Augmentation: 8 users with generated names")
    assert messages(caplog, "No training row has generated names for domain books: nothing is recalled into it.")
    assert np.isfinite(result["train_losses"]).all()


def test_with_no_name_at_all_the_backbone_is_trained(apart, run, caplog):
    with caplog.at_level(logging.INFO), Service(answering("", "")) as service:
        result = run("LLMCDSR", apart, **SETTINGS, llm_base_url=service.url)
    assert messages(caplog, "trains its backbone without augmentation")
    assert np.isfinite(result["train_losses"]).all()


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        ("LLM4CDSR", {"profile_generator": "llm"}, "write the profiles, but llm_generator is offline"),
        ("LLMCDSR", {"pseudo_generator": "llm"}, "write the pseudo items, but llm_generator is offline"),
        ("LeCDSR", {"profile_generator": "llm", "llm_generator": "openai"}, "llm_model names no model"),
    ],
)
def test_an_llm_that_cannot_write_is_told_of_before_any_feature_is_made(make_dataset, run, model, settings, words):
    dataset = make_dataset()
    with pytest.raises(ConfigError, match=words):
        run(model, dataset, **settings)
    assert not (dataset.folder / "features").exists()
