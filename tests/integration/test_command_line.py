"""The command as a user types it: exit codes, the one line for a mistake, what is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recbole_cdsr.cli import main
from recbole_cdsr.trainer.checkpoint import load_checkpoint


def refused(capsys, arguments: list[str]) -> str:
    """Run a command that is a mistake; its one line, after checking that nothing was left behind."""
    capsys.readouterr()
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    lines = output.err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("recbole-cdsr: ")
    assert not list(Path("saved").glob("*"))
    assert not list(Path().rglob("*.part"))
    assert not list(Path().rglob("result.json"))
    return lines[0]


def test_a_reader_that_has_read_enough_ends_a_command_in_silence(tiny):
    Path("grid.yaml").write_text("models: [Pop]\ndatasets: [tiny]\nseeds: [1]\n", encoding="utf-8")
    command = [sys.executable, "-c", "from recbole_cdsr.cli import main; raise SystemExit(main())", "benchmark"]
    command += ["grid.yaml", "--output=out", "--dry-run", f"--override=data_path={tiny.settings['data_path']}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # long before the first line
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (["--model=SASRek"], r"no model named 'SASRek'; did you mean SASRec"),
        (["--dataset=tinny"], r"Dataset 'tinny' is not there: no folder .*recbole-cdsr convert"),
        (["--epochs=many"], r"epochs is 'many' from the command line; it must be a whole number"),
        (["--epochs=-1"], r"epochs is -1"),
        (["--learning_rate=fast"], r"learning_rate is 'fast'"),
        (["--nproc=2"], r"nproc=2.*not built yet"),
        (["--nproc=two"], r"nproc: invalid int value: 'two'"),
        (["--epochs", "3"], r"--epochs 3 is not understood: write --epochs=3"),
        (["stray"], r"stray is not understood"),
        (["--valid_metric=NDCG@7"], r"valid_metric is 'NDCG@7'"),
        (["--valid_metric=NDCG@10_music"], r"there is no domain 'music'"),
        (["--eval_candidates=[full,uni0]"], r"eval_candidates holds 'uni0'"),
        (["--select=domain"], r"select is 'domain'"),
        (["--config_files=missing.yaml"], r"config file missing\.yaml does not exist"),
        (["--config_files=broken.yaml"], r"broken\.yaml, line 2: this is not plain YAML"),
        (["--config_files=list.yaml"], r"list\.yaml, line 1: a config file holds `key: value` lines"),
        (["--config_files=wrong.yaml"], r"epochs is 'three' in wrong\.yaml, line 2"),
        (["--result_file=broken.yaml/result.json"], r"result_file broken\.yaml/result\.json cannot be written"),
        (["--result_file=."], r"result_file \. is a folder"),
        (["--checkpoint_dir=broken.yaml/saved"], r"broken\.yaml/saved cannot be made"),
        (["--checkpoint_dir=broken.yaml"], r"checkpoint_dir broken\.yaml"),
        (["--run_dir=broken.yaml"], r"run_dir broken\.yaml"),
    ],
)
def test_a_mistake_in_the_command_gets_one_line(tiny, arguments, capsys, given, answer):
    Path("broken.yaml").write_text("seed: 1\nepochs: [1, 2}\n", encoding="utf-8")
    Path("list.yaml").write_text("- seed\n- epochs\n", encoding="utf-8")
    Path("wrong.yaml").write_text("seed: 1\nepochs: three\n", encoding="utf-8")
    keys = [argument.partition("=")[0] for argument in given]
    usual = [argument for argument in arguments("BPR", tiny) if argument.partition("=")[0] not in keys]
    if "wrong.yaml" in given[0]:
        usual = [argument for argument in usual if not argument.startswith("--epochs")]
    line = refused(capsys, ["run", *usual, *given])
    assert re.search(answer, line), line


@pytest.mark.parametrize("command", ["run", "tune"])
@pytest.mark.parametrize("option", ["--model", "--dataset", "--config_files"])
def test_an_option_with_two_values_is_refused(capsys, command, option):
    needed = ["--space=LLM4CDSR", "--output=tuned"] if command == "tune" else []
    answer = refused(capsys, [command, *needed, f"{option}=a", f"{option}=b"])
    assert f"{option} is given twice, as a and as b; remove one" in answer


@pytest.mark.parametrize(
    ("given", "answer"), [([], "COMMAND"), (["rum"], "invalid choice: 'rum'"), (["run"], "No model")]
)
def test_a_command_that_is_none_gets_one_line(capsys, given, answer):
    assert answer in refused(capsys, given)


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (
            lambda text: text.replace("movies:3\tmovies\t", "movies:3\t\t"),
            r"tiny\.item, line 25: item 'movies:3' has no domain",
        ),
        (lambda text: text.replace("\tmovies\t", "\tbooks\t"), r"tiny\.item holds one domain only \('books'\)"),
        (
            lambda text: text.replace("movies:3\t", "movies:99\t"),
            r"tiny\.inter, line \d+: item 'movies:3' is not in the",
        ),
        (lambda text: text.replace("\tmovies\t", "\tMovies!\t"), r"tiny\.item, line 22: domain name 'Movies!'"),
    ],
    ids=["no domain", "one domain", "unknown item", "bad name"],
)
@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_a_mistake_in_the_items_names_file_and_line(tiny, arguments, capsys, change, answer, model):
    file = tiny.folder / "tiny.item"
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")
    line = refused(capsys, ["run", *arguments(model, tiny)])
    assert re.search(answer, line), line


def test_too_short_a_history_names_file_and_line(tiny, arguments, capsys):
    file = tiny.folder / "tiny.inter"
    file.write_text(file.read_text(encoding="utf-8") + "newcomer\tbooks:1\t77\n", encoding="utf-8")
    line = refused(capsys, ["run", *arguments("BPR", tiny)])
    assert "tiny.inter, line 482: user 'newcomer' has one interaction only" in line
    assert "user_inter_num_interval" in line
    remedy = arguments("BPR", tiny, epochs=1, user_inter_num_interval="[3,inf)")
    assert main(["run", *remedy]) == 0


@pytest.mark.parametrize(
    ("matrix", "answer"),
    [
        (np.full((40, 8), np.nan), "nan"),
        (np.full((40, 8), np.inf), "inf"),
        (np.zeros((39, 8)), "40 rows"),
        (np.zeros(40), "float matrix"),
    ],
    ids=["NaN", "inf", "rows", "vector"],
)
def test_wrong_item_features_get_one_line(tiny, arguments, capsys, small, matrix, answer):
    np.save("items.npy", matrix.astype(np.float32))
    file = str(Path("items.npy").absolute())
    line = refused(capsys, ["run", *arguments("LLM4CDSR", tiny, **small, item_features_file=file)])
    assert "items.npy" in line
    assert answer in line.lower()


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("--normalize_field=[price]", r"Field \[price\] does not exist"),
        ("--preload_weight={price: vector}", r"price"),
        ("--additional_feat_suffix=[ent]", r"tiny\.ent\] not found"),
        ("--alias_of_item_id=[timestamp]", "only integers"),
    ],
)
def test_a_column_that_is_not_there_gets_one_line(tiny, arguments, capsys, setting, answer):
    line = refused(capsys, ["run", *arguments("SASRecBCE", tiny), setting])
    assert re.search(rf"cannot be loaded with these settings \(\w+Error: .*{answer}", line), line


@pytest.mark.parametrize("option", ["run_dir", "checkpoint_dir", "data_path"])
def test_a_path_longer_than_the_system_takes_gets_one_line(tiny, arguments, capsys, option):
    line = refused(capsys, ["run", *arguments("Pop", tiny, **{option: "a" * 300})])
    assert "aaaa" in line
    assert "File name too long" in line


@pytest.mark.parametrize(
    ("model", "setting"), [("SASRecBCE", "hidden_size"), ("SASRec", "hidden_size"), ("SASRec", "llm_adapter_hidden")]
)
def test_a_size_that_no_memory_holds_gets_one_line(tiny, arguments, item_features, capsys, model, setting):
    settings = {setting: 2**50}
    if setting == "llm_adapter_hidden":
        settings |= {"llm_injection": "adapter", "item_features_file": item_features(tiny)}
    line = refused(capsys, ["run", *arguments(model, tiny, **settings)])
    assert f"{model} is too large for the memory with these settings on 'tiny' (" in line


def test_a_step_that_no_memory_holds_gets_one_line(tiny, arguments, capsys):
    assert main(["run", *arguments("BPR", tiny), f"--train_neg_sample_args={{sample_num: {10**13}}}"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"out of memory \(Unable to allocate .*\); .*; make what does not fit smaller: train_batch", last)
    assert "--resume goes on with a run" in last


def test_a_setting_of_the_model_is_refused_before_features_are_made(tiny, arguments, capsys, small):
    line = refused(capsys, ["run", *arguments("LLM4CDSR", tiny, **small | {"hidden_size": 8, "n_heads": 3})])
    assert "it must be a multiple of n_heads" in line
    assert not list(Path().rglob("features"))


@pytest.mark.parametrize(
    ("model", "setting", "answer"),
    [
        ("LLM4CDSR", "alpha=-1", "alpha is -1.0 from the command line; it must be a finite number, 0 or more."),
        ("LLM4CDSR", "hidden_size=9", "hidden_size is 9 from the command line; it must be a multiple of n_heads, 2."),
        ("SASRecBCE", "positions=x", "positions is 'x' from the command line; it must be one of count, column."),
        ("LLMCDSR", "positions=x", "positions is 'x' from the command line; it must be one of count, column."),
        ("LeCDSR", "prompt_language=de", "prompt_language is 'de' from the command line; it must be one of en, zh."),
        ("SASRec", "llm_injection=foo", "llm_injection is 'foo' from the command line; it must be one of"),
    ],
)
def test_a_value_that_a_model_does_not_take_is_told_with_where_it_was_given(
    tiny, arguments, capsys, model, setting, answer
):
    usual = [given for given in arguments(model, tiny) if not given.startswith("--n_heads")]
    assert answer in refused(capsys, ["run", *usual, "--n_heads=2", f"--{setting}"])


def test_an_unknown_key_is_warned_about_and_the_run_goes_on(tiny, arguments, caplog, read_json):
    given = ["--learning_rat=0.5", "--result_file=deep/er/result.json"]
    assert main(["run", *arguments("BPR", tiny, epochs=1), *given]) == 0
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert any("learning_rat" in message and "did you mean learning_rate?" in message for message in warnings)
    assert read_json("deep/er/result.json")["model"] == "BPR"


@pytest.mark.parametrize("form", [["--model", "BPR", "--dataset", "tiny"], ["-m", "BPR", "-d", "tiny"]])
def test_model_and_dataset_may_stand_after_a_blank(tiny, arguments, form, read_json):
    others = [a for a in arguments("BPR", tiny, epochs=1) if not a.startswith(("--model", "--dataset"))]
    assert main(["run", *form, *others, "--result_file=result.json"]) == 0
    assert read_json("result.json")["dataset"] == "tiny"


def test_the_command_line_wins_over_files_and_the_later_file_over_the_earlier(tiny, arguments, read_json):
    Path("a.yaml").write_text("learning_rate: 0.1\nstopping_step: 3\nseed: 1\n", encoding="utf-8")
    Path("b.yaml").write_text("learning_rate: 0.2\nstopping_step: 4\n", encoding="utf-8")
    given = ["--config_files", "a.yaml b.yaml", "--learning_rate=0.3", "--result_file=result.json"]
    assert main(["run", *arguments("BPR", tiny, epochs=1), *given]) == 0
    config = read_json("result.json")["config"]
    assert (config["learning_rate"], config["stopping_step"], config["seed"]) == (0.3, 4, 1)


def test_a_diverging_loss_gets_one_line_and_keeps_the_epochs_before(tiny, arguments, capsys):
    settings = {"learning_rate": 1e30, "train_batch_size": 10_000, "eval_step": 10, "epochs": 10, "run_dir": "run"}
    assert main(["run", *arguments("BPR", tiny, **settings, result_file="result.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "The training loss of BPR became nan in epoch 1" in line
    assert "learning_rate (now 1e+30)" in line
    assert "The epochs before are kept in run." in line
    assert load_checkpoint(Path("run/last.pth"))["epoch"] == 0
    assert not Path("result.json").exists()


def test_the_real_command_refuses_in_one_line_or_ends_in_a_table(start, arguments, tiny, read_json):
    mistaken = start(arguments("SASRek", tiny))
    proper = start(arguments("SASRecBCE", tiny, hidden_size=16, result_file="result.json"))

    out, err = mistaken.communicate(timeout=120)
    assert mistaken.returncode == 2
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("recbole-cdsr: ")

    out, err = proper.communicate(timeout=300)
    assert proper.returncode == 0, err
    assert "Traceback" not in err
    assert "Warning" not in err, err
    assert "test, candidates: full" in out + err
    assert read_json("result.json")["command"].startswith("run_recbole_cdsr.py --model=SASRecBCE")


def test_an_interrupt_ends_in_one_line_and_leaves_a_run_to_resume(start, arguments, tiny, run):
    process = start(arguments("BPR", tiny, epochs=100_000, stopping_step=100_000, run_dir="run"))
    deadline = time.monotonic() + 120
    while not Path("run/last.pth").is_file():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert re.fullmatch("recbole-cdsr: interrupted;.*--resume.*", err.splitlines()[-1])

    reached = load_checkpoint(Path("run/last.pth"))["epoch"]
    resumed = run("BPR", tiny, epochs=reached + 2, stopping_step=100_000, run_dir="run", resume=True)
    assert resumed["epochs"] == reached + 2


def test_another_run_that_makes_the_same_folders_at_once_is_no_obstacle(tiny, run, monkeypatch):
    makedirs = os.makedirs

    def lost_the_race(path, mode=0o777, exist_ok=False):
        if not exist_ok:  # as it ends when somebody made the folder after RecBole looked for it
            raise FileExistsError(17, "File exists", str(path))
        makedirs(path, mode, exist_ok)

    monkeypatch.setattr(os, "makedirs", lost_the_race)
    assert run("BPR", tiny, epochs=1)["test"]["overall"]["count"] > 0
