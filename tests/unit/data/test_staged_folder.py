from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from recbole_cdsr.data.staged_folder import check_replaceable, staged_directory
from recbole_cdsr.errors import DataError


class TestStagedDirectory:
    def test_appears_complete(self, tmp_path: Path) -> None:
        target = tmp_path / "deep" / "mini"
        with staged_directory(target) as folder:
            (folder / "mini.inter").write_text("new")
            assert not target.exists()
        assert (target / "mini.inter").read_text() == "new"
        assert os.listdir(target.parent) == ["mini"]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    @pytest.mark.parametrize("existing", [False, True])
    def test_an_exception_leaves_everything_as_it_was(
        self, tmp_path: Path, error: type[BaseException], existing: bool
    ) -> None:
        target = tmp_path / "mini"
        if existing:
            (target / "features").mkdir(parents=True)
            (target / "mini.inter").write_text("old")

        def interrupted() -> None:
            with staged_directory(target) as folder:
                (folder / "mini.inter").write_text("half")
                raise error

        with pytest.raises(error):
            interrupted()
        assert os.listdir(tmp_path) == (["mini"] if existing else [])
        if existing:
            assert (target / "mini.inter").read_text() == "old"
            assert (target / "features").is_dir()

    def test_replaces_but_keeps_features(self, tmp_path: Path) -> None:
        target = tmp_path / "mini"
        (target / "features").mkdir(parents=True)
        (target / "features" / "text.safetensors").write_text("vectors")
        (target / "mini.train.inter").write_text("old")
        with staged_directory(target) as folder:
            (folder / "mini.inter").write_text("new")
        assert sorted(os.listdir(target)) == ["features", "mini.inter"]
        assert (target / "features" / "text.safetensors").read_text() == "vectors"
        assert os.listdir(tmp_path) == ["mini"]

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_a_failing_move_puts_the_old_dataset_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
    ) -> None:
        target = tmp_path / "mini"
        (target / "features").mkdir(parents=True)
        (target / "mini.inter").write_text("old")
        rename = os.rename

        def failing(source: os.PathLike[str], destination: os.PathLike[str]) -> None:
            if ".part-" in str(source) and destination == target:
                raise error
            rename(source, destination)

        monkeypatch.setattr(os, "rename", failing)
        expected = DataError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(expected), staged_directory(target) as folder:
            (folder / "mini.inter").write_text("new")
        assert (target / "mini.inter").read_text() == "old"
        assert (target / "features").is_dir()
        assert os.listdir(tmp_path) == ["mini"]

    def test_does_not_delete_what_is_no_dataset(self, tmp_path: Path) -> None:
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "thesis.tex").write_text("years of work")
        with pytest.raises(DataError, match=r"holds 'thesis\.tex'"), staged_directory(tmp_path / "docs"):
            pytest.fail("must not get as far")
        assert (tmp_path / "docs" / "thesis.tex").read_text() == "years of work"
        (tmp_path / "file").write_text("x")
        with pytest.raises(DataError, match="is a file"), staged_directory(tmp_path / "file"):
            pytest.fail("must not get as far")

    @pytest.mark.parametrize(
        "name",
        ["mini.user", "mini.notes.md", "mini.inter.bak", "mini.inter.notes.part", "mini.recbole.inter", "minixinter"],
    )
    def test_does_not_delete_files_that_users_put_beside_a_dataset(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "mini").mkdir()
        (tmp_path / "mini" / name).write_text("mine")
        with pytest.raises(DataError, match=rf"holds '{re.escape(name)}'"), staged_directory(tmp_path / "mini"):
            pytest.fail("must not get as far")
        with pytest.raises(DataError, match=rf"holds '{re.escape(name)}'"):
            check_replaceable(tmp_path / "mini")
        assert (tmp_path / "mini" / name).read_text() == "mine"

    def test_replaces_all_that_is_made_of_raw_files_and_features(self, tmp_path: Path) -> None:
        made = ["inter", "train.inter", "recbole.valid.inter", "recbole.yaml", "item", "card.yaml", "itememb"]
        (tmp_path / "mini").mkdir()
        for suffix in [*made, "useremb", "inter.part", "card.yaml.ab_cd012.part"]:
            (tmp_path / "mini" / f"mini.{suffix}").write_text("old")
        check_replaceable(tmp_path / "mini")
        with staged_directory(tmp_path / "mini") as folder:
            (folder / "mini.inter").write_text("new")
        assert os.listdir(tmp_path / "mini") == ["mini.inter"]

    def test_what_cannot_be_written_is_told_beforehand_and_nothing_is_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        check_replaceable(tmp_path / "deep" / "mini")
        (tmp_path / "file").write_text("x")
        with pytest.raises(DataError, match=r"cannot be written \(.*file is a file\); choose another --out"):
            check_replaceable(tmp_path / "file" / "mini")
        monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)  # root may write everywhere
        with pytest.raises(DataError, match=rf"cannot be written \(nothing may be written into {tmp_path}\); choose"):
            check_replaceable(tmp_path / "deep" / "mini")
        assert os.listdir(tmp_path) == ["file"]

    def test_the_lock_of_a_killed_process_is_no_work_of_somebody(self, tmp_path: Path) -> None:
        """A process that is killed while it notes features in the card leaves the lock's file."""
        target = tmp_path / "mini"
        target.mkdir()
        script = f"""
import os, signal
from pathlib import Path
from recbole_cdsr.data.card import DatasetCard
from recbole_cdsr.data import card_features
folder, card = Path({str(target)!r}), DatasetCard("mini")
card.save(folder)
card_features.replacing = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
made = {{"made_by": "x", "encoder": {{"name": "y"}}}}
card_features.note_features(folder, "mini", card, "items", made)
"""
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
        assert sorted(path.name for path in target.iterdir()) == [".mini.card.yaml.lock", "mini.card.yaml"]
        with staged_directory(target) as folder:
            (folder / "mini.inter").write_text("new")
        assert [path.name for path in target.iterdir()] == ["mini.inter"]
        (target / ".other.card.yaml.lock").write_text("")
        with pytest.raises(DataError, match=r"holds '\.other\.card"), staged_directory(target):
            pytest.fail("must not get as far")

    def test_a_linked_folder_stays_linked(self, tmp_path: Path) -> None:
        (tmp_path / "disk" / "mini").mkdir(parents=True)
        (tmp_path / "mini").symlink_to(tmp_path / "disk" / "mini")
        with staged_directory(tmp_path / "mini") as folder:
            (folder / "mini.inter").write_text("new")
        assert (tmp_path / "mini").is_symlink()
        assert (tmp_path / "disk" / "mini" / "mini.inter").read_text() == "new"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """Nobody holds the lock of `mini.part-77`; `mini.part-1` is a dataset, `mini.part-2` somebody's work."""
    for name, file in (("mini.part-77", "mini.inter.part"), ("mini.part-1", "mini.part-1.inter"), ("mini.part-2", "x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("x")
    (tmp_path / f"mini.part-{os.getpid()}").mkdir()  # the killed one had our number, as in a container
    held = os.open(tmp_path / "mini.part-2", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with staged_directory(tmp_path / "mini") as folder, staged_directory(tmp_path / "mini") as other:
        (folder / "mini.item").write_text("first")
        (other / "mini.item").write_text("second")
    os.close(held)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mini", "mini.part-1", "mini.part-2"]
    assert (tmp_path / "mini" / "mini.item").read_text() == "first"
    with staged_directory(tmp_path / "mini"):
        assert sorted(path.name for path in tmp_path.glob("*.part-*"))[0] == "mini.part-1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mini", "mini.part-1"]


# Replaces a dataset, and is killed before it renames for the n-th time.
KILLED_AT_A_RENAME = """
import os, signal, sys
from pathlib import Path
from recbole_cdsr.data.staged_folder import staged_directory
left = int(sys.argv[2])
def kill_at_the_rename(event, arguments):
    global left
    if event == "os.rename":
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
sys.addaudithook(kill_at_the_rename)
with staged_directory(Path(sys.argv[1])) as folder:
    (folder / "mini.inter").write_text("new")
"""


def killed_at_a_rename(target: Path, number: int) -> bool:
    """Replace `target` in a process that is killed before it renames for the `number`th time, if ever it does."""
    code = subprocess.run([sys.executable, "-c", KILLED_AT_A_RENAME, target, str(number)], check=False).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize("number", [1, 2])
def test_a_dataset_moved_away_by_a_killed_process_is_put_back_before_it_is_replaced(
    tmp_path: Path, number: int
) -> None:
    target = tmp_path / "mini"
    (target / "features").mkdir(parents=True)
    (target / "features" / "text.safetensors").write_text("vectors")
    (target / "mini.inter").write_text("old")
    assert killed_at_a_rename(target, number)
    assert not target.exists()  # and so nobody makes its features anew meanwhile

    def refused() -> None:
        with staged_directory(target):
            assert (target / "mini.inter").read_text() == "old"
            raise ValueError

    with pytest.raises(ValueError):
        refused()
    assert (target / "mini.inter").read_text() == "old"
    assert (target / "features" / "text.safetensors").read_text() == "vectors"
    assert os.listdir(tmp_path) == ["mini"]


def test_a_dataset_in_its_place_has_its_features_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    target, number = tmp_path / "mini", 0
    (target / "features").mkdir(parents=True)
    while killed_at_a_rename(target, number):
        assert not target.exists() or (target / "features").is_dir()
        with suppress(ValueError), staged_directory(target):
            raise ValueError  # what was left is put in order before anything is replaced
        assert os.listdir(target) == ["features"]
        number += 1
    assert number == 3
    assert sorted(os.listdir(target)) == ["features", "mini.inter"]


def test_features_that_cannot_be_handed_back_come_with_the_next_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "mini", os.rename
    (target / "features").mkdir(parents=True)

    def failing(source: Path, destination: Path) -> None:
        if ".part-" in str(source):
            raise OSError(5, "Input/output error")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(DataError), staged_directory(target):
        pass
    assert target.is_dir()
    monkeypatch.undo()
    with staged_directory(target) as folder:
        (folder / "mini.inter").write_text("new")
    assert sorted(os.listdir(target)) == ["features", "mini.inter"]
    assert os.listdir(tmp_path) == ["mini"]


def test_features_of_a_replaced_dataset_are_not_lost_with_it(tmp_path: Path) -> None:
    """Killed by an earlier release after the new dataset was in its place, before the features had moved over."""
    for name, content in (("mini", "new"), ("mini.replaced-77", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mini.inter").write_text(content)
    (tmp_path / "mini.replaced-77" / "features").mkdir()
    with staged_directory(tmp_path / "mini") as folder:
        (folder / "mini.inter").write_text("newer")
    assert sorted(os.listdir(tmp_path / "mini")) == ["features", "mini.inter"]
    assert (tmp_path / "mini" / "mini.inter").read_text() == "newer"
    assert os.listdir(tmp_path) == ["mini"]
