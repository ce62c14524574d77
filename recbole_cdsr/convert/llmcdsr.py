"""The LLMCDSR release (two domains A and B, pre-split by its authors) as atomic files.

Files of the release, read by name:

- `num.txt`: the number of items of A and of B;
- `train_A.txt`, `train_B.txt`, `train_overlap.txt`, `valid.txt`, `test.txt`: `user<TAB>i1,i2,...`, oldest
  first, 0-based items, those of B offset by the size of A. Users are numbered anew in each file;
- `item_set_X.pkl` {asin: 0-based index in X} and `text_X.pkl` {asin: title}.

The last item of a row of `valid.txt` and `test.txt` is the target.
"""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_cdsr.convert.options import add_output_options, add_release_options, check_split_options, parse_share
from recbole_cdsr.convert.raw_file import RawFile
from recbole_cdsr.convert.release import (
    Release,
    Sequences,
    check_draw,
    check_faults,
    describe_draws,
    draw_users,
    report_faults,
)
from recbole_cdsr.convert.safe_pickle import load_plain_dict
from recbole_cdsr.data.atomic import check_dataset_name, check_domain_name
from recbole_cdsr.data.card import source_files
from recbole_cdsr.data.staged_folder import check_replaceable
from recbole_cdsr.errors import ConfigError, DataError

SPLITS = ("official", "loo")
SIDES = ("A", "B")
# User tokens are `<file>:<user>`: the same number in two files is not the same user.
SEQUENCE_FILES = {
    "A": "train_A.txt",
    "B": "train_B.txt",
    "AB": "train_overlap.txt",
    "valid": "valid.txt",
    "test": "test.txt",
}
TRAINING = ("A", "B", "AB")
TEXT_TYPES = {"title": "token_seq"}
# Items of a user at least, whatever the split: leave-one-out trains on users of two and judges longer ones.
SHORTEST = 2
_ROW = re.compile(r" *([^\s][^\t]*)\t *([0-9]{1,18}(?: *, *[0-9]{1,18})*) *")


def convert_llmcdsr(
    raw_dir: Path,
    name: str,
    domains: tuple[str, str],
    out_dir: Path,
    split: str = "official",
    max_users: int | None = None,
    seed: int = 2026,
    overlap_ratio: float | None = None,
    recbole_benchmark: int | None = None,
    max_malformed: float = 0.01,
    synthetic: bool = False,
) -> Path:
    """Convert an LLMCDSR release to `<out_dir>/<name>/`.

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
    split : str
        `official`: the release's own split, as `<name>.{train,valid,test}.inter`. `loo`: every user of every
        file with the full sequence in one `<name>.inter`, to be split by leave-one-out.
    max_users : int, optional
        Keep only that many users, drawn with `seed`: training users for `official` (all evaluation users
        stay), users of all files for `loo`. All items stay.
    seed : int
        Seed of every draw.
    overlap_ratio : float, optional
        Share of the overlapped training users that stays overlapped, see `with_overlap_ratio`.
    recbole_benchmark : int, optional
        Also write rows with lists of that many items for RecBole, see `write_recbole_benchmark`.
    max_malformed : float
        Largest share of lines that may be malformed, and are then left out.
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
        For a release that is incomplete or inconsistent (naming file and line), or a folder that cannot be
        written.
    """
    raw_dir, out_dir = Path(raw_dir), Path(out_dir)
    check_dataset_name(name)
    check_replaceable(out_dir / name)
    domains = _checked_domains(domains)
    if split not in SPLITS:
        raise ConfigError(f"--split: {split!r} is unknown; choose one of {', '.join(SPLITS)}.")
    check_draw(max_users, seed)

    # Read and check everything first, write afterwards.
    paths = _release_files(raw_dir)
    counts = _read_counts(paths["num.txt"])
    items = pd.concat(
        [_read_items(paths, side, count, domain) for side, count, domain in zip(SIDES, counts, domains, strict=True)],
        ignore_index=True,
    )
    files = {part: RawFile(paths[file]) for part, file in SEQUENCE_FILES.items()}
    parts = {part: _read_sequences(file, part, counts, domains) for part, file in files.items()}
    malformed = check_faults(list(files.values()), max_malformed)
    _warn_shared_users(parts)
    read = sum(file.rows for file in files.values())

    training = Sequences.joined([parts[part] for part in TRAINING])
    if not len(training.users):
        raise DataError(f"{raw_dir}: train_A.txt, train_B.txt and train_overlap.txt are all empty.")
    if split == "loo":
        everyone = Sequences.joined([training, parts["valid"], parts["test"]])
        drawn, filters = draw_users(everyone.users, max_users, seed, "users")
        kept = {"": everyone.take(drawn)}
    else:
        for part in ("valid", "test"):
            if not len(parts[part].users):
                raise DataError(f"{paths[SEQUENCE_FILES[part]]}: has no rows; convert with --split loo.")
        drawn, filters = draw_users(training.users, max_users, seed, "training users (all evaluation users stay)")
        kept = {"train": training.take(drawn), "valid": parts["valid"], "test": parts["test"]}

    options: dict[str, object] = {"domains": ",".join(domains), "split": split}
    options |= describe_draws(max_users, overlap_ratio, recbole_benchmark, seed)
    described = {file.path: file.describe() for file in files.values()}
    release = Release(
        name=name,
        converter="llmcdsr",
        title="a release of LLMCDSR",
        description=f"two-domain purchase sequences ({domains[0]}, {domains[1]}) with item titles",
        domains=domains,
        parts=kept,
        items=items,
        text_types=TEXT_TYPES,
        files=[described.get(path) or source_files([path])[0] for path in paths.values()],
        rows={"read": read, "kept": sum(len(part.users) for part in kept.values()), "malformed": malformed},
        options=options,
        filters=filters,
        synthetic=synthetic,
    )
    return release.write(out_dir, overlap_ratio, seed, recbole_benchmark)


def _checked_domains(domains: tuple[str, str]) -> tuple[str, str]:
    if len(domains) != 2:
        raise ConfigError(f"--domains: an LLMCDSR release has two domains, {len(domains)} given; write `a,b`.")
    first, second = (check_domain_name(domain) for domain in domains)
    if first == second:
        raise ConfigError(f"--domains: both domains are called {first!r}; give two names.")
    return first, second


def _release_files(raw_dir: Path) -> dict[str, Path]:
    if not raw_dir.is_dir():
        raise DataError(f"{raw_dir}: no such folder; --raw takes the folder of an unpacked LLMCDSR release.")
    tables = [f"{kind}_{side}.pkl" for side in SIDES for kind in ("item_set", "text")]
    paths = {file: raw_dir / file for file in ["num.txt", *SEQUENCE_FILES.values(), *tables]}
    for file in SEQUENCE_FILES.values():
        if not paths[file].is_file() and (packed := raw_dir / f"{file}.gz").is_file():
            paths[file] = packed
    if missing := [file for file, path in paths.items() if not path.is_file()]:
        raise DataError(
            f"{raw_dir}: {', '.join(missing)} missing, which every LLMCDSR release has; unpack it completely."
        )
    return paths


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # universal newlines: `\r\n` arrives as `\n`
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}).") from error


def _read_counts(path: Path) -> tuple[int, int]:
    cells = _read_text(path).split()
    if len(cells) != 2 or not all(re.fullmatch("[0-9]+", cell) and int(cell) for cell in cells):
        raise DataError(f"{path}: expected two positive item counts, found {' '.join(cells)[:80]!r}.")
    return int(cells[0]), int(cells[1])


def _read_items(paths: dict[str, Path], side: str, count: int, domain: str) -> pd.DataFrame:
    set_path, text_path = paths[f"item_set_{side}.pkl"], paths[f"text_{side}.pkl"]
    indices = load_plain_dict(set_path, int)
    if len(indices) != count:
        raise DataError(f"{set_path}: holds {len(indices):,} items, but num.txt counts {count:,} for {side}.")
    by_index = sorted(indices, key=indices.__getitem__)
    if [indices[asin] for asin in by_index] != list(range(count)):
        raise DataError(f"{set_path}: the indices are not 0 to {count - 1:,}, each once.")
    if odd := [asin for asin in by_index if not re.fullmatch(r"\S+", asin)]:
        raise DataError(f"{set_path}: {odd[0]!r} cannot be an item id, it is empty or holds white space.")
    titles = load_plain_dict(text_path, str)
    if untitled := [asin for asin in by_index if asin not in titles]:
        raise DataError(
            f"{text_path}: {len(untitled):,} items of {set_path.name} have no title here, the first is {untitled[0]!r}."
        )
    return pd.DataFrame(
        {
            "item_id": [f"{domain}:{asin}" for asin in by_index],
            "domain": domain,
            "title": [titles[asin] for asin in by_index],
        }
    )


def _read_sequences(file: RawFile, part: str, counts: tuple[int, int], domains: tuple[str, str]) -> Sequences:
    """Return the rows of a file that can be understood; the others are reported to it."""
    users, sequences, line_numbers = [], [], []
    faults: dict[int, str] = {}
    for number, raw in file.lines():
        file.rows += 1
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{file.path}: cannot be read as UTF-8 text (line {number}, {error}).") from error
        if not (row := _ROW.fullmatch(line)):
            faults[number] = _fault_of_row(line)
            continue
        users.append(row[1].strip())
        sequences.append(row[2].split(","))
        line_numbers.append(number)
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))  # [U]
    items = np.array([item for sequence in sequences for item in sequence], dtype=object).astype(np.int64)  # [N]
    owners = np.repeat(np.arange(len(users)), lengths)  # [N]
    good = np.ones(len(users), dtype=bool)  # [U]

    def refuse(row: int, fault: str) -> None:
        faults.setdefault(line_numbers[row], fault)
        good[row] = False

    for row in np.flatnonzero(lengths < SHORTEST).tolist():
        refuse(
            row,
            f"user {users[row]!r} has {lengths[row]} item(s), but history and target need at least {SHORTEST}; "
            "remove the line.",
        )
    # The single-domain files hold items of their own domain only: anything else means A and B were confused.
    low, high = {"A": (0, counts[0]), "B": (counts[0], sum(counts))}.get(part, (0, sum(counts)))
    whose = f" of {domains[SIDES.index(part)]}" if part in SIDES else ""
    for position in np.flatnonzero((items < low) | (items >= high)).tolist():
        refuse(
            int(owners[position]),
            f"item {items[position]} is out of range: by num.txt the items{whose} are {low} to {high - 1}.",
        )
    for row in np.flatnonzero(pd.Series(users, dtype=object).duplicated().to_numpy()).tolist():
        refuse(row, f"user {users[row]!r} stands in this file twice; join the lines.")
    report_faults(file, faults)
    return Sequences(np.array([f"{part}:{user}" for user in users], dtype=object), lengths, items).take(good)


def _fault_of_row(line: str) -> str:
    cells = line.split("\t")
    if len(cells) != 2:
        return f"expected user<TAB>items, found {len(cells)} column(s)."
    if not cells[0].strip():
        return "the user is empty."
    if not cells[1].strip():
        return f"user {cells[0]!r} has no items; remove the line."
    return f"expected item numbers joined by commas, found {cells[1][:80]!r}."


def _warn_shared_users(parts: dict[str, Sequences]) -> None:
    """Numbered users repeat from file to file by design; a name that repeats may well be one person."""
    users = pd.Series(np.concatenate([part.users for part in parts.values()]), dtype=object)
    raw = users.str.partition(":")[2]
    shared = raw[raw.duplicated() & ~raw.str.fullmatch("[0-9]+").to_numpy(dtype=bool)].nunique()
    if shared:
        logging.getLogger().warning(
            "%d named users stand in several files of the release; they are taken for different users, as "
            "the release numbers users per file.",
            shared,
        )


def add_parser(sources: argparse._SubParsersAction) -> None:
    """Add `convert llmcdsr` to the command line."""
    parser = sources.add_parser(
        "llmcdsr",
        help="a release of LLMCDSR",
        description="Convert a release of LLMCDSR (num.txt, train_*.txt, valid.txt, test.txt, item_set_*.pkl "
        "and text_*.pkl) to a dataset of atomic files.",
    )
    add = parser.add_argument
    add("--raw", type=Path, required=True, metavar="DIR", help="folder of the release")
    add_output_options(parser)
    add("--domains", required=True, metavar="A,B", help="names of the release's domains A and B")
    add(
        "--split",
        choices=SPLITS,
        default="official",
        help="keep the release's own split (default), or join all its users for leave-one-out",
    )
    add(
        "--max-users",
        type=int,
        metavar="N",
        help="keep N users drawn at random: training users of the official split, all users for loo",
    )
    add_release_options(parser)
    parser.set_defaults(convert=_convert)


def _convert(args: argparse.Namespace) -> Path:
    check_split_options(args)
    return convert_llmcdsr(
        args.raw,
        args.name,
        tuple(args.domains.split(",")),
        args.out,
        split=args.split,
        max_users=args.max_users,
        seed=args.seed,
        overlap_ratio=args.overlap_ratio,
        recbole_benchmark=args.recbole_benchmark,
        max_malformed=parse_share(args.max_malformed, "--max-malformed"),
        synthetic=args.synthetic,
    )
