"""The LLMCDSR release (two domains A and B, pre-split by its authors) as atomic files.

Files of the release, read by name:

- `num.txt`: the number of items of A and of B;
- `train_A.txt`, `train_B.txt`, `train_overlap.txt`, `valid.txt`, `test.txt`: `user<TAB>i1,i2,...`, oldest
  first, 0-based items, those of B offset by the size of A. Users are numbered anew in each file;
- `item_set_X.pkl` {asin: 0-based index in X} and `text_X.pkl` {asin: title}.

The last item of a row of `valid.txt` and `test.txt` is the target.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_cdsr import __version__
from recbole_cdsr.convert.safe_pickle import load_plain_dict
from recbole_cdsr.data.atomic import check_dataset_name, check_domain_name, staged_directory, write_atomic
from recbole_cdsr.data.card import DatasetCard, describe_interactions, source_files
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.ranges import places_in_ranges

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
INTER_TYPES = {"user_id": "token", "item_id": "token", "timestamp": "float"}
ITEM_TYPES = {"item_id": "token", "domain": "token", "title": "token_seq"}
_ROW = re.compile(r" *([^\s][^\t]*)\t *([0-9]{1,18}(?: *, *[0-9]{1,18})*) *")


@dataclass(frozen=True)
class Sequences:
    """The rows of one or several sequence files, flat.

    Parameters
    ----------
    users : np.ndarray
        str `[U]`: user tokens, in file order.
    lengths : np.ndarray
        int64 `[U]`: items of each user.
    items : np.ndarray
        int64 `[lengths.sum()]`: 0-based items over both domains, a user's together and oldest first.
    """

    users: np.ndarray
    lengths: np.ndarray
    items: np.ndarray

    def take(self, rows: np.ndarray) -> Sequences:
        """Return the users at `rows` (bool `[U]`) with their items."""
        return Sequences(self.users[rows], self.lengths[rows], self.items[np.repeat(rows, self.lengths)])

    @staticmethod
    def joined(parts: list[Sequences]) -> Sequences:
        """Return all users of `parts`, one part after the other."""
        return Sequences(
            np.concatenate([part.users for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.items for part in parts]),
        )

    def interactions(self, item_tokens: np.ndarray) -> pd.DataFrame:
        """Return `.inter` rows; the release has no times, so the position in the sequence stands for it."""
        return pd.DataFrame(
            {
                "user_id": np.repeat(self.users, self.lengths),
                "item_id": item_tokens[self.items],
                "timestamp": places_in_ranges(self.lengths),
            }
        )


def convert_llmcdsr(
    raw_dir: Path,
    name: str,
    domains: tuple[str, str],
    out_dir: Path,
    split: str = "official",
    max_users: int | None = None,
    seed: int = 2026,
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
        Seed of that draw.

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
    domains = _checked_domains(domains)
    if split not in SPLITS:
        raise ConfigError(f"--split: {split!r} is unknown; choose one of {', '.join(SPLITS)}.")
    if max_users is not None and max_users < 1:
        raise ConfigError(f"--max-users: {max_users} leaves nobody; give 1 or more.")
    if seed < 0:
        raise ConfigError(f"--seed: {seed} is negative; give 0 or more.")

    # Read and check everything first, write afterwards.
    paths = _release_files(raw_dir)
    counts = _read_counts(paths["num.txt"])
    items = pd.concat(
        [_read_items(paths, side, count, domain) for side, count, domain in zip(SIDES, counts, domains, strict=True)],
        ignore_index=True,
    )
    shortest = 3 if split == "loo" else 2
    parts = {
        part: _read_sequences(paths[file], part, counts, domains, shortest) for part, file in SEQUENCE_FILES.items()
    }
    _warn_shared_users(parts)
    read = sum(len(part.users) for part in parts.values())

    training = Sequences.joined([parts[part] for part in TRAINING])
    if not len(training.users):
        raise DataError(f"{raw_dir}: train_A.txt, train_B.txt and train_overlap.txt are all empty.")
    if split == "loo":
        everyone = Sequences.joined([training, parts["valid"], parts["test"]])
        kept, filters = _draw(everyone, max_users, seed, "users")
        files = {"": kept}
    else:
        for part in ("valid", "test"):
            if not len(parts[part].users):
                raise DataError(f"{paths[SEQUENCE_FILES[part]]}: has no rows; convert with --split loo.")
        kept, filters = _draw(training, max_users, seed, "training users (all evaluation users stay)")
        files = {"train": kept, "valid": parts["valid"], "test": parts["test"]}
    frames = {part: rows.interactions(items["item_id"].to_numpy()) for part, rows in files.items()}

    options: dict[str, object] = {"domains": ",".join(domains), "split": split}
    if max_users is not None:
        options.update(max_users=max_users, seed=seed)
    card = DatasetCard(
        name=name,
        description=f"two-domain purchase sequences ({domains[0]}, {domains[1]}) with item titles",
        source={"title": "a release of LLMCDSR", "files": source_files(paths.values())},
        package_version=__version__,
        converter={"name": "llmcdsr", "options": options},
        split=split,
        filters=filters,
        rows={"read": read, "kept": sum(len(part.users) for part in files.values()), "malformed": 0},
        **describe_interactions(frames[""] if split == "loo" else frames, items),
    )
    with staged_directory(out_dir / name) as folder:
        for part, frame in frames.items():
            write_atomic(folder / (f"{name}.{part}.inter" if part else f"{name}.inter"), frame, INTER_TYPES)
        write_atomic(folder / f"{name}.item", items, ITEM_TYPES)
        card.save(folder)
    return out_dir / name


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


def _read_sequences(
    path: Path, part: str, counts: tuple[int, int], domains: tuple[str, str], shortest: int
) -> Sequences:
    users, sequences, line_numbers = [], [], []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        if not (row := _ROW.fullmatch(line)):
            raise DataError(f"{path}, line {number}: {_fault_of_row(line)}")
        users.append(row[1].strip())
        sequences.append(row[2].split(","))
        line_numbers.append(number)
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))  # [U]
    items = np.array([item for sequence in sequences for item in sequence], dtype=object).astype(np.int64)  # [N]
    lines = np.array(line_numbers, dtype=np.int64)  # [U]

    if (short := lengths < shortest).any():
        row = int(np.flatnonzero(short)[0])
        purpose = "history and target" if shortest == 2 else "training, validation and test"
        raise DataError(
            f"{path}, line {lines[row]}: user {users[row]!r} has {lengths[row]} item(s), but {purpose} need "
            f"at least {shortest}; remove the line."
        )
    # The single-domain files hold items of their own domain only: anything else means A and B were confused.
    low, high = {"A": (0, counts[0]), "B": (counts[0], sum(counts))}.get(part, (0, sum(counts)))
    if (outside := (items < low) | (items >= high)).any():
        position = int(np.flatnonzero(outside)[0])
        line = lines[int(np.searchsorted(np.cumsum(lengths), position, side="right"))]
        whose = f" of {domains[SIDES.index(part)]}" if part in SIDES else ""
        raise DataError(
            f"{path}, line {line}: item {items[position]} is out of range: by num.txt the items{whose} are "
            f"{low} to {high - 1}."
        )
    if (twice := pd.Series(users, dtype=object).duplicated()).any():
        row = int(np.flatnonzero(twice.to_numpy())[0])
        raise DataError(f"{path}, line {lines[row]}: user {users[row]!r} stands in this file twice; join the lines.")
    return Sequences(np.array([f"{part}:{user}" for user in users], dtype=object), lengths, items)


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


def _draw(sequences: Sequences, max_users: int | None, seed: int, whom: str) -> tuple[Sequences, list[str]]:
    """Return the users kept and what the card says of it."""
    total = len(sequences.users)
    if max_users is None or max_users >= total:
        return sequences, []
    rows = np.zeros(total, dtype=bool)
    rows[np.random.default_rng(seed).choice(total, size=max_users, replace=False)] = True
    return sequences.take(rows), [f"{max_users:,} of {total:,} {whom} drawn at random with seed {seed}"]
