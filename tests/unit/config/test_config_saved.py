from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from configurations import OURS, make, write

from recbole_cdsr import config_names
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.config_saved import fingerprint
from recbole_cdsr.errors import ConfigError


class TestNothingIsEvaluated:
    KEYS = (
        "epochs",
        "learner",
        "note_to_self",
        "run_dir",
        "metrics",
        "eval_args",
        "load_col",
        "model",
    )
    FREE = ("learner", "note_to_self", "run_dir")

    @pytest.mark.parametrize("key", KEYS)
    @pytest.mark.parametrize("source", ["command line", "config_dict", "file", "plain"])
    def test_a_hostile_value_runs_nothing(self, key, source, tmp_path):
        trace = tmp_path / "trace"
        attack = f"__import__('os').system('touch {trace}')"
        sources = {
            "command line": {"command_line": [f"--{key}={attack}"]},
            "config_dict": {"config_dict": {key: attack}, "command_line": []},
            "file": {"config_file_list": [write(tmp_path / "a.yaml", f"{key}: {json.dumps(attack)}\n")]},
        }
        model = None if key == "model" else "BPR"

        def build() -> CDSRConfig:
            if source == "plain":
                return CDSRConfig.from_plain({**make().plain(), key: attack})
            return CDSRConfig(model, "douban", **{"command_line": [], **sources[source]})

        if key in self.FREE:
            assert build()[key] == attack
        else:
            with pytest.raises(ConfigError, match=key):
                build()
        assert not trace.exists()

    def test_the_attack_works_where_strings_are_evaluated(self, tmp_path, monkeypatch):
        """The traces above are missing because nothing ran, not because the attack is broken."""
        from recbole.config import Config

        trace = tmp_path / "trace"
        monkeypatch.setattr(sys, "argv", ["run.py"])
        Config("BPR", "douban", config_dict={"note": f"__import__('os').system('touch {trace}')"})
        assert trace.exists()


class TestFingerprint:
    def test_the_optimisers_own_betas_are_as_none_given(self):
        base = make("SASRecBCE")
        assert base["adam_betas"] == [0.9, 0.999]
        assert base.fingerprint() == make("SASRecBCE", settings={"adam_betas": None}).fingerprint()
        assert base.fingerprint() != make("SASRecBCE", settings={"adam_betas": [0.9, 0.98]}).fingerprint()

    def test_rounding_counts_for_validations_are_compared_as_they_are_rounded(self):
        base = make("BPR").fingerprint()
        assert make("BPR", settings={"metric_decimal_place": 4}).fingerprint() == base
        assert make("BPR", settings={"metric_decimal_place": 1}).fingerprint() != base

    def test_what_others_put_into_a_configuration_is_not_saved(self):
        config = make("BERT4Rec")
        before = config.plain()
        config["MASK_INDEX"] = 7  # as RecBole's transform does
        assert config.plain() == before
        assert CDSRConfig.from_plain(config.plain()).fingerprint() == make("BERT4Rec").fingerprint()


class TestInjection:
    def test_keys_that_nothing_reads_make_no_other_run(self):
        assert make("SASRec").fingerprint() == make("SASRec", settings={"llm_adapter_hidden": 8}).fingerprint()
        assert make("SASRec").fingerprint() == make("SASRec", settings={"llm_injection": None}).fingerprint()

    def test_modes_and_their_keys_make_another_run(self):
        given = [{}, {"llm_injection": "init"}, {"llm_injection": "adapter"}]
        given += [given[2] | {"llm_adapter_hidden": 8}, given[2] | {"llm_item_tables": ["item_embedding"]}]
        given += [given[2] | {"llm_injection_whiten": True}]
        assert len({make("SASRec", settings=settings).fingerprint() for settings in given}) == len(given)

    def test_runs_from_before_features_could_be_whitened_go_on(self):
        config = make("SASRec", settings={"llm_injection": "adapter"})
        older = config.plain()
        del older["llm_injection_whiten"]
        assert fingerprint(older) == config.fingerprint()


class TestSaving:
    @pytest.mark.parametrize("model", [OURS, "SASRecBCE", "SASRec", "BPR", "Pop"])
    def test_plain_data_rebuilds_the_configuration(self, model, tmp_path):
        given = {
            "eval_args": {"mode": "uni100"},
            "learning_rate": 1,
            "gpu_id": (0, 1),
            "run_dir": "7",
            "valid_metric": "ndcg@10_movie",
            "use_gpu": False,
        }
        config = make(model, settings=given)
        plain = config.plain()
        assert json.loads(json.dumps(plain)) == plain
        assert yaml.safe_load(yaml.safe_dump(plain)) == plain
        torch.save(plain, tmp_path / "plain.pth")
        again = CDSRConfig.from_plain(torch.load(tmp_path / "plain.pth", weights_only=True))
        assert again.plain() == plain
        assert again.fingerprint() == config.fingerprint()
        assert again.warnings == again.notices == []
        assert again["run_dir"] == "7"
        assert again.model_class is config.model_class
        assert again["MODEL_TYPE"] is config["MODEL_TYPE"]
        assert again["train_neg_sample_args"] == config["train_neg_sample_args"]

    def test_what_is_no_configuration_is_refused(self):
        for values in ({}, {"model": "BPR"}, [], None, {"model": 5, "dataset": "douban"}):
            with pytest.raises(ConfigError):
                CDSRConfig.from_plain(values)
        with pytest.raises(ConfigError, match="epochs"):
            CDSRConfig.from_plain({**make().plain(), "epochs": "many"})

    def test_objects_put_there_later_are_left_out(self):
        config = make("BERT4Rec")
        before = config.fingerprint()
        config["MASK_INDEX"] = "MASK_INDEX"
        config["numerical"] = torch.zeros(3)
        assert "numerical" not in config.plain()
        assert config.fingerprint() == before

    def test_the_fingerprint_is_of_training(self):
        first = make(OURS).fingerprint()
        assert len(first) == 8
        int(first, 16)
        same = {
            "epochs": 1,
            "stopping_step": 1,
            "eval_batch_size": 7,
            "show_progress": False,
            "result_file": "r.json",
            "checkpoint_dir": "elsewhere",
            "run_dir": "there",
            "resume": True,
            "state": "ERROR",
            "gpu_id": "1",
            "use_gpu": False,
            "data_path": "/data",
            "eval_candidates": ["full", "uni5"],
            "learning_rate": 0.001,
            "beta": 1,
        }
        for key, value in same.items():
            assert make(OURS, settings={key: value}).fingerprint() == first, key
        other = {
            "worker": 1,
            "seed": 1,
            "learning_rate": 0.01,
            "hidden_size": 64,
            "train_batch_size": 7,
            "valid_metric": "Hit@10",
            "select": "per_domain",
            "fold_in": False,
            "eval_candidates": ["uni5", "full"],
            "MAX_ITEM_LIST_LENGTH": 7,
            "eval_step": 2,
        }
        prints = {make(OURS, settings={key: value}).fingerprint() for key, value in other.items()}
        assert len(prints | {first}) == len(other) + 1
        assert make("SASRecBCE").fingerprint() != first
        assert make(OURS, dataset="food-kitchen").fingerprint() != first

    def test_the_fingerprint_is_the_same_in_another_process(self):
        code = (
            "from recbole_cdsr.config import CDSRConfig;"
            f"print(CDSRConfig('{OURS}', 'douban', command_line=[]).fingerprint())"
        )
        environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(config_names.checkout_folder())}
        done = subprocess.run(
            [sys.executable, "-c", "import recbole_cdsr;" + code],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.stdout.strip() == make(OURS).fingerprint(), done.stderr
