from __future__ import annotations

import os

import pytest
import yaml
from configurations import make

from recbole_cdsr.errors import ConfigError


def refusal(**kwargs) -> str:
    with pytest.raises(ConfigError) as caught:
        make(**kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"sample_num": 0}, "a mapping whose sample_num is a whole number, 1 or more"),
        ({"dynamic": True, "candidate_num": 0}, "a mapping whose candidate_num is a whole number, 1 or more"),
        ({"distribution": "popularity", "alpha": "a"}, "a mapping whose alpha is a finite number"),
    ],
)
def test_negatives_that_cannot_be_drawn_are_refused(given, expected):
    assert expected in refusal(model="BPR", settings={"train_neg_sample_args": given})


def test_a_key_of_negatives_that_means_nothing_is_warned_of():
    (warning,) = make("BPR", settings={"train_neg_sample_args": {"sample_nums": 5}}).warnings
    assert warning == "train_neg_sample_args.sample_nums means nothing; did you mean sample_num?"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"ITEM_LIST_LENGTH_FIELD": "item_id"},
            "ITEM_ID_FIELD is 'item_id' from the defaults and ITEM_LIST_LENGTH_FIELD is 'item_id' from config_dict, "
            "which makes one field of ITEM_ID_FIELD and ITEM_LIST_LENGTH_FIELD; give each a name of its own.",
        ),
        (
            {"USER_ID_FIELD": "item_id_list"},
            "USER_ID_FIELD is 'item_id_list' from config_dict and ITEM_ID_FIELD is 'item_id' from the defaults and "
            "LIST_SUFFIX is '_list' from the defaults, which makes one field of USER_ID_FIELD and "
            "ITEM_ID_FIELD + LIST_SUFFIX; give each a name of its own.",
        ),
        (
            {"USER_ID_FIELD": "row_id"},
            "USER_ID_FIELD is 'row_id' from config_dict, which makes one field of row_id and USER_ID_FIELD; give each "
            "a name of its own.",
        ),
    ],
)
def test_fields_that_would_overwrite_each_other_are_refused(given, expected):
    assert refusal(model="BPR", settings=given) == expected


def test_fields_may_have_any_names_of_their_own():
    names = {"USER_ID_FIELD": "user", "ITEM_ID_FIELD": "product", "TIME_FIELD": "item_id", "LIST_SUFFIX": "s"}
    assert make("BPR", settings=names)["TIME_FIELD"] == "item_id"


@pytest.mark.parametrize(("model", "key"), [("NeuMF", "mlp_hidden_size"), ("NGCF", "hidden_size_list")])
def test_a_number_is_no_list_of_sizes(model, key):
    assert refusal(model=model, settings={key: 64}).startswith(f"{key} is 64")


class TestKinds:
    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("epochs", "many", "a whole number"),
            ("epochs", 2.5, "a whole number"),
            ("epochs", True, "a whole number"),
            ("epochs", None, "a whole number"),
            ("epochs", [5], "a whole number"),
            ("learning_rate", "fast", "a number"),
            ("learning_rate", True, "a number"),
            ("learning_rate", None, "a number"),
            ("use_gpu", 1, "True or False"),
            ("use_gpu", "maybe", "True or False"),
            ("fold_in", "yes", "True or False"),
            ("learner", 5, "a text"),
            ("checkpoint_dir", ["saved"], "a text"),
            ("data_path", None, "a text"),
            ("run_dir", 5.5, "a text"),
            ("llm_permute_seed", "abc", "a whole number"),
            ("embedding_size", "64x", "a whole number"),
            ("topk", "ten", "a whole number from 1"),
            ("topk", [5, 0], "a whole number from 1"),
            ("topk", [], "a whole number from 1"),
            ("topk", True, "a whole number from 1"),
            ("topk", 100000, "a whole number from 1 to 5000"),
            ("metrics", 5, "a list of metrics"),
            ("metrics", [], "a list of metrics"),
        ],
    )
    def test_a_wrong_kind_names_key_value_origin_and_what_is_expected(self, key, value, expected):
        message = refusal(settings={key: value})
        assert message.startswith(f"{key} is {value!r} from config_dict; it must be {expected}")

    def test_the_origin_is_named(self, tmp_path):
        assert "from the command line" in refusal(command_line=["--epochs=many"])
        (tmp_path / "a.yaml").write_text("seed: 1\n\nepochs: many\n")
        assert "a.yaml, line 3" in refusal(files=[str(tmp_path / "a.yaml")])

    @pytest.mark.parametrize(
        ("model", "key", "value", "kept"),
        [
            ("BPR", "learning_rate", 1, 1.0),
            ("BPR", "metrics", "ndcg", ["NDCG"]),
            ("BPR", "metrics", "Hit,ndcg,HIT", ["Hit", "NDCG"]),
            ("BPR", "topk", [10, 5, 10], [10, 5]),
            ("BPR", "topk", (10, 20), [10, 20]),
            ("BPR", "clip_grad_norm", {"max_norm": 5}, {"max_norm": 5}),
            ("BPR", "clip_grad_norm", None, None),
            ("BPR", "normalize_field", ["rating"], ["rating"]),
            ("BPR", "threshold", {"rating": 3}, {"rating": 3}),
            ("SASRec", "transform", "mask_itemseq", "mask_itemseq"),
            ("BPR", "user_inter_num_interval", None, None),
            ("SASRec", "hidden_dropout_prob", 0, 0.0),
            ("SASRecCPR", "hidden_dropout_prob", 0.5, 0.5),
            ("SASRecCPR", "use_proj_bias", True, True),
            ("SASRecCPR", "reranker_CAN_NUM", "500,100,20", "500,100,20"),
            ("SimpleX", "negative_weight", 2.5, 2.5),
            ("AsymKNN", "q", 2, 2),
            ("NeuMF", "mlp_hidden_size", (32, 16), [32, 16]),
            ("SASRecBCE", "adam_betas", None, None),
            ("FEARec", "fredom_type", "None", "None"),
            ("FEARec", "spatial_ratio", 0.3, 0.3),
            ("LLM4CDSR", "global_dim", None, None),
            ("LLM4CDSR", "learner", "'adam'", "adam"),
            ("LLM4CDSR", "exclude_history", "recbole", "recbole"),
            ("LLM4CDSR", "run_dir", "2021", "2021"),
            ("LLM4CDSR", "transform", "None", None),
        ],
    )
    def test_what_recbole_takes_is_taken(self, model, key, value, kept):
        extra = {"valid_metric": "NDCG@10"}
        config = make(model, settings={key: value, **extra})
        assert config[key] == kept
        assert type(config[key]) is type(kept)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("epochs", -1),
            ("train_batch_size", 0),
            ("eval_batch_size", 0),
            ("learning_rate", 0),
            ("learning_rate", -0.1),
            ("learning_rate", float("inf")),
            ("learning_rate", float("nan")),
            ("learning_rate", "1e999"),
            ("weight_decay", -1),
            ("MAX_ITEM_LIST_LENGTH", 0),
            ("hidden_dropout_prob", 1),
            ("hidden_dropout_prob", -0.1),
            ("attn_dropout_prob", 1.0),
            ("eval_step", 1.5),
            ("seed", -1),
            ("seed", 2**32),
            ("profile_clusters", 0),
            ("select", "both"),
            ("ties", "random"),
            ("candidate_domains", "mine"),
            ("exclude_history", "no"),
            ("exclude_history", 1),
            ("loss_decimal_place", -1),
            ("encoding", "utf-88"),
            ("field_separator", "''"),
            ("NEG_PREFIX", "''"),
            ("transform", "shuffle"),
            ("clip_grad_norm", 3),
            ("clip_grad_norm", {"max": 3}),
            ("preload_weight", [1]),
            ("threshold", 3),
            ("discretization", "price"),
            ("normalize_field", "price"),
            ("numerical_features", None),
            ("alias_of_item_id", "item"),
            ("unload_col", True),
            ("llm_injection", "adaptor"),
            ("llm_injection", True),
            ("llm_item_tables", "item_embedding"),
            ("llm_user_tables", [5]),
            ("llm_injection_std", 0),
            ("llm_injection_std", float("inf")),
            ("llm_injection_dim", 0),
            ("llm_injection_whiten", "zca"),
            ("llm_adapter_hidden", 2.5),
            ("hidden_size", -4),
            ("inner_size", 0),
            ("n_heads", 0),
            ("n_layers", -1),
            ("initializer_range", -0.02),
            ("layer_norm_eps", 0),
            ("loss_type", "foo"),
            ("gpu_id", "0\0"),
            ("run_dir", "runs/a\0b"),
            ("checkpoint_dir", "''"),
            ("epochs", 10**20),
            ("MAX_ITEM_LIST_LENGTH", -(2**63) - 1),
            ("loss_decimal_place", 101),
            ("metric_decimal_place", 2_000_000_000),
            ("clip_grad_norm", {"max_norm": "a"}),
            ("clip_grad_norm", {"max_norm": -1}),
            ("clip_grad_norm", {"max_norm": 5, "norm_type": "two"}),
            ("seq_len", "abc"),
            ("alias_of_entity_id", "item"),
            ("normalize_all", "abc"),
            ("rm_dup_inter", "abc"),
        ],
    )
    def test_a_value_out_of_range_is_refused(self, key, value):
        assert refusal(model="SASRec", settings={key: value}).startswith(f"{key} is ")

    @pytest.mark.parametrize(("key", "value"), [("epochs", 0), ("hidden_dropout_prob", 0), ("topk", 1)])
    def test_the_ends_of_a_range_belong_to_it(self, key, value):
        metric = {"valid_metric": "NDCG@1"} if key == "topk" else {}
        assert make("SASRec", settings={key: value, **metric})[key] in (value, [value])


class TestMetrics:
    def test_an_unknown_metric_is_named_with_near_ones(self):
        assert "did you mean NDCG?" in refusal(settings={"metrics": ["Hit", "NDGC"]})
        message = refusal(settings={"metrics": "quality"})
        assert "NDCG" in message
        assert "MRR" in message
        assert " AUC" not in message

    @pytest.mark.parametrize("name", ["AUC", "LogLoss", "rmse", "MAE"])
    def test_metrics_of_single_scores_are_refused(self, name):
        assert "ranks candidates" in refusal(settings={"metrics": ["NDCG", name]})

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("NDCG@10", "NDCG@10"),
            ("ndcg@20", "NDCG@20"),
            ("HIT@5", "Hit@5"),
            ("NDCG@10_movie", "NDCG@10_movie"),
            ("mrr@1_Food_and-drink_2", "MRR@1_food_and-drink_2"),
        ],
    )
    def test_valid_metric_in_any_case_with_or_without_a_domain(self, given, kept):
        config = make(settings={"valid_metric": given})
        assert config["valid_metric"] == kept
        assert config["valid_metric_bigger"] is True

    @pytest.mark.parametrize(
        "given", ["NDCG", "NDCG@7", "Recall@10", "NDCG@10_", "NDCG@10-movie", "@10", "", "NDCG@10_a b"]
    )
    def test_valid_metric_must_be_computed(self, given):
        message = refusal(settings={"valid_metric": given})
        assert "valid_metric" in message
        assert "NDCG@10, NDCG@20" in message

    @pytest.mark.parametrize("given", ["5", "None", "True", "[NDCG@10]", "{NDCG: 10}"])
    def test_valid_metric_is_a_text_whatever_a_command_line_looks_like(self, given):
        message = refusal(command_line=[f"--valid_metric={given}"])
        assert message.startswith(f"valid_metric is {given!r} from the command line, but metrics and topk give ")

    def test_valid_metric_follows_metrics_and_topk(self):
        assert "the defaults" in refusal(settings={"topk": [5]})
        assert make(settings={"topk": 5, "valid_metric": "mrr@5"})["valid_metric"] == "MRR@5"
        assert make(settings={"metrics": "GAUC", "valid_metric": "gauc"})["valid_metric"] == "GAUC"
        for name in ("ItemCoverage", "GiniIndex", "AveragePopularity", "ShannonEntropy", "TailPercentage"):
            given = {"metrics": [name], "topk": 10}
            assert make(settings=given | {"valid_metric": f"{name}@10"})["valid_metric"] == f"{name}@10"
            assert f"but metrics and topk give {name}@10" in refusal(settings=given | {"valid_metric": name})

    def test_one_domain_and_every_domain_exclude_each_other(self):
        assert make(settings={"select": "per_domain"})["select"] == "per_domain"
        message = refusal(settings={"select": "per_domain", "valid_metric": "NDCG@10_movie"})
        assert "per_domain" in message


class TestRefusals:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("benchmark_filename", ["train", "valid", "test"]),
            ("save_dataset", True),
            ("dataset_save_path", "saved/x.pth"),
            ("save_dataloaders", True),
            ("dataloaders_save_path", "saved/x.pth"),
            ("local_rank", 0),
            ("nproc", 2),
            ("nproc", 0),
            ("nproc", "two"),
            ("world_size", 4),
        ],
    )
    def test_what_cannot_be_honoured_is_refused_in_one_line(self, key, value, tmp_path):
        assert refusal(settings={key: value}).startswith(key)
        (tmp_path / "a.yaml").write_text(yaml.safe_dump({key: value}))
        assert "a.yaml, line 1" in refusal(files=[str(tmp_path / "a.yaml")])

    def test_the_values_that_ask_for_nothing_are_accepted(self):
        config = make(settings={"save_dataset": False, "benchmark_filename": None, "nproc": 1, "world_size": -1})
        assert config.warnings == []

    def test_recbole_finds_no_pickle_to_read(self):
        config = make()
        for key in ("dataset_save_path", "dataloaders_save_path"):
            assert config[key]  # RecBole falls back to a file in checkpoint_dir when there is none
            assert not os.path.exists(config[key])

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("sasrec", "SASRec"),
            ("LLM4CDRS", "LLM4CDSR"),
            ("llm4cdsr", "LLM4CDSR"),
            ("GRU4Recc", "GRU4Rec"),
            ("xdeepfm", "xDeepFM"),
            ("LigthGCN", "LightGCN"),
        ],
    )
    def test_an_unknown_model_is_named_with_near_ones(self, name, near):
        message = refusal(model=name)
        assert name in message
        assert near in message.split("did you mean")[1]

    @pytest.mark.parametrize("name", ["Nonsense", "os.path", "", "../x", "..", "LLM4CDSR.x", 5])
    def test_a_name_of_nothing(self, name):
        assert "model" in refusal(model=name)

    def test_missing_names_are_asked_for(self):
        assert "--model=" in refusal(model=None)
        assert "--dataset=" in refusal(dataset=None)

    def test_a_model_that_would_unpickle_a_file_of_the_dataset_is_refused(self):
        assert make("LDiffRec")["n_cate"] == 1
        assert "n_cate=2: LDiffRec would unpickle" in refusal(model="LDiffRec", settings={"n_cate": 2})

    def test_decision_trees_are_refused_without_their_packages(self):
        assert "XGBoost" in refusal(model="XGBoost")
        assert "LightGBM" in refusal(model="LightGBM")

    def test_a_malformed_command_line_is_refused(self):
        assert refusal(command_line=["--epochs", "5"]) == "--epochs 5 is not understood: write --epochs=5."
        assert "positional" in refusal(command_line=["positional"])
        assert "given twice" in refusal(command_line=["--epochs=5", "--epochs=6"])

    def test_features_are_not_injected_into_a_model_that_is_made_of_them(self):
        sentence = refusal(model="LLM4CDSR", settings={"llm_injection": "init"})
        assert sentence.startswith("llm_injection is 'init', but LLM4CDSR is built on LLM features already; remove ")

    def test_keys_of_injection_that_nothing_reads_are_named(self):
        settings = {"llm_injection": "init", "llm_adapter_hidden": 8}
        assert make("SASRec", settings=settings).notices == [
            "llm_adapter_hidden is not used: llm_injection is init, and it belongs to adapter."
        ]
        assert make("SASRec", settings=settings | {"llm_injection": "adapter"}).notices == []
        assert make("SASRec", settings={"llm_injection_whiten": False}).notices == []
        assert make("SASRec", settings={"llm_injection_whiten": True}).notices == [
            "llm_injection_whiten is not used: llm_injection is none, and it belongs to init, adapter, concat, frozen."
        ]

    def test_adam_with_the_learning_rate_of_plain_gradients_is_doubted(self):
        (sentence,) = make("LLMCDSR", settings={"inner_optimizer": "adam"}).warnings
        assert sentence.startswith("inner_optimizer is adam and inner_learning_rate 0.5: ")
        assert "the official code: 0.001" in sentence
        assert make("LLMCDSR").warnings == []
        official = {"inner_optimizer": "adam", "inner_learning_rate": 0.001}
        assert make("LLMCDSR", settings=official).warnings == []

    def test_objects_are_refused(self):
        assert "object" in refusal(settings={"note": object()})
        assert "keys must be strings" in refusal(settings={5: 1})
        assert "mapping" in refusal(settings=["epochs"])


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("model", "key", "near"),
        [
            ("SASRec", "hiden_size", "hidden_size"),
            ("LLM4CDSR", "learning_rat", "learning_rate"),
            ("BPR", "eval_candidate", "eval_candidates"),
            ("BPR", "max_item_list_length", "MAX_ITEM_LIST_LENGTH"),
        ],
    )
    def test_they_are_warned_of_with_the_nearest_known_one(self, model, key, near):
        (warning,) = make(model, settings={key: 5}).warnings
        assert warning == f"{key} (from config_dict) is not a known setting; did you mean {near}?"

    def test_the_place_is_named(self, tmp_path):
        (tmp_path / "a.yaml").write_text("epochs: 1\nzzqqxx: 1\n")
        (warning,) = make(files=[str(tmp_path / "a.yaml")]).warnings
        assert "a.yaml, line 2) is not a known setting." in warning

    def test_keys_that_another_model_or_recbole_reads_are_known(self):
        known = {"n_layers": 2, "hidden_size": 32, "encoding": "utf-8", "tail_ratio": 0.1, "alpha": 0.5}
        config = make("BPR", settings=known)
        assert config.warnings == []
        assert config["n_layers"] == 2
