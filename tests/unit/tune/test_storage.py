"""With which settings a study may be gone on with."""

from __future__ import annotations

import optuna
import pytest
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.tune.space import read_space
from recbole_cdsr.tune.storage import SETTINGS, Storage, study_settings


@pytest.fixture
def begun(tmp_path):
    """`begun(without, **given)`: go on with a study whose settings were kept by a version without some keys."""
    (tmp_path / "hyper.test").write_text("learning_rate loguniform -8,-2\n", encoding="utf-8")
    space = read_space(tmp_path / "hyper.test")
    storage = Storage(str(tmp_path / "study.db"), 60)

    def opened(fixed):
        settings = study_settings(space, fixed, "random")
        return storage.open("s", settings, fixed.internal_config_dict, True, RandomSampler(), NopPruner())

    def begun(without=(), changed=None, **given):
        fixed = CDSRConfig("SASRec", "douban", config_dict=given, command_line=[])
        kept = study_settings(space, CDSRConfig("SASRec", "douban", command_line=[]), "random") | (changed or {})
        study = optuna.create_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db", load_if_exists=True)
        assert set(without) <= kept.keys()
        study.set_user_attr(SETTINGS, {key: value for key, value in kept.items() if key not in without})
        return opened(fixed)

    return begun


def test_a_key_that_came_later_is_no_other_setting_while_it_is_off_or_at_its_default(begun):
    begun(without=["llm_injection_whiten"])
    begun(without=["clip_grad_norm", "weight_decay", "hidden_dropout_prob", "select", "llm_injection"])
    begun(without=["llm_injection_whiten"], llm_injection_whiten=False)


def test_a_key_that_came_later_is_another_setting_when_it_is_set(begun):
    with pytest.raises(ConfigError, match=r"hidden_dropout_prob is 0\.25, was None"):
        begun(without=["hidden_dropout_prob"], hidden_dropout_prob=0.25)
    with pytest.raises(ConfigError, match="enable_amp is True, was None"):
        begun(without=["enable_amp"], enable_amp=True)


def test_a_key_that_another_version_had_is_no_other_setting_while_it_was_off(begun):
    begun(changed={"of_a_later_version": False, "of_another": None})
    with pytest.raises(ConfigError, match="of_a_later_version is None, was 3"):
        begun(changed={"of_a_later_version": 3})
    with pytest.raises(ConfigError, match="of_a_later_version is None, was 0"):
        begun(changed={"of_a_later_version": 0})


def test_values_that_both_have_are_compared_as_they_are(begun):
    begun(changed={"hidden_size": 64.0, "weight_decay": 0})
    with pytest.raises(ConfigError, match="hidden_size is 64, was 32"):
        begun(changed={"hidden_size": 32})
    with pytest.raises(ConfigError, match=r"clip_grad_norm is None, was \{'max_norm': 5\}"):
        begun(changed={"clip_grad_norm": {"max_norm": 5}})


@pytest.mark.parametrize("name", ["a?b.db", "a%20b.db", "a{b}.db", "a#b @c:d.db", "stüdy.db"])
def test_a_path_names_the_file_whatever_characters_it_has(tmp_path, name):
    study = Storage(str(tmp_path / "trials" / name), 60).open("s", {}, {}, True, RandomSampler(), NopPruner())
    assert study.study_name == "s"
    assert [path.name for path in (tmp_path / "trials").iterdir()] == [name]


def test_a_file_that_is_no_database_is_told_with_what_to_do(tmp_path):
    (tmp_path / "study.db").write_text("no database\n" * 100, encoding="utf-8")
    storage = Storage(str(tmp_path / "study.db"), 60)
    with pytest.raises(ConfigError, match=r"cannot be used \(file is not a database\); name another with --storage"):
        storage.open("s", {}, {}, True, RandomSampler(), NopPruner())
