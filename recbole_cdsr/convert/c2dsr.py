"""Releases of C2DSR and LeCDSR (two domains A and B, pre-split by their authors) as atomic files.

Files of a release, plain or gzip:

- `Alist.txt`, `Blist.txt`: an item a line, `id<TAB>asin<TAB>index`, or CSV with the header `asin,asin_index` (then
  also as `.csv`); indices are 0-based, those of B with or without the offset;
- `traindata_new.txt`, `validdata_new.txt`, `testdata_new.txt`, or the same without `_new`:
  `user<TAB>...<TAB>item|time<TAB>item|time...`, 0-based items, those of B offset by the size of A; more may follow a
  time after another `|`.

As the code of both papers does, a line is read in order of time (equal times as they stand); its last item is then the
target of a line of validation or test. Both take every line for a sequence of its own, and so do we by default: users
are named `<file>:<user>`, a further line of one user in one file `<file>:<user>#2`. `--sequences users` joins the
training lines of a user in order of time instead, and one user is one user in all files.

The releases hold no text: it is joined by asin from Amazon's item details (`--metadata`), of whichever release.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_cdsr.convert.amazon_text import AmazonDetails, find_metadata, item_table
from recbole_cdsr.convert.c2dsr_files import read_item_list, read_lines
from recbole_cdsr.convert.options import add_output_options, add_release_options, check_split_options, parse_share
from recbole_cdsr.convert.raw_file import RawFile, find_raw_file
from recbole_cdsr.convert.release import Release, Sequences, check_draw, check_faults, describe_draws, draw_users
from recbole_cdsr.data.atomic import check_dataset_name, check_domain_name
from recbole_cdsr.data.staged_folder import check_replaceable
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.ranges import places_in_ranges

SIDES = ("A", "B")
PARTS = ("train", "valid", "test")
VARIANTS = {"new": "data_new.txt", "plain": "data.txt"}
SEQUENCES = ("lines", "users")
PUBLISHED = "a part of the data that C2DSR's and LeCDSR's repositories link to"
# Domains A and B of the datasets that LeCDSR reports, in C2DSR's layout.
PRESETS = {"food-kitchen": ("food", "kitchen"), "movie-book": ("movie", "book"), "toy-game": ("toy", "game")}


def convert_c2dsr(
    raw_dir: Path,
    name: str,
    domains: tuple[str, str],
    out_dir: Path,
    metadata: Mapping[str, Path] | None = None,
    sequences: str = "lines",
    variant: str | None = None,
    max_users: int | None = None,
    seed: int = 2026,
    overlap_ratio: float | None = None,
    recbole_benchmark: int | None = None,
    max_malformed: float = 0.01,
    preset: str = "",
    synthetic: bool = False,
) -> Path:
    """Convert a release in C2DSR's layout to `<out_dir>/<name>/`.

    Parameters
    ----------
    raw_dir : Path
        The release's folder.
    name : str
        The dataset's name.
    domains : tuple[str, str]
        Names of domain A and of domain B.
    out_dir : Path
        The folder of all datasets; an earlier dataset of that name is replaced, its `features/` stay.
    metadata : Mapping[str, Path], optional
        Amazon's item details by domain; items of other domains have no text.
    sequences : str
        `lines`: every line is a sequence. `users`: the training lines of a user are one sequence.
    variant : str, optional
        `new` or `plain` files; None takes `new` where they are there.
    max_users : int, optional
        Keep only that many training users, drawn with `seed`; all evaluation lines and all items stay.
    seed : int
        Seed of every draw.
    overlap_ratio : float, optional
        Share of the overlapped training users that stays overlapped, see `with_overlap_ratio`.
    recbole_benchmark : int, optional
        Also write rows with lists of that many items for RecBole, see `write_recbole_benchmark`.
    max_malformed : float
        Largest share of lines that may be malformed, and are then left out.
    preset : str
        For the card.
    synthetic : bool
        Whether a program made the files; the card says so then.

    Returns
    -------
    Path
        The dataset's folder.

    Raises
    ------
    ConfigError
        For options that cannot be honoured.
    DataError
        For a release that is incomplete or inconsistent (naming file and line), or a folder that cannot be written.
    """
    raw_dir, out_dir = Path(raw_dir), Path(out_dir)
    check_dataset_name(name)
    check_replaceable(out_dir / name)
    if len(domains) != 2 or domains[0] == domains[1]:
        raise ConfigError(f"--domains: a release has two domains, A and B; write `a,b`, found {','.join(domains)!r}.")
    for domain in domains:
        check_domain_name(domain)
    if sequences not in SEQUENCES:
        raise ConfigError(f"--sequences: {sequences!r} is unknown; choose one of {', '.join(SEQUENCES)}.")
    check_draw(max_users, seed)
    metadata = dict(metadata or {})
    if unknown := [domain for domain in metadata if domain not in domains]:
        raise ConfigError(f"--metadata: {unknown[0]!r} is no domain of {','.join(domains)}.")

    files = _sequence_files(raw_dir, variant)
    lists = [RawFile(find_raw_file(raw_dir, [f"{side}list.txt", f"{side}list.csv"], PUBLISHED)) for side in SIDES]
    details = {domain: AmazonDetails(metadata[domain], domain) for domain in domains if domain in metadata}
    asins = read_item_list(lists[0], 0)
    asins = [asins, read_item_list(lists[1], len(asins))]
    n_items = sum(map(len, asins))
    read = {part: read_lines(file, n_items, 1 if part == "train" else 2) for part, file in files.items()}
    malformed = check_faults(list(files.values()), max_malformed)
    for part, lines in read.items():
        if not len(lines.users):
            raise DataError(f"{files[part].path}: has no rows.")
    items, text_types = item_table(asins, domains, details, max_malformed)

    people = {part: lines.users for part, lines in read.items()}
    drawn, filters = draw_users(people["train"], max_users, seed, "training users (all evaluation lines stay)")
    read["train"], people["train"] = read["train"].take(drawn), people["train"][drawn]
    joined = sequences == "users"
    parts = {
        part: Sequences(_tokens(lines.users, part, joined), lines.lengths, lines.items, lines.times)
        for part, lines in read.items()
    }
    options: dict[str, object] = {"domains": ",".join(domains), "sequences": sequences}
    if variant is not None:
        options["variant"] = variant
    if metadata:
        options["metadata"] = ",".join(f"{domain}={path.name}" for domain, path in metadata.items())
    options |= describe_draws(max_users, overlap_ratio, recbole_benchmark, seed)
    release = Release(
        name=name,
        converter="c2dsr",
        title="a release in the layout of C2DSR",
        description=f"two-domain sequences ({domains[0]}, {domains[1]})" + (" with item text" if text_types else ""),
        domains=domains,
        parts=parts,
        items=items,
        text_types=text_types,
        files=[file.describe() for file in (*lists, *files.values(), *(each.file for each in details.values()))],
        rows={
            "read": sum(file.rows for file in files.values()),
            "kept": sum(len(lines.users) for lines in read.values()),
            "malformed": malformed,
        },
        options=options,
        filters=filters,
        preset=preset,
        synthetic=synthetic,
        people=np.concatenate(list(people.values())),
    )
    return release.write(out_dir, overlap_ratio, seed, recbole_benchmark)


def _sequence_files(raw_dir: Path, variant: str | None) -> dict[str, RawFile]:
    """Return the three files of one variant; a release may hold both, and those of C2DSR are the `_new` ones."""
    if variant is None:
        there = [
            name
            for name, suffix in VARIANTS.items()
            if any((raw_dir / f"train{suffix}{packed}").is_file() for packed in ("", ".gz"))
        ]
        if len(there) > 1:
            logging.getLogger().info("%s holds both variants; the _new files are read, see --variant.", raw_dir)
        variant = there[0] if there else "new"
    names = {part: [f"{part}{VARIANTS[variant]}"] for part in PARTS}
    return {part: RawFile(find_raw_file(raw_dir, names[part], PUBLISHED)) for part in PARTS}


def _tokens(users: np.ndarray, part: str, joined: bool) -> np.ndarray:
    """Return the token of each line: its user's, with the number of the line where a user has several."""
    if joined and part == "train":
        return users
    codes, _ = pd.factorize(users)
    by_user = np.argsort(codes, kind="stable")
    turn = np.empty(len(users), dtype=np.int64)
    turn[by_user] = places_in_ranges(np.bincount(codes))
    prefix = "" if joined else f"{part}:"
    tokens = [
        f"{prefix}{user}#{place + 1}" if place else f"{prefix}{user}"
        for user, place in zip(users.tolist(), turn.tolist(), strict=True)
    ]
    if len(set(tokens)) < len(tokens):
        raise DataError(f"{part}: a user's name ends like '#2', which tells a user's second line; rename the user.")
    return np.array(tokens, dtype=object)


def add_parser(sources: argparse._SubParsersAction) -> None:
    """Add `convert c2dsr` to the command line."""
    parser = sources.add_parser(
        "c2dsr",
        help="a release of C2DSR or LeCDSR",
        description="Convert a release in C2DSR's layout (Alist, Blist, traindata, validdata and testdata), which "
        "LeCDSR uses as well, to a dataset of atomic files.",
    )
    add = parser.add_argument
    add("--raw", type=Path, required=True, metavar="DIR", help="folder of the release")
    add_output_options(parser)
    add("--domains", metavar="A,B", help="names of the release's domains A and B")
    add("--preset", choices=list(PRESETS), help="a dataset of LeCDSR: names its domains")
    add(
        "--metadata",
        action="extend",
        nargs="+",
        metavar="DIR|NAME=FILE",
        help="Amazon's item details, to join text from: their folder, or a file for each domain",
    )
    add("--without-text", action="store_true", help="do not read item details")
    add("--sequences", choices=SEQUENCES, default="lines", help="every line is a sequence (default), or join a user's")
    add("--variant", choices=list(VARIANTS), help="read the files with or without _new (default: new if there)")
    add("--max-users", type=int, metavar="N", help="keep N training users drawn at random (all evaluation lines stay)")
    add_release_options(parser)
    parser.set_defaults(convert=_convert)


def _convert(args: argparse.Namespace) -> Path:
    check_split_options(args)
    if not args.domains and not args.preset:
        raise ConfigError("--domains is missing; name domains A and B, or give a --preset.")
    domains = tuple(args.domains.split(",")) if args.domains else PRESETS[args.preset]
    preset = args.preset or ""
    if preset and domains != PRESETS[preset]:
        logging.getLogger().warning("preset %s is changed by --domains", preset)
        preset = f"{preset}, changed by --domains"
    return convert_c2dsr(
        args.raw,
        args.name,
        domains,
        args.out,
        metadata=None if args.without_text else find_metadata(args.metadata or [], domains),
        sequences=args.sequences,
        variant=args.variant,
        max_users=args.max_users,
        seed=args.seed,
        overlap_ratio=args.overlap_ratio,
        recbole_benchmark=args.recbole_benchmark,
        max_malformed=parse_share(args.max_malformed, "--max-malformed"),
        preset=preset,
        synthetic=args.synthetic,
    )
