"""How a command names a trained run, and which settings it may change."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from recbole_cdsr.errors import ConfigError

# What says where a trained run is used and what is printed meanwhile, and changes no number of it.
PLACES = frozenset({"data_path", "llm_features_dir", "use_gpu", "gpu_id", "eval_batch_size", "show_progress"})


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add `--run DIR` and `--checkpoint PATH`, one of which must be given; `named_place` reads them."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", dest="run_dir", metavar="DIR", help="directory of a run; its selected checkpoint")
    source.add_argument(
        "--checkpoint", metavar="PATH", help="a checkpoint, such as DIR/best_movies.pth, or the directory of a run"
    )


def named_place(options: argparse.Namespace) -> Path:
    """The checkpoint or directory that was named.

    Raises
    ------
    ConfigError
        The name is empty, as that of a variable that is not set.
    """
    named = options.checkpoint if options.run_dir is None else options.run_dir
    if not named:
        option = "--checkpoint" if options.run_dir is None else "--run"
        raise ConfigError(f"{option} names nothing; give the directory of a run or a checkpoint in it.")
    return Path(named)


def check_changes(command: str, settings: Sequence[str], changeable: Collection[str]) -> None:
    """Refuse settings that would change what was trained.

    Parameters
    ----------
    command
        Name of the sub-command, for the message.
    settings
        Arguments `--key=value`.
    changeable
        Keys that may change.

    Raises
    ------
    ConfigError
        Naming the first other key.
    """
    from recbole_cdsr.config_names import did_you_mean
    from recbole_cdsr.config_values import parse_command_line

    texts, faults = parse_command_line(settings)
    if faults:
        raise ConfigError(f"{faults[0]}.")
    for key in texts:
        if key == "dataset":
            raise ConfigError(
                f"--dataset: {command} uses the data that the model was trained on, for items are numbered otherwise "
                "in another dataset, and its test rows may be training rows of this run; leave --dataset out."
            )
        if key not in changeable:
            hint = did_you_mean(key, changeable, 1)
            raise ConfigError(
                f"--{key}: {command} uses a model as it was trained, and {key} is no setting it could change"
                + (f"; it may change {', '.join(sorted(changeable))}." if hint == "." else hint)
            )
