"""What importing the package does to RecBole, to its missing packages and to the process: fresh interpreters."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_python(program: str, *paths: Path) -> list[str]:
    """Lines printed by a fresh interpreter, with `paths` before everything else on its search path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*paths, ROOT]))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_stubs_do_not_linger():
    lines = run_python(
        """
        import importlib.util, sys
        import recbole_cdsr
        import recbole
        from recbole_cdsr import compat
        print(importlib.util.find_spec("ray"))
        print(sorted(name for name in sys.modules if name.split(".")[0] == "ray"))
        # A module made by hand has no specification.
        print([name for name in sys.modules
               if name.split(".")[0] == "distutils" and sys.modules[name].__spec__ is None])
        print(compat.mend() == compat.mend())
        """
    )
    if importlib.util.find_spec("ray") is None:
        assert lines[0] == "None"
    assert lines[1:] == ["[]", "[]", "True"]


def test_without_distutils_and_beside_a_broken_ray(tmp_path):
    """As on Python 3.12 without setuptools, with the ray that RecBole asks for, which fails when it is imported."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("import pkg_resources_that_are_gone\n", encoding="utf-8")
    lines = run_python(
        """
        import importlib.util, sys

        class Without:
            def __init__(self, finder):
                self.finder = finder
            def __getattr__(self, name):
                return getattr(self.finder, name)
            def find_spec(self, name, path=None, target=None):
                return None if name.split(".")[0] == "distutils" else self.finder.find_spec(name, path, target)

        sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
        for name in [name for name in sys.modules if name.split(".")[0] == "distutils"]:
            del sys.modules[name]

        import recbole_cdsr
        from recbole_cdsr import compat
        from recbole.utils import get_flops
        import recbole.quick_start, thop
        print(sorted({line.split(":")[0] for line in compat.mend()} & {"ray", "distutils"}))
        print(sorted(name for name in sys.modules if name.split(".")[0] in ("ray", "distutils")))
        print(importlib.util.find_spec("ray").origin)
        """,
        tmp_path,
    )
    assert lines == ["['distutils', 'ray']", "[]", str(tmp_path / "ray" / "__init__.py")]


def test_importing_leaves_the_log_as_it_was():
    program = "import logging, recbole_cdsr, recbole; log = logging.getLogger(); print(log.handlers, log.level)"
    assert run_python(program) == [f"[] {logging.WARNING}"]


# -- when -------------------------------------------------------------------------------------------------------

HEAVY = "sorted({'recbole', 'sklearn', 'thop', 'torch'} & set(sys.modules))"


def test_recbole_is_not_loaded_before_it_is_needed():
    lines = run_python(
        f"""
        import sys
        import recbole_cdsr
        from recbole_cdsr.cli import main
        try:
            main(["convert", "llmcdsr", "--help"])
        except SystemExit:
            print({HEAVY})
        """
    )
    assert lines[-1] == "[]"


@pytest.mark.parametrize(
    "program",
    [
        "import recbole_cdsr; from recbole.evaluator.metrics import NDCG",
        "import recbole_cdsr; import recbole",
        "import recbole_cdsr; import recbole; import importlib; importlib.reload(recbole)",
        "import recbole; import recbole_cdsr",
        "import recbole_cdsr.config",
    ],
)
def test_recbole_is_mended_whichever_way_it_is_imported(program):
    lines = run_python(
        f"""
        {program}
        import sys, numpy, recbole
        from recbole_cdsr import compat
        fill_nan = sys.modules["recbole.data.dataset.dataset"].Dataset._fill_nan
        print(numpy.float_ is numpy.float64, len(compat.mend()) > 1)
        # Once: a mend put over a mend would wrap the wrapper.
        print(hasattr(getattr(fill_nan, "__wrapped__", fill_nan), "__wrapped__"))
        """
    )
    assert lines == ["True True", "False"]


@pytest.mark.parametrize(
    ("program", "detecting"),
    [
        ("import recbole_cdsr", False),
        ("import recbole; import recbole_cdsr", False),
        ("import recbole.model.sequential_recommender; import recbole_cdsr.config", False),
        ("import recbole_cdsr; import torch; torch.autograd.set_detect_anomaly(True)", True),
    ],
)
def test_importing_recboles_models_leaves_anomaly_detection_as_it_was(program, detecting):
    lines = run_python(
        f"""
        {program}
        import torch
        from recbole.model.sequential_recommender import SASRec
        print(torch.is_anomaly_enabled())
        """
    )
    assert lines == [str(detecting)]


def test_recbole_from_elsewhere_than_plain_files_is_mended_at_once():
    lines = run_python(
        f"""
        import sys
        from importlib.machinery import PathFinder

        own = PathFinder.find_spec
        PathFinder.find_spec = classmethod(
            lambda cls, name, path=None, target=None: None if name == "recbole" else own(name, path, target)
        )

        class Editable:
            @staticmethod
            def find_spec(name, path=None, target=None):
                return own(name, path, target) if name == "recbole" else None

        sys.meta_path.append(Editable)
        import recbole_cdsr
        print({HEAVY})
        """
    )
    assert lines == ["['recbole', 'sklearn', 'thop', 'torch']"]


def test_without_recbole_it_says_how_to_install_it():
    lines = run_python(
        """
        import sys
        from importlib.machinery import PathFinder

        own = PathFinder.find_spec
        PathFinder.find_spec = classmethod(
            lambda cls, name, path=None, target=None: None if name == "recbole" else own(name, path, target)
        )
        try:
            import recbole_cdsr
        except ImportError as error:
            print(error)
        """
    )
    assert "pip install --no-deps recbole==1.2.1" in lines[0]
