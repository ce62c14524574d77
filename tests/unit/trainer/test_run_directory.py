"""Directories of runs on the real configuration; resuming is tested in `tests/integration/test_resume.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from recbole_cdsr import locks
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.errors import CheckpointError, ConfigError
from recbole_cdsr.trainer import run_directory
from recbole_cdsr.trainer.run_directory import RunDirectory


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def config(**settings: Any) -> CDSRConfig:
        return CDSRConfig("BPR", "any", config_dict=settings, command_line=[])

    return config


def test_nothing_is_written_before_a_run_opens(config):
    run = RunDirectory(config())
    assert run.path is None
    assert not run.resumed
    assert not list(Path().iterdir())
    with pytest.raises(CheckpointError, match="Nothing has been trained"):
        _ = run.last
    folder = run.open()
    assert folder.parent == Path("saved")
    assert run.open() == folder
    assert not list(folder.iterdir())
    with run.alone():
        assert yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["model"] == "BPR"


def test_a_directory_that_another_process_has_used_meanwhile_is_left_alone(config):
    run = RunDirectory(config(run_dir="run"))
    run.open()
    (Path("run") / "last.pth").write_bytes(b"")
    with pytest.raises(ConfigError, match="Another process has begun a run in run meanwhile"), run.alone():
        pass
    assert [path.name for path in Path("run").iterdir()] == ["last.pth"]


def test_runs_that_start_together_get_directories_of_their_own(config):
    runs = [RunDirectory(config()) for _ in range(3)]
    folders = [run.open() for run in runs]
    assert len(set(folders)) == 3
    assert folders[1].name == f"{folders[0].name}-2"


def test_a_name_that_is_the_beginning_of_another_is_not_mixed_up(config):
    seven = RunDirectory(config(seed=7)).open()
    Path(f"{seven}-x").mkdir()
    Path(f"{seven}-12").mkdir()
    assert RunDirectory(config(seed=7)).open().name == f"{seven.name}-13"
    assert RunDirectory(config(seed=77)).open().name.startswith("BPR-any-77-")


def test_only_a_directory_with_a_checkpoint_is_resumed(config):
    first, second = RunDirectory(config()).open(), RunDirectory(config()).open()
    (first / "last.pth").touch()
    run = RunDirectory(config(resume=True))
    assert run.resumed
    assert run.path == first
    (second / "last.pth").touch()
    assert RunDirectory(config(resume=True)).path == second
    assert RunDirectory(config(resume=True, learning_rate=0.5)).path is None


@pytest.mark.parametrize("files", [(), ("best.pth", "best_books.pth"), ("best.pth", "last.pth.part")])
def test_a_run_that_was_ended_before_its_first_epoch_starts_anew_in_its_directory(config, caplog, files):
    runs = [RunDirectory(config()) for _ in range(3)]
    claimed, begun, finished = [run.open() for run in runs]  # of the first, another process has only made the directory
    for run in runs[1:]:
        with run.alone():
            pass
    (finished / "result.json").touch()  # by a run that kept no checkpoints
    for name in files:
        (begun / name).touch()
    again = RunDirectory(config(resume=True))
    assert not again.resumed
    assert again.open() == begun
    assert f"the run in {begun} was ended before its first epoch was kept" in caplog.text
    with again.alone():
        assert RunDirectory(config(resume=True)).path is None
        with pytest.raises(ConfigError, match="Another process is training"), again.alone():
            pass
    (claimed / "last.pth").touch()
    assert RunDirectory(config(resume=True)).path == claimed


def test_where_nobody_knows_who_is_at_work_a_run_without_an_epoch_is_left_alone(config, monkeypatch):
    def no_locks(folder: Path) -> int:
        raise OSError("folders cannot be locked on this system")

    for module in (locks, run_directory):
        monkeypatch.setattr(module, "hold", no_locks)
    run = RunDirectory(config())
    run.open()
    with run.alone():
        assert RunDirectory(config(resume=True)).path is None


def test_what_does_not_change_training_does_not_change_the_directory(config):
    run = RunDirectory(config()).open()
    (run / "last.pth").touch()
    same = config(resume=True, epochs=999, result_file="x.json", show_progress=False, eval_batch_size=3)
    assert RunDirectory(same).path == run


def test_a_named_directory_with_a_run_needs_resume(config):
    RunDirectory(config(run_dir="deep/run")).open()
    Path("deep/run/last.pth").touch()
    with pytest.raises(ConfigError, match="holds a run already"):
        RunDirectory(config(run_dir="deep/run"))
    assert RunDirectory(config(run_dir="deep/run", resume=True)).resumed


def test_only_keys_that_matter_to_training_are_named(config):
    saved = config(learning_rate=0.5, epochs=3)
    run = RunDirectory(config(run_dir="run", epochs=9))
    run.open()
    with pytest.raises(CheckpointError, match=r"otherwise \(learning_rate is 0\.001, was 0\.5\);"):
        run.check_same_run({"fingerprint": saved.fingerprint(), "config": saved.plain()})
    run.check_same_run({"fingerprint": config(epochs=1).fingerprint(), "config": {}})
