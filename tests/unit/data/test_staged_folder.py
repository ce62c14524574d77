from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_cdsr.data.staged_folder import staged_directory
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
            if ".part-" in str(source):
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


def killed_between_the_renames(target: Path) -> None:
    """Replace `target` in a process that is killed when the old dataset is out of the way and the new one not there."""
    script = f"""
import os, signal
from pathlib import Path
from recbole_cdsr.data.staged_folder import staged_directory
rename, calls = os.rename, []
def once(source, destination):
    if calls:
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(source)
    rename(source, destination)
os.rename = once
with staged_directory(Path({str(target)!r})) as folder:
    (folder / "mini.inter").write_text("new")
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL


def test_a_dataset_moved_away_by_a_killed_process_is_put_back_before_it_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "mini"
    (target / "features").mkdir(parents=True)
    (target / "features" / "text.safetensors").write_text("vectors")
    (target / "mini.inter").write_text("old")
    killed_between_the_renames(target)
    assert not target.exists()

    def refused() -> None:
        with staged_directory(target):
            assert (target / "mini.inter").read_text() == "old"
            raise ValueError

    with pytest.raises(ValueError):
        refused()
    assert (target / "mini.inter").read_text() == "old"
    assert (target / "features" / "text.safetensors").read_text() == "vectors"
    assert os.listdir(tmp_path) == ["mini"]


def test_features_of_a_replaced_dataset_are_not_lost_with_it(tmp_path: Path) -> None:
    """Killed after the new dataset was in its place, before the features had moved over."""
    for name, content in (("mini", "new"), ("mini.replaced-77", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mini.inter").write_text(content)
    (tmp_path / "mini.replaced-77" / "features").mkdir()
    with staged_directory(tmp_path / "mini") as folder:
        (folder / "mini.inter").write_text("newer")
    assert sorted(os.listdir(tmp_path / "mini")) == ["features", "mini.inter"]
    assert (tmp_path / "mini" / "mini.inter").read_text() == "newer"
    assert os.listdir(tmp_path) == ["mini"]
