from __future__ import annotations

import logging
import os
import shutil
import sys

import pytest
import torch
import yaml
from configurations import OURS, make, write

from recbole_cdsr import config_names
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.errors import ConfigError


@pytest.fixture
def own_props(tmp_path, monkeypatch):
    """A copy of our props in which one key stands on every level."""
    folder = tmp_path / "props"
    shutil.copytree(config_names.props_folder(), folder)
    monkeypatch.setattr(config_names, "props_folder", lambda: folder)
    return folder


def append(path, text) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")


class TestPrecedence:
    def test_every_source_yields_to_the_next(self, own_props, tmp_path):
        """`seed` is set by more and more sources; the last always counts."""
        assert make(OURS)["seed"] == 2020  # RecBole's overall.yaml
        append(own_props / "overall.yaml", "seed: 1")
        assert make(OURS)["seed"] == 1
        append(own_props / "model" / f"{OURS}.yaml", "seed: 2")
        assert make(OURS)["seed"] == 2
        append(own_props / "dataset" / "douban.yaml", "seed: 3")
        assert make(OURS)["seed"] == 3
        files = [write(tmp_path / "a.yaml", "seed: 4"), write(tmp_path / "b.yaml", "seed: 5")]
        assert make(OURS, files=files[:1])["seed"] == 4
        assert make(OURS, files=files)["seed"] == 5
        assert make(OURS, files=files[::-1])["seed"] == 4
        assert make(OURS, files=files, settings={"seed": 6})["seed"] == 6
        assert make(OURS, files=files, settings={"seed": 6}, command_line=["--seed=7"])["seed"] == 7

    def test_our_model_yaml_is_not_read_for_another_model(self, own_props):
        append(own_props / "model" / f"{OURS}.yaml", "seed: 2")
        (own_props / "model" / "BPR.yaml").write_text("embedding_size: 7\n")
        assert make("BPR")["seed"] == 2020
        assert make("BPR")["embedding_size"] == 64

    def test_model_and_dataset_may_stand_in_any_source(self, tmp_path):
        file = write(tmp_path / "a.yaml", "model: BPR\ndataset: douban\n")
        config = CDSRConfig(config_file_list=[file], command_line=[])
        assert (config["model"], config["dataset"]) == ("BPR", "douban")
        config = CDSRConfig(config_file_list=file, config_dict={"model": "Pop"}, command_line=["--dataset=2021"])
        assert (config["model"], config["dataset"]) == ("Pop", "2021")
        from recbole.model.general_recommender import BPR

        assert CDSRConfig(BPR, "douban", command_line=[]).model_class is BPR

    def test_config_dict_is_not_changed(self):
        settings = {"epochs": "5", "eval_args": {"mode": "uni100"}}
        assert make(settings=settings)["epochs"] == 5
        assert settings == {"epochs": "5", "eval_args": {"mode": "uni100"}}

    def test_launcher_keys_are_accepted_and_not_kept(self):
        config = make(command_line=["--config_files=a.yaml b.yaml", "--nproc=1", "--world_size=-1"])
        assert "config_files" not in config
        assert "nproc" not in config
        assert config.warnings == []

    def test_sys_argv_is_read_when_no_command_line_is_given(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["run.py", "--epochs=5", "positional", "-q"])
        config = CDSRConfig("BPR", "douban")
        assert config["epochs"] == 5
        assert [line for line in config.warnings if "positional" in line]
        assert make()["epochs"] == 300


BASELINES = ["SASRec", "GRU4Rec", "BERT4Rec", "BPR", "LightGCN", "Pop"]


@pytest.mark.parametrize("model", BASELINES)
def test_baselines_keep_recboles_hyper_parameters(model):
    """Whatever RecBole's Config gives a model stays, but for the keys of the protocol."""
    from recbole.config import Config

    quick = {"train_neg_sample_args": None} if model in BASELINES[:3] else {}
    argv, sys.argv = sys.argv, ["run.py"]
    try:
        theirs = Config(model, "douban", config_dict=quick).final_config_dict
    finally:
        sys.argv = argv
    ours = make(model).final_config_dict
    protocol = {
        "data_path",
        "load_col",
        "filter_inter_by_user_or_item",
        "eval_args",
        "metrics",
        "topk",
        "valid_metric",
        "dataset_save_path",
        "dataloaders_save_path",
    }
    different = {key for key in theirs if key not in ours or ours[key] != theirs[key]}
    assert different <= protocol
    file = config_names.recbole_folder() / "properties" / "model" / f"{model}.yaml"
    for key, value in (yaml.safe_load(file.read_text()) or {}).items():
        assert ours[key] == value or float(value) == ours[key]


def test_our_overall_and_dataset_yaml_set_no_hyper_parameter_of_a_baseline():
    from recbole.utils import training_arguments

    tuned = set(training_arguments) | {"MAX_ITEM_LIST_LENGTH", "shuffle", "seed"}
    for path in (config_names.recbole_folder() / "properties" / "model").glob("*.yaml"):
        tuned |= set(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    folder = config_names.props_folder()
    for path in [folder / "overall.yaml", *folder.glob("dataset/*.yaml")]:
        assert not tuned & set(yaml.safe_load(path.read_text(encoding="utf-8")))


class TestDataPath:
    def test_the_working_directory_comes_before_the_checkout(self, tmp_path, monkeypatch):
        (tmp_path / "here" / "atomic_data" / "shop").mkdir(parents=True)
        (tmp_path / "checkout" / "atomic_data" / "shop").mkdir(parents=True)
        (tmp_path / "checkout" / "atomic_data" / "films").mkdir()
        monkeypatch.setattr(config_names, "checkout_folder", lambda: tmp_path / "checkout")
        monkeypatch.chdir(tmp_path / "here")
        assert make(dataset="shop")["data_path"] == os.path.join("atomic_data", "shop")
        assert make(dataset="films")["data_path"] == str(tmp_path / "checkout" / "atomic_data" / "films")
        assert make(dataset="none")["data_path"] == os.path.join("atomic_data", "none")
        assert make(dataset="films").plain()["data_path"] == "atomic_data"
        given = make(dataset="films", settings={"data_path": str(tmp_path)})
        assert given["data_path"] == str(tmp_path / "films")
        assert given.fingerprint() == make(dataset="films").fingerprint()

    def test_ml_100k_is_where_recbole_has_it(self):
        assert make(dataset="ml-100k")["data_path"].endswith(os.path.join("dataset_example", "ml-100k"))

    @pytest.mark.parametrize("name", ["../douban", "a/b", "a\\b", "", ".."])
    def test_a_dataset_is_no_path(self, name):
        with pytest.raises(ConfigError, match="data_path"):
            make(dataset=name)


class TestNegatives:
    @pytest.mark.parametrize("model", ["BPR", "NeuMF"])
    def test_without_a_distribution_they_are_uniform(self, model):
        config = make(model, settings={"train_neg_sample_args": {"sample_num": 3}})
        assert config["train_neg_sample_args"]["distribution"] == "uniform"
        assert config["train_neg_sample_args"]["sample_num"] == 3

    def test_a_sequential_model_that_learns_from_pairs_needs_them(self):
        with pytest.raises(ConfigError, match=r"train_neg_sample_args is null .* SASRec learns from pairs"):
            make("SASRec", settings={"loss_type": "BPR", "train_neg_sample_args": None})

    NONE = "none"

    def distribution(self, model, **settings) -> str:
        return make(model, settings=settings)["train_neg_sample_args"]["distribution"]

    def test_each_kind_of_model_gets_what_it_needs(self):
        assert self.distribution("SASRec") == "none"
        assert self.distribution("SASRec", loss_type="BPR") == "uniform"
        assert self.distribution("BPR") == "uniform"
        assert self.distribution("BPR", train_neg_sample_args={"distribution": "popularity"}) == "popularity"
        assert self.distribution(OURS) == "none"
        assert self.distribution("SASRecBCE") == "none"

    def test_dropping_the_users_negatives_is_said(self):
        given = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 4}}
        assert "train_neg_sample_args" in make("SASRec", settings=given).notices[0]
        assert "train_neg_sample_args" in make(OURS, settings=given).notices[0]
        assert make("SASRec").notices == []
        assert make("SASRec", settings={"train_neg_sample_args": None}).notices == []

    def test_pairwise_models_need_negatives(self):
        with pytest.raises(ConfigError, match="BPR learns from pairs"):
            make("BPR", settings={"train_neg_sample_args": None})
        with pytest.raises(ConfigError, match="train_neg_sample_args"):
            make("BPR", settings={"train_neg_sample_args": {"distribution": "normal"}})


class TestKeysOfOtherModels:
    @pytest.mark.parametrize(
        ("model", "key"),
        [("SASRecBCE", "n_negatives"), ("LLM4CDSR", "positions"), ("LeCDSR", "n_layers"), ("LLMCDSR", "inner_size")],
    )
    def test_ours_say_that_they_do_not_read_it(self, model, key):
        config = make(model, command_line=[f"--{key}=3"])
        said = f"{key} (from the command line) is a setting of other models; {model} does not read it."
        assert config.warnings == [said]

    def test_what_all_models_read_is_not_warned_of(self):
        keys = {"learner": "adam", "weight_decay": 0.1, "trim_windows": True, "llm_batch_size": 8, "tail_ratio": 0.1}
        assert make("LeCDSR", settings=keys).warnings == []


class TestEvalArgs:
    FIXED = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}  # noqa: RUF012

    @pytest.mark.parametrize("model", [OURS, "SASRec", "BPR"])
    @pytest.mark.parametrize(
        ("mode", "candidates"),
        [
            ("uni999", ["uni999"]),
            ("pop100", ["pop100"]),
            ("full", ["full"]),
            ({"valid": "uni100", "test": "full"}, ["uni100", "full"]),
            ({"valid": "uni100", "test": "uni100"}, ["uni100"]),
            ({"test": "uni50"}, ["uni50"]),
        ],
    )
    def test_mode_becomes_candidates_and_resets_nothing(self, model, mode, candidates):
        config = make(model, settings={"eval_args": {"mode": mode}})
        assert config["eval_candidates"] == candidates
        assert config["eval_args"] == {**self.FIXED, "mode": {"valid": "full", "test": "full"}}
        assert bool(config.notices) == (candidates != ["full"])

    def test_explicit_candidates_win_over_mode(self):
        config = make(command_line=["--eval_candidates=[full,uni50]", "--eval_args={mode: uni100}"])
        assert config["eval_candidates"] == ["full", "uni50"]
        assert "eval_args.mode" in config.warnings[0]

    def test_eval_args_of_several_sources_are_merged(self, tmp_path):
        file = write(tmp_path / "a.yaml", "eval_args:\n  split: {'LS': 'valid_and_test'}\n  mode: uni7\n")
        config = make(files=[file], settings={"eval_args": {"order": "TO"}})
        assert config["eval_candidates"] == ["uni7"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{split: {RS: [0.8, 0.1, 0.1]}}", "remove split"),
            ("{split: {TS: [1, 2]}}", "remove split"),
            ("{split: {LS: valid_only}}", "remove split"),
            ("{order: RO}", "remove order"),
            ("{group_by: none}", "remove group_by"),
            ("{mode: labeled}", "labeled"),
            ("{mode: {valid: full, test: labeled}}", "labeled"),
            ("{mode: uni}", "uniN"),
            ("{mode: uni0}", "uniN"),
            ("{mode: some}", "uniN"),
            ("full", "a mapping"),
        ],
    )
    def test_what_cannot_be_honoured_is_refused_with_its_line(self, text, said, tmp_path):
        file = write(tmp_path / "a.yaml", f"epochs: 1\neval_args: {text}\n")
        with pytest.raises(ConfigError, match=said) as caught:
            make(files=[file])
        assert "a.yaml, line 2" in str(caught.value)

    def test_an_unknown_part_is_warned_of(self):
        config = make(settings={"eval_args": {"ordr": "TO"}})
        assert config.warnings == ["eval_args.ordr means nothing; did you mean order?"]

    @pytest.mark.parametrize("given", ["full,uni999", ["Full", "uni999"], "[full, uni999]"])
    def test_candidates_are_read_from_lists_and_texts(self, given):
        assert make(settings={"eval_candidates": given})["eval_candidates"] == ["full", "uni999"]

    @pytest.mark.parametrize("given", ["[]", "uni", "[full, full]", "[uni-5]", "7"])
    def test_candidates_that_mean_nothing_are_refused(self, given):
        with pytest.raises(ConfigError, match="eval_candidates"):
            make(settings={"eval_candidates": given})

    def test_dataset_yaml_may_choose_the_candidates(self):
        assert make(dataset="food-kitchen")["eval_candidates"] == ["full", "uni999"]
        assert make(dataset="douban")["eval_candidates"] == ["full"]


def test_rows_are_never_dropped_unseen():
    assert make()["filter_inter_by_user_or_item"] is False
    assert make().notices == []
    config = make(settings={"filter_inter_by_user_or_item": True})
    assert config["filter_inter_by_user_or_item"] is False
    assert "filter_inter_by_user_or_item" in config.notices[0]


def test_repeatable_is_recboles():
    assert make(OURS)["repeatable"] is True
    assert make("SASRec")["repeatable"] is True
    assert make("BPR")["repeatable"] is False
    with pytest.raises(ConfigError, match="repeatable"):
        make("SASRec", settings={"repeatable": False})


def test_load_col_always_holds_what_the_protocol_needs():
    config = make(settings={"load_col": {"inter": ["user_id", "item_id", "rating"]}})
    assert config["load_col"]["inter"] == ["user_id", "item_id", "rating", "timestamp"]
    assert config["load_col"]["item"] == ["item_id", "domain"]
    assert "timestamp" in config.notices[0]
    assert make(settings={"load_col": None})["load_col"] is None
    assert make("CFKG")["load_col"]["kg"] == ["head_id", "relation_id", "tail_id"]
    with pytest.raises(ConfigError, match="load_col"):
        make(settings={"load_col": ["user_id"]})


def test_use_gpu_false_means_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert make(settings={"use_gpu": False})["device"] == torch.device("cpu")
    assert make()["device"] == torch.device("cuda")


def test_gpu_id_is_a_text_however_it_is_written():
    for given, expected in (("0,1", "0,1"), ((0, 1), "0,1"), (2, "2"), ("3", "3"), ("", "")):
        assert make(settings={"gpu_id": given})["gpu_id"] == expected


def test_notices_are_logged_once_and_shown_with_the_configuration(caplog):
    config = make("SASRec", settings={"hiden_size": 5, "filter_inter_by_user_or_item": True})
    assert "did you mean hidden_size?" in str(config)
    with caplog.at_level(logging.INFO):
        config.log_notices(logging.getLogger())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "hiden_size" in caplog.records[0].message
    assert "did you mean" not in str(config)


def test_recboles_lists_of_arguments_are_not_added_to():
    from recbole.utils import dataset_arguments

    before = list(dataset_arguments)
    make(dataset="ml-100k")
    assert dataset_arguments == before


def test_props_are_found_in_the_checkout_and_in_the_package(tmp_path, monkeypatch):
    assert (config_names.props_folder() / "overall.yaml").is_file()
    package = tmp_path / "recbole_cdsr"
    (package / "props").mkdir(parents=True)
    monkeypatch.setattr(config_names.resources, "files", lambda name: package)
    config_names.props_folder.cache_clear()
    try:
        assert config_names.props_folder() == package / "props"
    finally:
        config_names.props_folder.cache_clear()


@pytest.mark.parametrize("model", ["LLMCDSR", "SASRecBCE"])
def test_stopping_step_of_a_user_is_taken_as_it_is(model):
    assert make(model)["stopping_updates"] == 3000
    assert make(model, settings={"stopping_step": 2})["stopping_updates"] == 0
    assert make(model, settings={"stopping_step": 2, "stopping_updates": 7})["stopping_updates"] == 7
    assert make(model, settings={"stopping_updates": 7})["stopping_step"] == 20
    assert make("BPR")["stopping_updates"] == 0


def test_stopping_step_of_pretraining_is_taken_as_it_is():
    assert make("LLMCDSR")["pretrain_stopping_updates"] == 6000
    config = make("LLMCDSR", settings={"pretrain_stopping_step": 2})
    assert (config["pretrain_stopping_updates"], config["stopping_updates"]) == (0, 3000)
