"""`recbole-cdsr features`: build LLM features, look at them, hand them on, bring answers in from elsewhere."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_cdsr.errors import CDSRError, ConfigError, DataError

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
_ACTIONS = ("build", "show", "export", "list", "import")


def with_action(arguments: Sequence[str]) -> list[str]:
    """`features NAME ...` is `features build NAME ...`; other arguments stay as they are."""
    if list(arguments[:1]) != ["features"] or len(arguments) == 1:
        return list(arguments)
    if arguments[1] in (*_ACTIONS, "ls", "-h", "--help"):
        return list(arguments)
    return ["features", "build", *arguments[1:]]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `features` and what can be done with them to the command line; the parsed arguments go to `run`."""
    parser = subparsers.add_parser(
        "features",
        help="build LLM features of items and users, and look at them",
        description="Build LLM features of items and users, and look at them. `features NAME ...` is `features build "
        "NAME ...`; a dataset that is named like an action is named with --dataset.",
        allow_abbrev=False,
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
    _add_models(build)
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
    _add_models(show)
    show.add_argument("--users", metavar="U,V", help="user tokens")
    show.add_argument("--items", metavar="A,B", help="item tokens")
    show.add_argument("--neighbours", type=int, default=3, metavar="N", help="nearest items of each domain (default 3)")
    show.add_argument("--prompts", action="store_true", help="print as well what an LLM is asked about the users")
    export = _action(
        actions,
        "export",
        _export,
        "write features for RecBole's preload_weight",
        "Write item vectors as the atomic file .itememb, profiles as .useremb, and print the settings that RecBole "
        "loads them by. What is missing is built first.",
    )
    export.add_argument("--format", choices=["recbole"], default="recbole", help="recbole: atomic files (default)")
    export.add_argument("--what", default="items", metavar="A,B", help="items, profiles (default: items)")
    _add_models(export)
    export.add_argument("--out", type=Path, metavar="DIR", help="folder to write to (default: that of the dataset)")
    export.add_argument("--overwrite", action="store_true", help="replace a file with another content")
    listing = _action(
        actions,
        "list",
        _list,
        "list feature sets",
        "List the feature sets of a dataset, or of all that have some.",
        aliases=["ls"],
    )
    listing.usage = listing.usage.replace("NAME", "[NAME]", 1)
    taking = _action(
        actions,
        "import",
        _import,
        "take in answers: results of the Batch API, or the cache of another machine",
        "Take answers into the dataset's cache: .jsonl results of the Batch API, or llm_cache.sqlite of a machine that "
        "asked another shard.",
        named=False,
    )
    taking.add_argument("files", nargs="+", type=Path, metavar="FILE", help="results or caches")
    return parser


def _action(
    actions: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    description: str,
    aliases: Sequence[str] = (),
    named: bool = True,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=summary,
        description=f"{description} {_SETTINGS}",
        aliases=aliases,
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", "-d", metavar="NAME", help="name of the dataset" + "; or NAME alone" * named)
    parser.add_argument("--model", "-m", help="the model that is to read the features, for its settings")
    parser.add_argument("--config_files", help='YAML files, separated by blanks: "a.yaml b.yaml"')
    if named:
        parser.usage = "%(prog)s NAME [--option ...] [--key=value ...]"
    parser.set_defaults(run=lambda options: _logged(run, options), takes_settings=True, name=None, named=named)
    return parser


def _take_name(options: argparse.Namespace) -> None:
    """Move the dataset's name from the settings, where argparse leaves it, to `name`.

    As an argument of its own argparse would take `--prompt_files={item: a.yaml}` for it, because of the blank.
    """
    for place, argument in enumerate(options.settings):
        before = options.settings[place - 1] if place else ""
        is_value = before.startswith("--") and "=" not in before  # --key value, which is refused later on
        if not argument.startswith("-") and not is_value:
            options.name = options.settings.pop(place)
            return


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoder",
        metavar="[BACKEND:]MODEL",
        help="who encodes texts (llm_encoder, llm_encoder_backend), e.g. openai:text-embedding-3-small",
    )
    parser.add_argument(
        "--generator",
        metavar="BACKEND[:MODEL]",
        help="who writes profiles and pseudo items, e.g. openai:gpt-4o-mini, or offline (llm_generator and llm_model, "
        "with profile_generator=llm and pseudo_generator=llm unless set)",
    )


def _logged(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run an action with its log on stderr, so that stdout holds what was asked for alone."""
    root, handler = logging.getLogger(), logging.StreamHandler(sys.stderr)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        if options.named:
            _take_name(options)
        return run(options)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def _config(options: argparse.Namespace) -> CDSRConfig:
    from recbole_cdsr.config_names import near_matches
    from recbole_cdsr.data.loading import interaction_files
    from recbole_cdsr.warning_filters import quiet_known_warnings

    try:
        config = _config_of(options, _dataset_name(options))
        interaction_files(Path(config["data_path"]), config["dataset"])  # a wrong name is answered before all else
    except CDSRError as error:
        meant = near_matches(options.name or "", _ACTIONS, 1)
        stray = [argument for argument in options.settings if not argument.startswith("-")]
        if meant and (stray or isinstance(error, DataError)):  # `features shwo NAME`
            raise type(error)(f"{error} Or was `features {meant[0]}` meant?") from None
        raise
    quiet_known_warnings()
    config.log_notices(logging.getLogger())
    return config


def _config_of(options: argparse.Namespace, dataset: str | None) -> CDSRConfig:
    from recbole_cdsr.config import CDSRConfig, split_config_files

    return CDSRConfig(
        options.model or "LLM4CDSR",
        dataset,
        split_config_files(options.config_files),
        command_line=[*options.settings, *_spelled_as_settings(options)],
    )


def _dataset_name(options: argparse.Namespace) -> str | None:
    """The dataset's name, however it was given; None leaves it to the configuration files."""
    if None not in (options.name, options.dataset) and options.name != options.dataset:
        raise ConfigError(
            f"features {options.action} is given {options.name!r} beside --dataset {options.dataset}; name one "
            f"dataset, write settings as --key=value, and choose one action of {', '.join(_ACTIONS)}."
        )
    return options.dataset if options.name is None else options.name


def _spelled_as_settings(options: argparse.Namespace) -> Iterator[str]:
    """What options with a name of their own stand for, as `--key=value`."""
    from recbole_cdsr.config_llm_keys import CHOICES

    if getattr(options, "max_cost", None) is not None:
        yield f"--llm_max_cost={options.max_cost}"
    if getattr(options, "encoder", None) is not None:
        backend, model = _backend_and_model(options.encoder, CHOICES["llm_encoder_backend"])
        if backend is not None:
            yield f"--llm_encoder_backend={backend}"
        if model:
            yield f"--llm_encoder={model}"
    if getattr(options, "generator", None) is not None:
        backend, model = _backend_and_model(options.generator, CHOICES["llm_generator"])
        if backend is None:
            raise ConfigError(
                f"--generator is {options.generator!r}; write BACKEND or BACKEND:MODEL, with one of "
                f"{', '.join(CHOICES['llm_generator'])} as BACKEND."
            )
        yield f"--llm_generator={backend}"
        if model:
            yield f"--llm_model={model}"
        offline = {"profile_generator": "extractive", "pseudo_generator": "retrieval"}
        for key, writer in offline.items():
            if not any(argument.startswith(f"--{key}=") for argument in options.settings):
                yield f"--{key}={writer if backend == 'offline' else 'llm'}"


def _backend_and_model(text: str, backends: Sequence[str]) -> tuple[str | None, str]:
    """`backend:model` and `backend` divided; whatever begins otherwise is a model."""
    backend, _, model = text.partition(":")
    return (backend, model) if backend in backends else (None, text)


def _load(config: CDSRConfig) -> Any:
    from recbole_cdsr.quick_start import create_dataset

    return create_dataset(config)


def _wanted(options: argparse.Namespace, known: Sequence[str] = WHAT) -> tuple[str, ...]:
    if options.what is None:
        wanted = WHAT if options.model is None else _READ_BY.get(options.model, ("items",))
    else:
        wanted = tuple(dict.fromkeys(part.strip() for part in options.what.split(",")))
    for part in wanted:
        if part not in known:
            raise ConfigError(f"--what is {options.what!r}; it must be one or more of {', '.join(known)}.")
    if options.generator is not None and wanted == ("items",):
        raise ConfigError("--generator writes profiles and pseudo items, and only items are wanted; leave it out.")
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


def _export(options: argparse.Namespace) -> int:
    from recbole_cdsr.llm.feature_export import EXPORTED, export_for_recbole

    wanted = _wanted(options, EXPORTED)
    if options.out is not None and not options.out.is_dir():
        raise ConfigError(f"--out is {options.out}, which is no folder; make it first, or name another.")
    config = _config(options)
    print("\n".join(export_for_recbole(config, _load(config), wanted, options.out, options.overwrite)))
    return 0


def _list(options: argparse.Namespace) -> int:
    from recbole_cdsr.llm.feature_list import list_all_sets, list_sets

    if _dataset_name(options) is not None:
        print(list_sets(_config(options)))
        return 0
    from recbole_cdsr.config_names import dataset_folders

    anywhere = _config_of(options, "-")
    root = Path(anywhere["data_path"]).parent
    print(list_all_sets((_config_of(options, name) for name in dataset_folders(root)), root))
    return 0


def _import(options: argparse.Namespace) -> int:
    config = _config(options)
    _take(config, options.files)
    return 0


def _take(config: CDSRConfig, files: list[Path]) -> None:
    from recbole_cdsr.llm.feature_building import take_answers

    for line in take_answers(config, files):
        print(line)
