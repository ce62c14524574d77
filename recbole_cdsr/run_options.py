"""The options that say what is trained, for the commands that train."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


class Once(argparse.Action):
    """Keeps an option's value and refuses a second one; argparse itself takes the last of them without a word."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Keep the value."""
        before = getattr(namespace, self.dest)
        if before is not None and before != values:
            parser.error(f"{self.option_strings[0]} is given twice, as {before} and as {values}; remove one")
        setattr(namespace, self.dest, values)


def add_run_options(parser: argparse.ArgumentParser, what_files_hold: str) -> None:
    """Add `--model`, `--dataset` and `--config_files`."""
    parser.add_argument("--model", "-m", action=Once, help="name of the model, e.g. LLM4CDSR or SASRec")
    parser.add_argument("--dataset", "-d", action=Once, help="name of the dataset, e.g. douban")
    parser.add_argument("--config_files", action=Once, help=f'{what_files_hold}, separated by blanks: "a.yaml b.yaml"')
