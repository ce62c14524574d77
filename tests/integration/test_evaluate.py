"""A trained run judged again: its own figures under its own protocol, those of another run under another one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_cdsr.cli import main
from recbole_cdsr.trained_run import SavedRun, TrainedRun
from recbole_cdsr.trainer.checkpoint import load_checkpoint, save_checkpoint

from .small_models import SMALL

LECDSR = {"hidden_size": 16, "adapter_size": 16, "n_negatives": 5, "profile_clusters": 3}
LLMCDSR = {"hidden_size": 16, "n_recalled": 4, "noisy_batch_size": 8, "meta_batch_size": 16, "pretrain_epochs": 1}
PER_DOMAIN = {"select": "per_domain", "epochs": 3, "hidden_size": 16}
MODELS = {
    "LLM4CDSR": SMALL,
    "SASRec": {},
    "BERT4Rec": {},
    "BPR": {},
    "NeuMF": {},
    "EASE": {},
    "SASRecBCE": PER_DOMAIN,
    "NNCF": PER_DOMAIN | {"ui_embedding_size": 16},  # draws neighbours when it is built
    "AsymKNN": {},
    "LLMCDSR": LLMCDSR,
}


@pytest.fixture
def evaluate():
    """`evaluate(place, *settings)`: the result that the command writes."""

    def evaluate(place, *settings):
        assert main(["evaluate", "--run", str(place), "--result_file=again.json", *settings]) == 0
        return json.loads(Path("again.json").read_text(encoding="utf-8"))

    return evaluate


@pytest.mark.parametrize("model", MODELS)
def test_the_runs_own_protocol_gives_the_runs_own_figures(trained, evaluate, read_json, model):
    place = Path(trained(model, **MODELS[model])["run_dir"])
    kept = {path: path.read_bytes() for path in sorted(place.iterdir())}
    own, again = read_json(place / "result.json"), evaluate(place)
    assert again["test"] == own["test"]
    assert again["best_valid"] == own["best_valid"]
    assert again["best_epoch"] == own["best_epoch"]
    assert again.keys() == own.keys() | {"evaluated"}
    assert Path("again_test_ranks.tsv").read_bytes() == (place / "test_ranks.tsv").read_bytes()
    files = [path.name for path in sorted(place.glob("best*.pth"))]
    named = again["evaluated"]["checkpoint"]
    assert [Path(file).name for file in (named.values() if isinstance(named, dict) else [named])] == files
    assert (again["evaluated"]["trained"], again["evaluated"]["changed"]) == (False, {})
    assert (again["epochs"], again["train_losses"], again["seconds"]["training"]) == (0, [], 0)
    at_cap = model not in ("EASE", "AsymKNN")  # which have one epoch, and are not cut short by a cap
    assert again["budget"] == own["budget"] == at_cap
    assert {path: path.read_bytes() for path in sorted(place.iterdir())} == kept


def test_drawn_candidates_are_those_of_a_run_that_had_them_from_the_start(trained, evaluate):
    first = trained("SASRec")
    other = trained("SASRec", eval_candidates=["full", "uni10"])
    again = evaluate(first["run_dir"], "--eval_candidates=[full, uni10]")
    assert again["test"] == other["test"]
    assert again["evaluated"]["changed"] == {"eval_candidates": [["full"], ["full", "uni10"]]}
    ranks = Path(other["run_dir"]) / "test_ranks.tsv"
    assert Path("again_test_ranks.tsv").read_bytes() == ranks.read_bytes()


@pytest.mark.parametrize("model", ["SASRec", "SASRecBCE", "LLM4CDSR", "LeCDSR", "LLMCDSR"])
def test_candidates_of_all_domains_are_all_items_for_every_model(trained, evaluate, model):
    settings = {"SASRecBCE": PER_DOMAIN, "LLM4CDSR": SMALL, "LeCDSR": LECDSR, "LLMCDSR": LLMCDSR}
    place = Path(trained(model, **settings.get(model, {}))["run_dir"])
    evaluate(place, "--candidate_domains=all", "--exclude_history=False")
    ranks = pd.read_csv("again_test_ranks.tsv", sep="\t")["full"].to_numpy()

    saved = SavedRun.open(place)
    run = TrainedRun(saved, saved.config())
    by_hand = np.zeros(len(ranks))
    for rows, *_ in run.test:
        served = Interaction({name: rows[name] for name in ("user_id", "item_id_list", "item_length")})
        targets, domains = rows["item_id"].tolist(), rows["target_domain"].tolist()
        for place, (row, target, domain) in enumerate(zip(rows["row_id"].tolist(), targets, domains, strict=True)):
            with torch.no_grad():
                one = run.model_of(run.data.domain_names[domain]).full_sort_predict(served[place : place + 1])
            scores = one.view(-1)[1:]
            assert torch.isfinite(scores).all()
            own = scores[target - 1]
            by_hand[row] = 1 + int((scores > own).sum()) + (int((scores == own).sum()) - 1) / 2
    assert by_hand == pytest.approx(ranks, abs=1)  # sums of floats depend on the batch in their last digit
    # With the candidates of one domain no rank lies behind its items.
    assert ranks.max() > max(np.diff(run.data.domain_offsets))


def test_other_metrics_than_the_one_that_selected(trained, evaluate, capsys):
    place = trained("BPR")["run_dir"]
    again = evaluate(place, "--metrics=Recall", "--topk=3", "--ties=recbole", "--exclude_history=False")
    assert set(again["test"]["overall"]) == {"count", "recall@3"}
    assert again["config"]["valid_metric"] == "NDCG@10"  # what selected the checkpoint
    assert set(again["evaluated"]["changed"]) == {"metrics", "topk", "ties", "exclude_history"}
    printed = capsys.readouterr().out
    assert "nothing was trained" in printed
    assert f"{again['test']['overall']['recall@3']:.4f}" in printed


def test_the_file_of_one_domain_judges_all_rows(trained, evaluate):
    place = Path(trained("SASRecBCE", **PER_DOMAIN)["run_dir"])
    assert main(["evaluate", "--checkpoint", str(place / "best_books.pth"), "--result_file=books.json"]) == 0
    books = json.loads(Path("books.json").read_text(encoding="utf-8"))
    assert books["evaluated"]["checkpoint"].endswith("best_books.pth")
    assert books["test"]["overall"]["count"] == 40
    assert books["test"]["domains"]["books"] == evaluate(place)["test"]["domains"]["books"]


def test_an_evaluation_does_without_a_result_file_even_if_the_run_had_one(tiny, run):
    result = run("Pop", tiny, epochs=1, result_file="own.json")
    before = Path("own.json").read_bytes()
    assert main(["evaluate", "--checkpoint", result["run_dir"], "--topk=[1,2]"]) == 0
    assert Path("own.json").read_bytes() == before
    assert not list(Path().glob("*ranks.tsv"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--learning_rate=0.1"], "learning_rate is no setting it could change"),
        (["--epochs=5"], "evaluate uses a model as it was trained, and epochs is no setting"),
        (["--topkk=5"], "did you mean topk?"),
        (["--dataset=douban"], "evaluate uses the data that the model was trained on"),
        (["--eval_candidates=uni0"], "uni0"),
        (["--topk"], "--topk has no value"),
        (["--metrics=AUC"], "rates single scores"),
        (["--metrics=[TailPercentage, NDCG]", "--tail_ratio=abc"], "tail_ratio is 'abc' from the command line"),
        (["--data_path=elsewhere"], "is not there"),
        (["--result_file="], "result_file names nothing; name a file, or leave it out."),
        (["--result_file=' '"], "result_file names nothing"),
        (["--result_file=."], "result_file . is a folder; name a file in it."),
        (["--result_file=.."], "result_file .. is a folder; name a file in it."),
        (["--result_file=/"], "result_file / is a folder; name a file in it."),
    ],
)
def test_mistakes_end_in_one_line(trained, capsys, arguments, words):
    assert main(["evaluate", "--run", trained("SASRec")["run_dir"], *arguments]) == 2
    output = capsys.readouterr()
    assert words in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


@pytest.mark.parametrize("name", ["result.json", "config.yaml", "test_ranks.tsv", "best.pth", "last.pth"])
def test_what_the_run_keeps_is_not_replaced(trained, capsys, name):
    place = Path(trained("SASRec")["run_dir"])
    before = (place / name).read_bytes()
    assert main(["evaluate", "--run", str(place), f"--result_file={place / name}"]) == 2
    assert main(["recommend", "--run", str(place), "--users", "u1", "--output", str(place / name)]) == 2
    assert capsys.readouterr().err.count(f"{name} is a file of the run itself; name another file.") == 2
    assert (place / name).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epoch": None}, "does not say which epoch it keeps"),
        ({"config": {}}, "does not say its model"),
        ({"config": {"metrics": None}}, "does not say its metrics"),
        ({"config": {"valid_metric": 5}}, "does not say its valid_metric"),
        ({"material": [1]}, "does not say what it was trained on"),
    ],
)
def test_a_checkpoint_that_was_changed_is_refused(trained, tmp_path, capsys, change, words):
    state = load_checkpoint(Path(trained("SASRec")["run_dir"]) / "best.pth")
    if change.get("config"):
        change = {"config": state["config"] | change["config"]}
    state = {key: value for key, value in (state | change).items() if key != "format"}
    save_checkpoint(tmp_path / "changed.pth", state)
    assert main(["evaluate", "--checkpoint", str(tmp_path / "changed.pth")]) == 2
    assert words in capsys.readouterr().err


def test_what_is_no_run_is_said_so(tmp_path, capsys):
    for place in (tmp_path, tmp_path / "nowhere", Path(__file__)):
        assert main(["evaluate", "--run", str(place)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 3
    assert "holds no best.pth" in error
    assert "is not there" in error
    assert "is broken or holds more than tensors" in error
