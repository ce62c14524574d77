"""`recbole-cdsr features`: build LLM features, look at them, bring answers in from elsewhere."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_cdsr.errors import ConfigError

if TYPE_CHECKING:
    from recbole_cdsr.config import CDSRConfig

WHAT = ("items", "profiles", "pseudo")
# What each of our models reads; any other model with injected features reads items.
_READ_BY = {
    "LLM4CDSR": ("items", "profiles"),
    "LLMCDSR": ("items", "pseudo"),
    "LeCDSR": ("items", "profiles"),
}
_SETTINGS = "Any setting may follow as --key=value."


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `features` and what can be done with them to the command line; the parsed arguments go to `run`."""
    parser = subparsers.add_parser(
        "features", help="build LLM features of items and users, and look at them", allow_abbrev=False
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = _action(
        actions,
        "build",
        _build,
        "build what is missing",
        "Build the features that are missing or stale, and say who made them. A run builds them itself; this does it "
        "beforehand, plans it, or does a part of it.",
    )
    build.add_argument(
        "--what",
        metavar="A,B",
        help="items, profiles, pseudo (items); what the model reads when it is named, all of them otherwise",
    )
    build.add_argument("--dry-run", action="store_true", help="print requests, tokens and cost, and ask nothing")
    build.add_argument("--max-cost", metavar="X", help="stop before more than this is spent (llm_max_cost)")
    build.add_argument("--shard", metavar="I/N", help="ask for part I of N of the users only, and build no feature set")
    build.add_argument("--batch-export", type=Path, metavar="FILE", help="write requests as a Batch API file instead")
    build.add_argument("--batch-import", type=Path, metavar="FILE", help="first take in results of the Batch API")
    show = _action(
        actions,
        "show",
        _show,
        "print features of users or items",
        "Print users' histories, profiles and pseudo items, or items' texts and nearest neighbours in every domain.",
    )
    show.add_argument("--users", metavar="U,V", help="user tokens")
    show.add_argument("--items", metavar="A,B", help="item tokens")
    show.add_argument("--neighbours", type=int, default=3, metavar="N", help="nearest items of each domain (default 3)")
    show.add_argument("--prompts", action="store_true", help="print as well what an LLM is asked about the users")
    _action(actions, "list", _list, "list the feature sets of a dataset", None, aliases=["ls"])
    taking = _action(
        actions,
        "import",
        _import,
        "take in answers: results of the Batch API, or the cache of another machine",
        "Take answers into the dataset's cache: .jsonl results of the Batch API, or llm_cache.sqlite of a machine that "
        "asked another shard.",
    )
    taking.add_argument("files", nargs="+", type=Path, metavar="FILE", help="results or caches")
    return parser


def _action(
    actions: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    description: str | None,
    aliases: list[str] | None = None,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=summary,
        description=f"{description or summary[0].upper() + summary[1:] + '.'} {_SETTINGS}",
        aliases=aliases or [],
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", "-d", required=True, help="name of the dataset")
    parser.add_argument("--model", "-m", help="the model that is to read the features, for its settings")
    parser.add_argument("--config_files", help='YAML files, separated by blanks: "a.yaml b.yaml"')
    parser.set_defaults(run=lambda options: _logged(run, options), takes_settings=True)
    return parser


def _logged(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run an action with its log on stderr, so that stdout holds what was asked for alone."""
    root, handler = logging.getLogger(), logging.StreamHandler(sys.stderr)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        return run(options)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def _config(options: argparse.Namespace) -> CDSRConfig:
    from recbole_cdsr.config import CDSRConfig, split_config_files
    from recbole_cdsr.data.loading import interaction_files
    from recbole_cdsr.warning_filters import quiet_known_warnings

    command_line = list(options.settings)
    if getattr(options, "max_cost", None) is not None:
        command_line.append(f"--llm_max_cost={options.max_cost}")
    config = CDSRConfig(
        options.model or "LLM4CDSR",
        options.dataset,
        split_config_files(options.config_files),
        command_line=command_line,
    )
    interaction_files(Path(config["data_path"]), config["dataset"])  # a wrong name is answered before all else
    quiet_known_warnings()
    config.log_notices(logging.getLogger())
    return config


def _load(config: CDSRConfig) -> Any:
    from recbole_cdsr.quick_start import create_dataset

    return create_dataset(config)


def _wanted(options: argparse.Namespace) -> tuple[str, ...]:
    if options.what is None:
        return WHAT if options.model is None else _READ_BY.get(options.model, ("items",))
    wanted = tuple(dict.fromkeys(part.strip() for part in options.what.split(",")))
    for part in wanted:
        if part not in WHAT:
            raise ConfigError(f"--what is {options.what!r}; it must be one or more of {', '.join(WHAT)}.")
    return wanted


def _build(options: argparse.Namespace) -> int:
    from recbole_cdsr.llm.feature_building import ask_only, build, plan, warn_of_idle_generator

    wanted = _wanted(options)
    if options.dry_run and options.batch_export:
        raise ConfigError("--dry-run and --batch-export exclude each other; choose one.")
    config = _config(options)
    warn_of_idle_generator(config)
    if options.batch_import is not None:
        _take(config, [options.batch_import])
    dataset = _load(config)
    if options.dry_run:
        print("\n".join(plan(config, dataset, wanted, options.shard)))
    elif options.shard is not None or options.batch_export is not None:
        print("\n".join(ask_only(config, dataset, wanted, options.shard, options.batch_export)))
    else:
        print("\n".join(build(config, dataset, wanted)))
    return 0


def _show(options: argparse.Namespace) -> int:
    from recbole_cdsr.llm.feature_show import show_items, show_users

    if not options.users and not options.items:
        raise ConfigError("features show needs --users or --items; name some of the dataset.")
    if options.neighbours < 0:
        raise ConfigError(f"--neighbours is {options.neighbours}; it must be 0 or more.")
    config = _config(options)
    logging.getLogger().setLevel(logging.WARNING)
    dataset = _load(config)
    blocks = []
    if options.users:
        blocks += show_users(config, dataset, _tokens(options.users), options.prompts)
    if options.items:
        blocks += show_items(config, dataset, _tokens(options.items), options.neighbours)
    print("\n\n".join(blocks))
    return 0


def _tokens(text: str) -> list[str]:
    return list(dict.fromkeys(token.strip() for token in text.split(",") if token.strip()))


def _list(options: argparse.Namespace) -> int:
    from recbole_cdsr.llm.feature_show import list_sets

    print(list_sets(_config(options)))
    return 0


def _import(options: argparse.Namespace) -> int:
    config = _config(options)
    _take(config, options.files)
    return 0


def _take(config: CDSRConfig, files: list[Path]) -> None:
    from recbole_cdsr.llm.feature_building import take_answers

    for line in take_answers(config, files):
        print(line)
