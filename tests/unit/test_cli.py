"""The command line as such: how it ends."""

from __future__ import annotations

import subprocess
import sys

INTERRUPTED_IMPORT = """
import sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
from recbole_cdsr.cli import main
sys.exit(main(["doctor"]))
"""


def test_an_interrupt_while_packages_load_ends_in_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "\nrecbole-cdsr: interrupted.\n")
