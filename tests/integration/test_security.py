"""Files and texts from strangers run nothing. Each payload is first shown to run where nothing stops it."""

from __future__ import annotations

import os
import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import recbole_cdsr
from recbole_cdsr.cli import main
from recbole_cdsr.errors import CheckpointError
from recbole_cdsr.interop import load_official_file
from recbole_cdsr.trainer.checkpoint import load_checkpoint

MARKER = "payload-ran"


class Payload:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.path.abspath(MARKER),)


def ran() -> bool:
    return Path(MARKER).exists()


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"format": 1, "state_dict": {}, "config": Payload()}))


def write_torch(path: Path) -> None:
    torch.save({"format": 1, "state_dict": {"weight": torch.zeros(1)}, "config": Payload()}, path)


def write_torch_legacy(path: Path) -> None:
    torch.save({"format": 1, "config": Payload()}, path, _use_new_zipfile_serialization=False)


WRITERS = [write_pickle, write_torch, write_torch_legacy]


def one_line(capsys) -> str:
    """The one line that a refused command leaves on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("recbole-cdsr: ")
    return lines[0]


@pytest.mark.parametrize("write", WRITERS)
def test_the_payload_works_where_nothing_stops_it(write):
    write(Path("file.pth"))
    with suppress(RuntimeError):  # after the plain pickle has run, PyTorch misses its magic number
        torch.load("file.pth", weights_only=False)
    assert ran()


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", ["last.pth", "best.pth", "best_books.pth"])
def test_a_malicious_checkpoint_of_a_run_is_refused(tiny, run, arguments, capsys, write, name):
    settings = {"epochs": 1, "run_dir": "run", "select": "per_domain" if name == "best_books.pth" else "overall"}
    run("BPR", tiny, **settings)
    assert (Path("run") / name).is_file()
    write(Path("run") / name)
    capsys.readouterr()
    assert main(["run", *arguments("BPR", tiny, **settings), "--resume"]) == 2
    assert name in one_line(capsys)
    assert not ran()


@pytest.mark.parametrize("write", WRITERS)
def test_a_malicious_official_checkpoint_is_refused(write):
    write(Path("official.pth"))
    with pytest.raises(CheckpointError, match=r"official\.pth"):
        load_official_file("official.pth")
    with pytest.raises(CheckpointError, match="was not read"):
        load_checkpoint(Path("official.pth"))
    assert not ran()


def test_a_checkpoint_sets_nothing_that_the_model_does_not_keep(tiny, run, arguments, capsys):
    """`load_other_parameter` sets whatever attribute a file names."""
    run("Pop", tiny, run_dir="run")
    state = load_checkpoint(Path("run/best.pth"))
    state["other_parameter"] |= {"full_sort_predict": torch.zeros(3), "device": "elsewhere"}
    torch.save(state, "run/best.pth")
    assert main(["run", *arguments("Pop", tiny, run_dir="run"), "--resume"]) == 0


@pytest.mark.parametrize("change", ["no state_dict", "another shape", "no optimizers", "numbers for states"])
def test_a_checkpoint_that_is_plain_but_wrong_gets_one_line(tiny, run, arguments, capsys, change):
    run("BPR", tiny, run_dir="run")
    state = load_checkpoint(Path("run/last.pth"))
    if change == "no state_dict":
        del state["state_dict"]
    elif change == "another shape":
        state["state_dict"] = {name: value[:1] for name, value in state["state_dict"].items()}
    elif change == "no optimizers":
        del state["optimizers"]
    else:
        state["random"] = {"python": 1, "numpy": 2, "torch": 3, "cuda": 4}
    torch.save(state, "run/last.pth")
    capsys.readouterr()
    assert main(["run", *arguments("BPR", tiny, run_dir="run"), "--resume"]) == 2
    assert "last.pth" in one_line(capsys)


EXPRESSION = f"__import__('os').mkdir({MARKER!r})"


def test_expressions_work_where_they_are_evaluated():
    eval(EXPRESSION)
    assert ran()


@pytest.mark.parametrize("key", ["epochs", "learning_rate", "metrics", "topk", "valid_metric", "eval_args", "select"])
def test_an_expression_as_a_setting_is_a_mistake_and_nothing_else(tiny, arguments, capsys, key):
    values = {key: EXPRESSION}
    assert main(["run", *arguments("BPR", tiny, **values)]) == 2
    assert key in one_line(capsys)

    Path("hostile.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    without = [argument for argument in arguments("BPR", tiny) if not argument.startswith(f"--{key}=")]
    assert main(["run", *without, "--config_files=hostile.yaml"]) == 2
    assert key in one_line(capsys)
    assert not ran()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir"])
def test_python_objects_in_yaml_are_refused(tiny, arguments, capsys, tag):
    Path("hostile.yaml").write_text(f"seed: 1\nepochs: {tag} [{MARKER}]\n", encoding="utf-8")
    assert main(["run", *arguments("BPR", tiny), "--config_files=hostile.yaml"]) == 2
    assert "hostile.yaml, line 2" in one_line(capsys)
    assert not ran()


def test_an_expression_under_an_unknown_key_stays_a_text(tiny, run):
    result = run("BPR", tiny, epochs=1, remark=EXPRESSION)
    assert result["config"]["remark"] == EXPRESSION
    assert not ran()


@pytest.mark.parametrize("name", ["item_set_A.pkl", "text_B.pkl"])
def test_a_malicious_release_runs_nothing(tmp_path, capsys, name):
    release = tmp_path / "release"
    release.mkdir()
    texts = {"num.txt": "2\n2\n", "train_A.txt": "1\t0,1\n", "train_B.txt": "1\t2,3\n"}
    texts |= {"train_overlap.txt": "1\t0,2,1\n", "valid.txt": "1\t0,2,1\n", "test.txt": "1\t0,2,3\n"}
    for file, text in texts.items():
        (release / file).write_text(text, encoding="utf-8")
    for domain in "AB":
        items = {f"{domain}{index}": index for index in range(2)}
        (release / f"item_set_{domain}.pkl").write_bytes(pickle.dumps(items))
        (release / f"text_{domain}.pkl").write_bytes(pickle.dumps({item: f"Item {item}" for item in items}))
    command = ["convert", "llmcdsr", "--raw", str(release), "--domains", "food,kitchen", "--out", "data"]
    assert main([*command, "--name", "proper"]) == 0
    capsys.readouterr()

    (release / name).write_bytes(pickle.dumps({"A0": Payload()}))
    assert main([*command, "--name", "hostile"]) == 2
    assert name in one_line(capsys)
    assert not ran()
    assert [path.name for path in Path("data").iterdir()] == ["proper"]


def plant(dataset: str, *models: str) -> None:
    """Pickles where RecBole looks for saved datasets and loaders."""
    Path("saved").mkdir(exist_ok=True)
    classes = ["SequentialDataset", "Dataset", "CrossDomainSequentialDataset", "CrossDomainGeneralDataset"]
    for name in (*classes, *(f"{model}Dataset" for model in models)):
        Path(f"saved/{dataset}-{name}.pth").write_bytes(pickle.dumps(Payload()))
    for model in models:
        Path(f"saved/{dataset}-for-{model}-dataloader.pth").write_bytes(pickle.dumps(Payload()))


def test_recbole_alone_reads_a_planted_dataset(tiny):
    from recbole.config import Config
    from recbole.data import create_dataset

    plant(tiny.name, "SASRec")
    config = Config("SASRec", tiny.name, config_dict=tiny.settings | {"train_neg_sample_args": None})
    with pytest.raises(AttributeError):  # what comes out of the payload is no dataset
        create_dataset(config)
    assert ran()


@pytest.mark.parametrize("model", ["SASRec", "BPR", "LLM4CDSR"])
def test_planted_pickles_are_not_read(tiny, run, small, item_features, model):
    plant(tiny.name, model)
    settings = small | {"item_features_file": str(item_features(tiny))} if model == "LLM4CDSR" else {}
    assert run(model, tiny, **settings, epochs=1)["epochs"] == 1
    assert not ran()


def test_planted_pickles_are_not_read_through_recboles_own_entry_point(tiny, small, item_features):
    from recbole.quick_start import run_recbole

    recbole_cdsr.register()
    plant(tiny.name, "LLM4CDSR")
    settings = tiny.settings | small | {"item_features_file": str(item_features(tiny)), "epochs": 1}
    assert run_recbole(model="LLM4CDSR", dataset=tiny.name, config_dict=settings)["test_result"]
    assert not ran()


def test_pickled_item_features_are_refused(tiny, arguments, capsys, small):
    np.save("items.npy", np.array([Payload()] * 40, dtype=object), allow_pickle=True)
    settings = small | {"item_features_file": str(Path("items.npy").absolute())}
    assert main(["run", *arguments("LLM4CDSR", tiny, **settings)]) == 2
    assert "items.npy" in one_line(capsys)
    assert not ran()
