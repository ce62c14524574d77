"""What a wheel holds and states, that the pinned versions are complete, that every key is described."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import recbole_cdsr

ROOT = Path(__file__).resolve().parents[2]
WHEEL_OPTIONS = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """Files under version control, relative to the checkout."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    files = run("git", "ls-files", "-z", folder=ROOT).split("\0")
    return [name for name in files if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def checkout(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout without anything that git does not know, so that no earlier build is found."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", *WHEEL_OPTIONS, "-w", folder, ".", folder=checkout)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


def test_the_wheel_holds_the_package_its_settings_and_its_prompts(wheel, tracked):
    expected = {name for name in tracked if re.fullmatch(r"recbole_cdsr/.*\.py", name)}
    expected |= {"recbole_cdsr/py.typed"}
    expected |= {name for name in tracked if name.startswith("recbole_cdsr/llm/prompt_files/")}
    expected |= {name for name in tracked if name.startswith("recbole_cdsr/benchmark/report/page_files/")}
    expected |= {f"recbole_cdsr/{name}" for name in tracked if name.startswith("props/")}
    assert "recbole_cdsr/props/overall.yaml" in expected
    assert "recbole_cdsr/props/model/LLM4CDSR.yaml" in expected
    assert any(name.startswith("recbole_cdsr/llm/prompt_files/") for name in expected)
    assert "recbole_cdsr/benchmark/report/page_files/page.html" in expected
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert found == expected  # and so neither tests nor data
        for name in sorted(found):
            source = ROOT / (name.removeprefix("recbole_cdsr/") if name.startswith("recbole_cdsr/props/") else name)
            assert archive.read(name) == source.read_bytes(), name
        assert any(name.endswith("/LICENSE") for name in archive.namelist())


def test_the_wheel_states_name_version_and_command(wheel, metadata):
    assert wheel.name == f"recbole_cdsr-{recbole_cdsr.__version__}-py3-none-any.whl"
    assert metadata["Name"] == "recbole-cdsr"
    assert metadata["Version"] == recbole_cdsr.__version__
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
    assert metadata["License"] == "MIT"
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert archive.read(name).decode().splitlines()[1] == "recbole-cdsr = recbole_cdsr.cli:main"


def test_recbole_is_asked_for_only_where_pip_can_install_all_it_asks_for(metadata):
    required = {
        requirement.name: requirement
        for requirement in map(Requirement, metadata.get_all("Requires-Dist"))
        if requirement.marker is None or not re.search(r"\bextra\b", str(requirement.marker))
    }
    recbole = required.pop("recbole")
    assert str(recbole.specifier) == "==1.2.1"
    assert recbole.marker.evaluate({"python_version": "3.11"})
    assert not recbole.marker.evaluate({"python_version": "3.12"})
    assert not recbole.marker.evaluate({"python_version": "3.13"})
    assert all(requirement.marker is None for requirement in required.values())
    assert "ray" not in required
    # Without its own requirements RecBole must still find what it imports.
    needs = {canonicalize_name(Requirement(line).name) for line in importlib.metadata.requires("recbole")}
    assert needs - set(map(canonicalize_name, required)) == {"ray", "hyperopt"}


def test_a_source_archive_builds_the_same_wheel(checkout, wheel, tmp_path):
    build = "import sys, setuptools.build_meta as backend; backend.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, tmp_path, folder=checkout)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        files = {name.partition("/")[2] for name in opened.getnames()}
    assert {"setup.py", "pyproject.toml", "requirements.txt", "requirements-test.txt", "LICENSE"} <= files
    run(sys.executable, "-m", "pip", "wheel", *WHEEL_OPTIONS, "-w", tmp_path / "again", archive, folder=tmp_path)
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(tmp_path / "again" / wheel.name) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())


def test_an_installed_wheel_finds_its_settings(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = (
        "import sys; sys.argv = ['test']\n"
        "import recbole_cdsr\n"
        "from recbole_cdsr.config import CDSRConfig\n"
        "from recbole_cdsr.config_names import props_file\n"
        "print(recbole_cdsr.__file__, props_file('model', 'LLM4CDSR'), sep='\\n')\n"
        "config = CDSRConfig('LLM4CDSR', 'douban', command_line=[])\n"
        "print(config['ties'], config['tau_reg'])\n"
    )
    lines = run(sys.executable, "-c", program, folder=tmp_path, PYTHONPATH=str(tmp_path / "site")).splitlines()
    package = tmp_path / "site" / "recbole_cdsr"
    assert lines[0] == str(package / "__init__.py")
    assert lines[1] == str(package / "props" / "model" / "LLM4CDSR.yaml")
    assert lines[2] == "half 1.0"


# -- pinned versions --------------------------------------------------------------------------------------------


def lines_of(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins() -> dict[str, Version]:
    found = {}
    for pin in lines_of("constraints.txt"):
        (specifier,) = pin.specifier
        assert specifier.operator == "==", pin
        found[canonicalize_name(pin.name)] = Version(specifier.version)
    return found


def test_pins_meet_what_is_required_and_carry_no_build_label():
    pinned = pins()
    assert all(version.local is None for version in pinned.values())
    assert pinned["recbole"] == Version("1.2.1")
    for requirement in [*lines_of("requirements.txt"), *lines_of("requirements-test.txt")]:
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_everything_that_is_pulled_in_is_pinned():
    # The CUDA libraries of a PyTorch build are fixed by that build itself.
    fixed_by_torch = re.compile(r"(nvidia|cuda)-.*|triton")
    pending = [*lines_of("requirements.txt"), *lines_of("requirements-test.txt"), Requirement("setuptools")]
    seen: set[str] = set()
    while pending:
        name = canonicalize_name(pending.pop().name)
        if name in seen or fixed_by_torch.fullmatch(name):
            continue
        seen.add(name)
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        wanted = map(Requirement, lines)
        pending += [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    assert seen - set(pins()) == set()


# -- Makefile ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_installs_recbole_without_its_requirements_and_runs_the_sample(tmp_path):
    # Nothing of a make that runs the tests may reach this one.
    environment = {"MAKEFLAGS": "", "MAKELEVEL": "", "MODEL": "Other"}
    settings = [f"PYTHON={sys.executable}", f"VENV={tmp_path / 'venv'}", "ARGS=--epochs=2"]
    steps = run("make", "--no-print-directory", "--dry-run", "run", *settings, folder=ROOT, **environment).splitlines()
    installs = [step for step in steps if " pip install " in step]
    assert all("-c constraints.txt" in step for step in installs)
    for step in installs:
        assert ("--no-deps" in step) == (step.endswith((" recbole", " -e ."))), step
    assert any(step.endswith("--no-deps recbole") for step in installs)
    assert steps[-1].endswith("run_recbole_cdsr.py --model=LLM4CDSR --dataset=douban --epochs=2")


# -- documentation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "settings"),
    [
        ("Keys of all models", "overall"),
        ("LLM4CDSR", "model/LLM4CDSR"),
        ("LLMCDSR", "model/LLMCDSR"),
        ("LeCDSR", "model/LeCDSR"),
        ("SASRecBCE", "model/SASRecBCE"),
    ],
)
def test_every_key_is_described_with_its_default(heading, settings):
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    (section,) = (part for part in text.split("\n## ") if part.startswith(f"{heading} (`props/{settings}.yaml`)"))
    described = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \| .+ \|$", section, re.MULTILINE))
    defaults = yaml.safe_load((ROOT / "props" / f"{settings}.yaml").read_text(encoding="utf-8"))
    assert {key: yaml.safe_load(value) for key, value in described.items()} == defaults
