"""A run that was stopped goes on as if it had not been."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_cdsr.errors import CheckpointError, ConfigError
from recbole_cdsr.locks import hold
from recbole_cdsr.trainer.checkpoint import load_checkpoint

# What must not tell a resumed run from an uninterrupted one.
SAME = ("test", "best_valid", "best_valid_score", "best_epoch", "train_losses", "valid_scores", "epochs", "notes")


def wait_for_epoch(last: Path, epoch: int, process, patience: float = 120) -> None:
    """Until `last` holds that epoch."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if last.is_file() and load_checkpoint(last)["epoch"] >= epoch:
            return
        if process.poll() is not None:
            pytest.fail(f"the run ended by itself: {process.communicate()[1][-2000:]}")
        time.sleep(0.02)
    pytest.fail(f"epoch {epoch} was not reached in {patience} s")


@pytest.mark.parametrize("model", ["LLM4CDSR", "SASRec"])
def test_a_killed_run_goes_on_exactly(make_dataset, run, start, arguments, small, item_features, model):
    tiny = make_dataset(n_users=30)
    settings = small | {"stopping_step": 1000, "learning_rate": 0.003}
    if model == "LLM4CDSR":
        settings |= {"item_features_file": str(item_features(tiny))}
    process = start(arguments(model, tiny, **settings, epochs=1000, run_dir="run"))
    wait_for_epoch(Path("run/last.pth"), 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    killed_after = load_checkpoint(Path("run/last.pth"))["epoch"]
    epochs = killed_after + 4
    resumed = run(model, tiny, **settings, epochs=epochs, run_dir="run", resume=True)
    straight = run(model, tiny, **settings, epochs=epochs, run_dir="straight")
    assert resumed["epochs"] == epochs
    assert resumed["budget"] is True
    assert {key: resumed[key] for key in SAME} == {key: straight[key] for key in SAME}
    one, other = (load_checkpoint(Path(folder) / "last.pth") for folder in ("run", "straight"))
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    for result in (resumed, straight):
        assert 0 < result["seconds"]["training"] + result["seconds"]["evaluation"] < result["seconds"]["total"]

    # A finished run trains nothing more and says the same again.
    kept = Path("run/best.pth").read_bytes()
    repeated = run(model, tiny, **settings, epochs=epochs, run_dir="run", resume=True)
    assert {key: repeated[key] for key in SAME} == {key: straight[key] for key in SAME}
    assert repeated["seconds"]["training"] == resumed["seconds"]["training"]
    assert Path("run/best.pth").read_bytes() == kept


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("RecVAE", {}),  # three optimisers, which it swaps
        ("BERT4Rec", {"hidden_size": 16, "inner_size": 16}),  # masks drawn for every batch
        ("LightGCN", {"eval_step": 2}),  # epochs that are not validated
        ("SASRecBCE", {"select": "per_domain"}),
        ("BPR", {"eval_step": 0}),  # no validation at all
        # State in plain attributes: how far annealing has come, losses of former steps, an order of users.
        ("MultiVAE", {"total_anneal_steps": 10, "anneal_cap": 1, "mlp_hidden_size": [16], "latent_dimension": 8}),
        ("DiffRec", {"dims_dnn": [16], "steps": 3, "history_num_per_term": 2}),
        ("LINE", {}),
    ],
)
def test_more_epochs_go_on_where_the_run_ended(make_dataset, run, model, settings):
    tiny = make_dataset(n_users=30)
    short = run(model, tiny, **settings, epochs=3)
    longer = run(model, tiny, **settings, epochs=6, resume=True)
    straight = run(model, tiny, **settings, epochs=6, checkpoint_dir="elsewhere")
    assert longer["run_dir"] == short["run_dir"]
    assert short["train_losses"] == straight["train_losses"][:3]
    assert {key: longer[key] for key in SAME} == {key: straight[key] for key in SAME}


def test_a_run_of_no_epochs_is_judged_untrained_and_can_go_on(tiny, run):
    untrained = run("BPR", tiny, epochs=0)
    assert (untrained["epochs"], untrained["best_epoch"], untrained["best_valid"]) == (0, None, {})
    assert untrained["test"]["overall"]["count"] == 60
    going_on = run("BPR", tiny, epochs=2, resume=True)
    straight = run("BPR", tiny, epochs=2, checkpoint_dir="elsewhere")
    assert going_on["run_dir"] == untrained["run_dir"]
    assert {key: going_on[key] for key in SAME} == {key: straight[key] for key in SAME}


def test_an_epoch_that_is_not_validated_is_kept_too(tiny, run):
    run("BPR", tiny, epochs=3, eval_step=2, run_dir="run")
    assert load_checkpoint(Path("run/last.pth"))["epoch"] == 2
    assert load_checkpoint(Path("run/best.pth"))["epoch"] == 1


def test_a_run_that_stopped_early_stays_stopped(tiny, run):
    settings = {"epochs": 60, "stopping_step": 1, "learning_rate": 0.05}
    first = run("BPR", tiny, **settings)
    assert first["epochs"] < 60
    assert first["budget"] is False
    again = run("BPR", tiny, **settings, resume=True)
    assert {key: again[key] for key in SAME} == {key: first[key] for key in SAME}
    scores = [entry["score"] for entry in first["valid_scores"]]
    assert [entry["epoch"] for entry in first["valid_scores"]] == list(range(first["epochs"]))
    assert max(scores) == scores[first["best_epoch"]] == first["best_valid_score"]
    patient = run("BPR", tiny, **settings | {"stopping_step": 3}, resume=True)
    assert patient["epochs"] > first["epochs"]
    assert patient["train_losses"][: first["epochs"]] == first["train_losses"]


def test_nothing_to_resume_starts_anew(tiny, run, caplog):
    result = run("BPR", tiny, epochs=1, resume=True)
    assert result["epochs"] == 1
    assert any("no run of this configuration" in message for message in caplog.messages)


def test_the_newest_run_of_the_configuration_is_resumed(tiny, run):
    runs = [run("BPR", tiny, epochs=1)["run_dir"] for _ in range(3)]
    assert runs[1:] == [f"{runs[0]}-2", f"{runs[0]}-3"]
    other = run("BPR", tiny, epochs=1, learning_rate=0.5)["run_dir"]
    assert not other.startswith(runs[0])
    (Path(runs[2]) / "last.pth").unlink()  # killed in its first epoch, say
    assert run("BPR", tiny, epochs=2, resume=True)["run_dir"] == runs[1]


def test_a_used_run_directory_is_not_overwritten(tiny, run):
    run("BPR", tiny, epochs=1, run_dir="run")
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    with pytest.raises(ConfigError, match=r"run_dir run holds a run already; add --resume=True"):
        run("BPR", tiny, epochs=2, run_dir="run")
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before


def test_a_refused_process_leaves_the_configuration_of_the_run_alone(tiny, run):
    Path("run").mkdir()
    Path("run/config.yaml").write_text("learning_rate: 0.25\n", encoding="utf-8")
    held = hold(Path("run"))  # as a process does that trains in it, in its first epoch
    try:
        with pytest.raises(ConfigError, match="Another process is training in run"):
            run("BPR", tiny, epochs=1, learning_rate=0.5, run_dir="run")
    finally:
        os.close(held)
    assert Path("run/config.yaml").read_text(encoding="utf-8") == "learning_rate: 0.25\n"


def test_a_stage_that_pre_trains_keeps_its_last_epoch_as_its_own(tiny, run):
    settings = {"mlp_hidden_size": [8], "latent_dimension": 8, "save_step": 2}
    first, second = (run("RaCT", tiny, **settings, pretrain_epochs=3, seed=seed) for seed in (1, 2))
    for result in (first, second):
        kept = load_checkpoint(Path(result["run_dir"]) / "best.pth")
        assert kept["epoch"] == 2
        assert kept["config"]["seed"] == result["seed"]
    assert load_checkpoint(Path("saved/RaCT-tiny-2.pth"))["epoch"] == 1  # for the next stage, as RecBole names it
    going_on = {"train_stage": "finetune", "pre_model_path": "saved/RaCT-tiny-2.pth"}
    assert run("RaCT", tiny, **settings | going_on, epochs=2)["epochs"] == 2


def test_where_features_lie_makes_no_other_run(tiny, run):
    first = run("BPR", tiny, epochs=1)
    moved = run("BPR", tiny, epochs=2, resume=True, llm_features_dir="elsewhere")
    assert moved["run_dir"] == first["run_dir"]


def test_two_processes_do_not_train_in_one_directory(tiny, run, start, arguments):
    settings = {"stopping_step": 1000, "run_dir": "run"}
    process = start(arguments("BPR", tiny, **settings, epochs=100_000))
    wait_for_epoch(Path("run/last.pth"), 0, process)
    with pytest.raises(ConfigError, match="Another process is training in run; wait"):
        run("BPR", tiny, **settings, epochs=3, resume=True)
    os.kill(process.pid, signal.SIGKILL)  # a lock of its own would outlive it
    process.wait()
    reached = load_checkpoint(Path("run/last.pth"))["epoch"] + 1
    assert run("BPR", tiny, **settings, epochs=reached + 1, resume=True)["epochs"] == reached + 1


def test_another_configuration_is_not_resumed_into_a_run(tiny, run):
    run("BPR", tiny, epochs=1, run_dir="run")
    with pytest.raises(CheckpointError, match=r"configured otherwise \(learning_rate is 0\.01, was 0\.001\)"):
        run("BPR", tiny, epochs=9, run_dir="run", resume=True, learning_rate=0.01, result_file="other.json")
    with pytest.raises(CheckpointError, match="model is 'LightGCN', was 'BPR'"):
        run("LightGCN", tiny, run_dir="run", resume=True)
    assert not Path("other.json").exists()


def test_changed_data_is_not_resumed_into_a_run(tiny, run):
    run("BPR", tiny, epochs=1, run_dir="run")
    file = tiny.folder / "tiny.inter"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([lines[0], *lines[2:], lines[1]]), encoding="utf-8")  # the same rows in another order
    with pytest.raises(CheckpointError, match="'tiny' has changed since"):
        run("BPR", tiny, epochs=2, run_dir="run", resume=True)


def test_changed_features_are_not_resumed_into_a_run(tiny, run, small, item_features):
    settings = small | {"item_features_file": str(item_features(tiny)), "run_dir": "run"}
    run("LLM4CDSR", tiny, **settings, epochs=1)
    assert run("LLM4CDSR", tiny, **settings, epochs=2, resume=True)["epochs"] == 2

    file = Path(settings["item_features_file"])
    matrix = np.load(file)
    matrix[3, 0] += 1e-3
    np.save(file, matrix)
    with pytest.raises(CheckpointError, match=r"run/last\.pth .* on other item features and user profiles;"):
        run("LLM4CDSR", tiny, **settings, epochs=3, resume=True)


def test_without_saving_nothing_is_left_behind(tiny, run):
    result = run("BPR", tiny, saved=False)
    assert result["run_dir"] is None
    assert result["best_epoch"] in (0, 1)
    assert result["test"]["overall"]["count"] == 60
    assert not any(Path().rglob("*.pth"))
    assert not any(Path().rglob("result.json"))
