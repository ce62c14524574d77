"""The options that every source of `recbole-cdsr convert` shares, declared and checked once.

All of them are None unless given, so that a preset fills exactly what the command line leaves open.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recbole_cdsr.convert.overlap import check_overlap_ratio
from recbole_cdsr.convert.recbole_benchmark import MAX_ITEM_LIST_LENGTH, check_benchmark_length
from recbole_cdsr.convert.selection import CORES, DEDUPS, Selection
from recbole_cdsr.convert.times import parse_moment
from recbole_cdsr.data.atomic import check_dataset_name, check_domain_name
from recbole_cdsr.errors import ConfigError

# Values of options by their name in the parsed arguments, written as on the command line.
Preset = Mapping[str, str | int | float | bool]
_DEFAULT_MAX_MALFORMED = "1%"
# Option names in the card, where they are not the names of the parsed arguments with dashes.
_SELECTION = ("since", "until", "min_rating", "dedup", "min_user", "min_item", "core", "overlap_only", "max_users")
_NAMES = {"since": "from", "until": "to"}


@dataclass(frozen=True)
class ConvertOptions:
    """What was asked of a conversion, checked.

    Parameters
    ----------
    name : str
        The dataset's name.
    out : Path
        The folder of all datasets.
    domains : dict[str, str]
        Domain names in order, each with what followed its `=` ("" for nothing).
    counted_domains : dict[str, str]
        Further domains that are read to be counted by the core `once`, and not kept.
    selection : Selection
        Which interactions are kept.
    max_malformed : float
        Largest share of malformed rows, in [0, 1].
    without_text : bool
        Leave item details unread.
    preset : str
        Name of the preset, "" for none.
    synthetic : bool
        Whether a program made the raw files; everything downstream says so then.
    description : str
        A sentence for the card; "" leaves it to the source.
    overlap_ratio : float, optional
        Share of the overlapped training users that stays overlapped, in (0, 1]; None for no such experiment.
    recbole_benchmark : int, optional
        Items of a list in the rows that are also written for RecBole's `benchmark_filename`; None for no such rows.
    given : dict[str, object]
        What the card records as options: everything that differs from the defaults.
    """

    name: str
    out: Path
    domains: dict[str, str]
    counted_domains: dict[str, str] = field(default_factory=dict)
    selection: Selection = field(default_factory=Selection)
    max_malformed: float = 0.01
    without_text: bool = False
    preset: str = ""
    synthetic: bool = False
    description: str = ""
    overlap_ratio: float | None = None
    recbole_benchmark: int | None = None
    given: dict[str, object] = field(default_factory=dict)


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add `--name` and `--out`, which every source has."""
    parser.add_argument("--name", required=True, help="name of the dataset to write")
    parser.add_argument(
        "--out", type=Path, default=Path("atomic_data"), metavar="DIR", help="folder of datasets (default atomic_data)"
    )


def add_domain_options(parser: argparse.ArgumentParser, value: str, meaning: str) -> None:
    """Add `--domains a,b` and the repeatable `--domain name=<value>`.

    Parameters
    ----------
    value : str
        What stands after the `=`, for the help: FILE, DIR, CATEGORY, ...
    meaning : str
        What the options mean for this source.
    """
    parser.add_argument("--domains", metavar="A,B,...", help=f"{meaning}; their order is the dataset's order")
    parser.add_argument(
        "--domain",
        action="append",
        metavar=f"NAME={value}",
        help=f"one domain and its {value.lower()}; once for each domain, instead of --domains",
    )


def add_selection_options(parser: argparse.ArgumentParser, presets: Mapping[str, Preset]) -> None:
    """Add presets and the filters of `selection.Selection`."""
    if presets:
        parser.add_argument("--preset", choices=list(presets), help="a published selection; other options override it")
    add = parser.add_argument
    add("--from", dest="since", metavar="TIME", help="first day or Unix second kept (UTC, included)")
    add("--to", dest="until", metavar="TIME", help="last day or Unix second kept (UTC, included: a day as a whole)")
    add("--min-rating", type=float, metavar="R", help="drop lower ratings, and rows without one")
    add("--dedup", choices=DEDUPS, help="of one user's repeated interactions with one item keep one (default none)")
    add("--min-user", type=int, metavar="N", help="fewest interactions of a user (default 1)")
    add("--min-item", type=int, metavar="N", help="fewest interactions of an item (default 1)")
    add("--core", choices=CORES, help="how --min-user and --min-item are applied: repeated until nothing changes, on "
        "the merged data (default) or per domain; once, counted before every other filter; or by LLM4CDSR's rule for "
        "Amazon")  # fmt: skip
    add("--core-per-domain", dest="core", action="store_const", const="per-domain", help="same as --core per-domain")
    add("--counted-domains", metavar="A,B,...", help="further domains read to be counted by --core once, not kept")
    add("--overlap-only", action="store_true", default=None, help="keep only users of two domains or more")
    add("--max-users", type=int, metavar="N", help="keep N users drawn at random")
    add("--seed", type=int, metavar="S", help="seed of every random draw (default 2026)")
    add("--max-malformed", metavar="SHARE", help="largest share of malformed rows, as 1%% or 0.01 (default 1%%)")
    add("--synthetic", action="store_true", help="the raw files were made by a program; the card then says so")
    add("--without-text", action="store_true", default=None, help="do not read item details")
    add_split_options(parser)


def add_release_options(parser: argparse.ArgumentParser) -> None:
    """Add what every source of a pre-split release has besides its own options."""
    add = parser.add_argument
    add("--seed", type=int, default=2026, metavar="S", help="seed of every random draw (default 2026)")
    add("--max-malformed", default="1%", metavar="SHARE", help="largest share of malformed lines (default 1%%)")
    add("--synthetic", action="store_true", help="the raw files were made by a program; the card then says so")
    add_split_options(parser)


def add_split_options(parser: argparse.ArgumentParser) -> None:
    """Add `--overlap-ratio` and `--recbole-benchmark`, which every source has."""
    add = parser.add_argument
    add(
        "--overlap-ratio",
        type=float,
        metavar="R",
        help="keep a share R of the overlapped training users overlapped and split the others into single-domain "
        "users, in training rows only; writes train, valid and test files",
    )
    add(
        "--recbole-benchmark",
        type=int,
        nargs="?",
        const=MAX_ITEM_LIST_LENGTH,
        metavar="N",
        help="also write rows for RecBole's benchmark_filename, with lists of the last N items (default 50)",
    )


def check_split_options(args: argparse.Namespace) -> dict[str, object]:
    """Return what the card records of the two; `ConfigError` for values that cannot be honoured."""
    given: dict[str, object] = {}
    if args.overlap_ratio is not None:
        given["overlap_ratio"] = check_overlap_ratio(args.overlap_ratio)
    if args.recbole_benchmark is not None:
        given["recbole_benchmark"] = check_benchmark_length(args.recbole_benchmark)
    return given


def read_options(
    args: argparse.Namespace, presets: Mapping[str, Preset], capitals: bool = False
) -> tuple[ConvertOptions, argparse.Namespace]:
    """Check the parsed arguments, filled from the preset.

    Parameters
    ----------
    args : argparse.Namespace
        As parsed.
    presets : Mapping[str, Preset]
        Of the source.
    capitals : bool
        Whether `--domains Video_Games` stands for `video_games=Video_Games`.

    Returns
    -------
    options, args
        What was asked for, and the arguments with the preset's values (for options of the source's own).

    Raises
    ------
    ConfigError
        Naming the option at fault.
    """
    check_dataset_name(args.name)
    args, preset = _with_preset(args, presets)
    domains = parse_domains(args.domains, args.domain, capitals=capitals)
    counted = parse_domains(args.counted_domains, None, "--counted-domains", capitals) if args.counted_domains else {}
    since = None if args.since is None else parse_moment(args.since, "--from")
    until = None if args.until is None else parse_moment(args.until, "--to", end=True)
    chosen = {key: getattr(args, key) for key in (*_SELECTION, "seed") if getattr(args, key) is not None}
    selection = Selection(**{**chosen, "since": since, "until": until})
    counted = {name: value for name, value in counted.items() if name not in domains}
    if counted and not selection.counts_first:
        raise ConfigError("--counted-domains: only --core once with --min-user or --min-item counts; leave it out.")
    given: dict[str, object] = {"domains": _show_domains(domains)}
    if counted:
        given["counted_domains"] = _show_domains(counted)
    given.update({_NAMES.get(key, key): value for key, value in chosen.items() if key != "seed"})
    given.update(check_split_options(args))
    if selection.max_users is not None or args.overlap_ratio is not None:
        given["seed"] = selection.seed
    if args.max_malformed is not None:
        given["max_malformed"] = args.max_malformed
    if args.without_text:
        given["without_text"] = True
    options = ConvertOptions(
        name=args.name,
        out=args.out,
        domains=domains,
        counted_domains=counted,
        selection=selection,
        max_malformed=parse_share(args.max_malformed or _DEFAULT_MAX_MALFORMED, "--max-malformed"),
        without_text=bool(args.without_text),
        preset=preset,
        synthetic=bool(args.synthetic),
        overlap_ratio=args.overlap_ratio,
        recbole_benchmark=args.recbole_benchmark,
        given=given,
    )
    return options, args


def parse_domains(
    names: str | None, pairs: list[str] | None, option: str = "--domains", capitals: bool = False
) -> dict[str, str]:
    """Return domain names, each with what follows its `=`, of `--domains a,b=X` or of several `--domain a=X`."""
    if names and pairs:
        raise ConfigError("--domains and --domain are both given; use one of them.")
    if not names and not pairs:
        raise ConfigError("--domains is missing; name the domains, or give a --preset that does where there is one.")
    if names is not None and not names.strip():
        raise ConfigError(f"{option}: no domain is named.")
    domains: dict[str, str] = {}
    for entry in pairs or (names or "").split(","):
        name, _, value = (part.strip() for part in entry.partition("="))
        if capitals and not value and name != name.lower():
            name, value = name.lower(), name
        check_domain_name(name, "--domain" if pairs else option)
        if name in domains:
            raise ConfigError(f"{'--domain' if pairs else option}: {name!r} is named twice; give each domain once.")
        domains[name] = value
    return domains


def parse_share(text: str, option: str) -> float:
    """Return a share in [0, 1], written as `0.01` or `1%`."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigError(f"{option}: {text!r} is no share; give 0 to 1, such as 0.01, or a percentage such as 1%.")
    return share


def _with_preset(args: argparse.Namespace, presets: Mapping[str, Preset]) -> tuple[argparse.Namespace, str]:
    preset = getattr(args, "preset", None)
    if preset is None:
        return args, ""
    filled = argparse.Namespace(**vars(args))
    changed = []
    for key, value in presets[preset].items():
        replaced = key == "domains" and args.domain
        if getattr(args, key) is None and not replaced:
            setattr(filled, key, value)
        elif replaced or getattr(args, key) != value:
            changed.append(_NAMES.get(key, key).replace("_", "-"))
    if changed:
        logging.getLogger().warning("preset %s is changed by --%s", preset, ", --".join(changed))
        preset = f"{preset}, changed by --{', --'.join(changed)}"
    return filled, preset


def _show_domains(domains: Mapping[str, str]) -> str:
    # Of a path only the name: where a file lay says nothing to others.
    return ",".join(f"{name}={Path(value).name}" if value else name for name, value in domains.items())
