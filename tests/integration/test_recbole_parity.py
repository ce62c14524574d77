"""Nothing of RecBole's behaviour is changed by accident: the same run through RecBole alone and through us."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from recbole.quick_start import run_recbole

from recbole_cdsr.quick_start import run_recbole_cdsr
from recbole_cdsr.trainer.checkpoint import load_checkpoint

SHARED = {
    "use_gpu": False,
    "show_progress": False,
    "seed": 7,
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "domain"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "metrics": ["Hit", "NDCG", "MRR", "Recall"],
    "topk": [1, 5, 10],
    "valid_metric": "NDCG@10",
    "train_batch_size": 64,
    "eval_batch_size": 64,
    "learning_rate": 0.01,
    "MAX_ITEM_LIST_LENGTH": 6,  # shorter than the histories
    "hidden_size": 16,
    "inner_size": 32,
    "embedding_size": 16,
}
# What makes our protocol RecBole's.
AS_RECBOLE = ["--candidate_domains=all", "--ties=recbole", "--exclude_history=recbole", "--eval_candidates=full"]


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("SASRec", {"epochs": 3, "loss_type": "BPR"}),
        ("BPR", {"epochs": 15}),
        ("Pop", {}),
    ],
    ids=["SASRec-BPR", "BPR", "Pop"],
)
def test_a_model_of_recbole_gets_the_same_metrics_through_us(make_dataset, tmp_path, model, settings):
    compare(make_dataset(n_users=80, n_items=40), tmp_path, model, settings)


def compare(dataset, tmp_path, model, settings):
    """Run both ways, expect the same metrics, epoch and parameters, and return our result."""
    file = tmp_path / "shared.yaml"
    file.write_text(yaml.safe_dump(SHARED | settings | {"data_path": str(dataset.root)}), encoding="utf-8")

    theirs = run_recbole(
        model=model, dataset=dataset.name, config_file_list=[str(file)], config_dict={"checkpoint_dir": "recbole"}
    )
    ours = run_recbole_cdsr(model, dataset.name, [str(file)], command_line=[*AS_RECBOLE, "--checkpoint_dir=ours"])

    assert ours["best_valid_score"] == pytest.approx(theirs["best_valid_score"], abs=0)
    for key, value in theirs["best_valid_result"].items():
        assert ours["best_valid"][key] == value, f"validation {key}"
    for key, value in theirs["test_result"].items():
        assert ours["test"]["overall"][key] == value, f"test {key}"
    assert 0 < theirs["test_result"]["hit@10"] < 1  # not all misses, not all hits: there is something to compare

    (kept,) = Path("recbole").glob(f"{model}-*.pth")
    selected = torch.load(kept, weights_only=False)  # RecBole's own format, written above
    mine = load_checkpoint(Path(ours["run_dir"]) / "best.pth")
    assert mine["epoch"] == selected["epoch"] == ours["best_epoch"]
    assert mine["state_dict"].keys() == selected["state_dict"].keys()
    for name, tensor in selected["state_dict"].items():
        assert torch.equal(mine["state_dict"][name], tensor), name
    return ours


def test_early_stopping_is_recboles(make_dataset, tmp_path):
    dataset = make_dataset(n_users=80, n_items=40)
    ours = compare(dataset, tmp_path, "SASRec", {"epochs": 30, "train_neg_sample_args": None, "stopping_step": 2})
    assert ours["epochs"] < 30
    # RecBole stops when more than stopping_step validations in a row have not reached the best.
    assert ours["epochs"] == ours["best_epoch"] + 1 + 3
