"""`recbole-cdsr stats`: a dataset's card as a table, next to the figures that its authors published.

Figures are quoted from the source that the table names; where none is known, the table says `not published`. Nothing is
filled in from a run of ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from recbole_cdsr.config_names import check_folder_name, data_folder
from recbole_cdsr.data.atomic import read_header
from recbole_cdsr.data.card import DatasetCard, describe_interactions, load_card
from recbole_cdsr.data.loading import AtomicFile, interaction_files, refuse_repeated_items
from recbole_cdsr.errors import DataError
from recbole_cdsr.llm.feature_list import sets_in

NOT_PUBLISHED = "not published"


@dataclass(frozen=True)
class Published:
    """What is published of one dataset.

    Parameters
    ----------
    source : str
        Where the figures stand.
    figures : Mapping[str, float]
        By the name of the table's row.
    """

    source: str
    figures: Mapping[str, float]


# By converter, then by preset or, where there are no presets, by the domains.
PUBLISHED: Mapping[tuple[str, str], Published] = {
    ("llmcdsr", "food,kitchen"): Published(
        "Food-Kitchen, the files that the authors of LLMCDSR released",
        {
            "items of food": 8661,
            "items of kitchen": 27637,
            "training users of food only": 5472,
            "training users of kitchen only": 38191,
            "training users of several domains": 7501,
            "users of valid": 960,
            "users of test": 937,
        },
    ),
    ("c2dsr", "toy-game"): Published(
        "Toy-Game, item counts in dataProcessing.py of LeCDSR's repository",
        {"items of toy": 86491, "items of game": 22832},
    ),
}


def published_of(card: DatasetCard) -> Published | None:
    """Return what is published of the dataset a card describes, None if nothing is known.

    A preset that was changed is another dataset, and so are files that a program made.
    """
    if card.synthetic:
        return None
    preset = card.converter.get("preset", "")
    domains = ",".join(str(domain["name"]) for domain in card.domains)
    key = str(card.converter.get("name", "")), preset or domains
    return PUBLISHED.get(key)


def figures_of(card: DatasetCard, training: Mapping[str, int]) -> dict[str, float]:
    """Return the rows of the table by name.

    Parameters
    ----------
    card : DatasetCard
        The dataset's.
    training : Mapping[str, int]
        Users of the training file by the domain they are active in, see `training_users`.
    """
    rows: dict[str, float] = {}
    for domain in card.domains:
        rows[f"items of {domain['name']}"] = domain.get("items", 0)
        rows[f"interactions of {domain['name']}"] = domain.get("interactions", 0)
        rows[f"users of {domain['name']}"] = domain.get("users", 0)
    rows["users"] = card.users
    rows["users of several domains"] = card.overlapped_users
    rows["users of one domain"] = card.single_domain_users
    rows["interactions"] = card.interactions
    rows["density"] = card.density
    rows["interactions of a user, mean"] = card.interactions / card.users if card.users else 0.0
    for name, value in card.sequence_length.items():
        rows[f"interactions of a user, {name}"] = value
    rows |= training
    for part, counts in card.splits.items():
        rows[f"users of {part}"] = counts.get("users", 0)
        rows[f"interactions of {part}"] = counts.get("interactions", 0)
    return rows


def training_users(folder: Path, name: str, card: DatasetCard) -> dict[str, int]:
    """Count the users of the training file by the domains they are active in; empty where there is no such file.

    Parameters
    ----------
    folder : Path
        The dataset's.
    name : str
        Its name.
    card : DatasetCard
        Its card.
    """
    path = folder / f"{name}.train.inter"
    if not path.is_file():
        return {}
    rows = _read_tokens(path, ["user_id", "item_id"])
    domain_of = _read_items(folder, name).set_index("item_id")["domain"]
    pairs = pd.DataFrame({"user": rows["user_id"], "domain": rows["item_id"].map(domain_of)}).drop_duplicates()
    several = pairs["user"].duplicated(keep=False)
    counts = pairs.loc[~several, "domain"].value_counts()
    found = {f"training users of {domain['name']} only": int(counts.get(domain["name"], 0)) for domain in card.domains}
    found["training users of several domains"] = int(pairs.loc[several, "user"].nunique())
    return found


def _read_items(folder: Path, name: str) -> pd.DataFrame:
    """Return `item_id` and `domain` of every item; `DataError` for one that stands there twice, as loading has it."""
    path = folder / f"{name}.item"
    items = _read_tokens(path, ["item_id", "domain"])
    refuse_repeated_items(items["item_id"], AtomicFile(path))
    return items


def _read_tokens(path: Path, columns: list[str]) -> pd.DataFrame:
    types = read_header(path)
    if missing := [column for column in columns if column not in types]:
        raise DataError(f"{path}, line 1: there is no column `{missing[0]}:token`; convert the dataset again.")
    places = [list(types).index(column) for column in columns]
    try:
        frame = pd.read_csv(path, sep="\t", usecols=places, dtype=str, na_filter=False, encoding="utf-8")
    except (ValueError, OSError) as error:  # pandas' ParserError and UnicodeDecodeError are ValueErrors
        raise DataError(f"{path}: cannot be read as an atomic file ({' '.join(str(error).split())}).") from error
    return frame.rename(columns=lambda column: column.rpartition(":")[0])


def describe_files(folder: Path, name: str) -> DatasetCard:
    """Return the counts of a dataset that has no card, which is legal for one's own data."""
    files = interaction_files(folder, name)
    items = _read_items(folder, name)
    frames = {path.name.split(".")[-2]: _read_tokens(path, ["user_id", "item_id"]) for path in files}
    counts = describe_interactions(frames if len(files) > 1 else next(iter(frames.values())), items)
    return DatasetCard(name=name, **counts)


def table(card: DatasetCard, training: Mapping[str, int]) -> str:
    """Return the table that `recbole-cdsr stats` prints.

    Parameters
    ----------
    card : DatasetCard
        The dataset's.
    training : Mapping[str, int]
        See `training_users`.
    """
    published = published_of(card)
    figures = figures_of(card, training)
    cells = [
        (name, _show(value), _show(published.figures[name]) if published and name in published.figures else None)
        for name, value in figures.items()
    ]
    names = max(len(name) for name, _, _ in cells)
    width = max(len("here"), *(len(value) for _, value, _ in cells))
    lines = [_head(card), f"{'':{names}}  {'here':>{width}}  published"]
    lines += [f"{name:{names}}  {value:>{width}}  {known or NOT_PUBLISHED}" for name, value, known in cells]
    lines.append(f"published: {published.source}" if published else "published: no figures of this dataset are known")
    return "\n".join(lines)


def _head(card: DatasetCard) -> str:
    lines = []
    if card.synthetic:
        lines.append(f"SYNTHETIC DATA: {card.name} was made by a program; figures on it say nothing of reality")
    lines.append(f"{card.name}" + (f": {card.description}" if card.description else ""))
    if card.converter:
        options = " ".join(f"{key}={value}" for key, value in card.converter.get("options", {}).items())
        preset = f" preset={card.converter['preset']}" if card.converter.get("preset") else ""
        lines.append(f"made by {card.converter.get('name', '?')}{preset} {options}".rstrip())
    if card.rows:
        rows = ", ".join(f"{card.rows.get(kind, 0):,} {kind}" for kind in ("read", "kept", "malformed"))
        lines.append(f"rows: {rows}; split: {card.split or '?'}")
    return "\n".join([*lines, *(f"filter: {sentence}" for sentence in card.filters)])


def _show(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.3e}" if abs(value) < 0.01 else f"{value:,.2f}"


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `stats` to the command line; the parsed arguments go to `run`."""
    parser = subparsers.add_parser(
        "stats",
        help="print a dataset's figures next to published ones",
        description="Print the card of a dataset as a table, next to the figures that its authors published.",
    )
    parser.add_argument("name", metavar="NAME", help="name of the dataset")
    parser.add_argument(
        "--data-path", default="atomic_data", metavar="DIR", help="folder of datasets (default atomic_data)"
    )
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the table of a dataset, and who made the features beside it, and return the exit code 0."""
    name = check_folder_name(args.name)
    folder = Path(data_folder(args.data_path, name))
    interaction_files(folder, name)  # a dataset that is not there, or not whole, is answered first
    card = load_card(folder, name)
    if card is None:
        card = describe_files(folder, name)
    elif not card.domains:  # written by hand, without counts: zeros would be read as counted
        said = {key: getattr(card, key) for key in ("synthetic", "description", "source", "converter", "split")}
        card = replace(describe_files(folder, name), **said)
    print(table(card, training_users(folder, name, card)))
    if made := sets_in(folder / "features"):
        print(f"\nfeatures of {name}:\n{made}")
    return 0
