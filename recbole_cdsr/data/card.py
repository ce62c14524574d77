"""The dataset card: what a dataset is, where it comes from and how large it is, as YAML beside its files.

Cards are printed when a dataset is loaded and copied into every result, so that no figure travels without the
word `synthetic` or the filters that shaped it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from recbole_cdsr.errors import DataError
from recbole_cdsr.files import replacing

# Kinds of features, as a reader is told of them.
FEATURE_NAMES = {"items": "items", "profiles": "profiles", "pseudo": "pseudo items"}
QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1.0}


@dataclass
class DatasetCard:
    """What is known of one dataset; everything but its name may be unknown.

    Parameters
    ----------
    name : str
        The dataset's name.
    synthetic : bool
        Whether any of it was made up by a program.
    description : str
        A sentence or two for a reader.
    source : dict
        `title` and `files`, a list of `{name, sha256, bytes}`, of converted row files also `rows`, and where some
        were malformed `malformed` and `malformed_lines` (number and fault of the first few); of Amazon's item details
        `titles_of_script`, where there are titles that were left empty as they hold a script of the scraped page.
    package_version : str
        Version of recbole-cdsr that wrote the dataset.
    converter : dict
        `name`, `preset` if there was one, and `options` of what wrote it.
    split : str
        `loo` (one file, leave-one-out) or `official` (the release's own split, flat files).
    filters : list[str]
        What was left out of the source, one sentence each.
    rows : dict
        `read`, `kept` and `malformed` rows of the source.
    domains : list[dict]
        Per domain in order: `name`, `items`, `interactions`, `users`, and `items_without_text` if there are any.
    users, overlapped_users, single_domain_users, interactions : int
        Counts over all files; an overlapped user has interactions in at least two domains.
    density : float
        interactions / (users * items), in [0, 1].
    sequence_length : dict
        Quantiles of the interactions per user: `min`, `q25`, `median`, `q75`, `q95`, `max`.
    splits : dict
        For pre-split data `users` and `interactions` of `train`, `valid` and `test` (histories included).
    features : dict
        Who made features of it, by kind (`items`, `profiles`, `pseudo`): a list of `{made_by, encoder}` each, the first
        one first. Added when features are made or read (`card_features`), never by a converter.
    """

    name: str
    synthetic: bool = False
    description: str = ""
    source: dict[str, Any] = field(default_factory=dict)
    package_version: str = ""
    converter: dict[str, Any] = field(default_factory=dict)
    split: str = ""
    filters: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    domains: list[dict[str, Any]] = field(default_factory=list)
    users: int = 0
    overlapped_users: int = 0
    single_domain_users: int = 0
    interactions: int = 0
    density: float = 0.0
    sequence_length: dict[str, float] = field(default_factory=dict)
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    features: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for YAML and JSON, in the order of the fields; no `features` as long as there are none."""
        return {key: value for key, value in asdict(self).items() if value or key != "features"}

    def save(self, dataset_dir: Path) -> Path:
        """Write `<name>.card.yaml` into `dataset_dir` and return its path."""
        path = card_path(dataset_dir, self.name)
        text = as_yaml(self.to_dict())
        try:
            with replacing(path) as part:
                part.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}).") from error
        return path

    def describe(self) -> str:
        """Return a few lines for a person; the first says so loudly if the data are synthetic."""
        lines = []
        if self.synthetic:
            lines.append(f"SYNTHETIC DATA: {self.name} was made by a program; figures on it say nothing of reality")
        lines.append(f"dataset {self.name}" + (f": {self.description}" if self.description else ""))
        if title := self.source.get("title"):
            lines.append(f"  source       {title}")
        if self.converter:
            options = " ".join(f"{key}={value}" for key, value in self.converter.get("options", {}).items())
            lines.append(f"  made by      {self.converter.get('name', '?')} {options}".rstrip())
            if preset := self.converter.get("preset"):
                lines.append(f"  preset       {preset}")
        lines += [f"  filter       {sentence}" for sentence in self.filters]
        if self.rows.get("malformed"):
            lines.append(f"  rows         {self.rows.get('read', 0):,} read, {self.rows['malformed']:,} malformed")
        lines += [
            f"  domain       {domain['name']}: {domain.get('items', 0):,} items, "
            f"{domain.get('interactions', 0):,} interactions of {domain.get('users', 0):,} users"
            for domain in self.domains
        ]
        if self.users:
            lines.append(
                f"  users        {self.users:,} ({self.overlapped_users:,} overlapped, "
                f"{self.single_domain_users:,} single-domain)"
            )
            lines.append(f"  interactions {self.interactions:,}, density {self.density:.2e}")
        if self.sequence_length:
            lengths = ", ".join(f"{key} {value:g}" for key, value in self.sequence_length.items())
            lines.append(f"  length       {lengths}")
        if self.split:
            counts = ", ".join(
                f"{part} {count.get('users', 0):,} users / {count.get('interactions', 0):,} rows"
                for part, count in self.splits.items()
            )
            lines.append(f"  split        {self.split}" + (f" ({counts})" if counts else ""))
        lines += [
            f"  features     {FEATURE_NAMES.get(kind, kind)} made by {entry['made_by']} with {entry['encoder']}"
            for kind, entries in self.features.items()
            for entry in entries
        ]
        return "\n".join(lines)


def as_yaml(content: Mapping[str, Any]) -> str:
    """Return plain data as cards write it."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def card_path(dataset_dir: Path, name: str) -> Path:
    """Return where the card of dataset `name` lies in its folder."""
    return Path(dataset_dir) / f"{name}.card.yaml"


def card_lock_path(dataset_dir: Path, name: str) -> Path:
    """Return the file that is locked while features are noted in the card; a killed process leaves it behind."""
    return Path(dataset_dir) / f".{card_path(dataset_dir, name).name}.lock"


def load_card(dataset_dir: Path, name: str) -> DatasetCard | None:
    """Read a dataset's card; `None` when it has none, which is legal for one's own data.

    Raises
    ------
    DataError
        For broken YAML, an unknown key or a value of the wrong kind, naming the file and the key.
    """
    path = card_path(dataset_dir, name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: a 13th month, no UTF-8
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: the dataset card is not readable YAML ({reason}); mend or delete it.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: the dataset card must be a mapping of keys to values; mend or delete it.")
    _check_kinds(path, content)
    return DatasetCard(**{"name": name, **content})


def _check_kinds(path: Path, content: Mapping[str, Any]) -> None:
    kinds = {each.name: type(getattr(DatasetCard(name=""), each.name)) for each in fields(DatasetCard)}
    for key, value in content.items():
        if key not in kinds:
            raise DataError(f"{path}: the dataset card has an unknown key {key!r}; known are {', '.join(kinds)}.")
        accepted = (int, float) if kinds[key] is float else kinds[key]
        # YAML's `yes` is True and True is an int: a flag in the place of a count is a mistake all the same.
        if not isinstance(value, accepted) or (isinstance(value, bool) and kinds[key] is not bool):
            raise DataError(f"{path}: {key} must be a {kinds[key].__name__}, found {value!r}.")
    entries = content.get("features", {}).values()
    if odd := [each for each in entries if not _are_feature_entries(each)]:
        raise DataError(f"{path}: every kind in features must list made_by and encoder as text, found {odd[0]!r}.")
    if odd := [each for each in content.get("domains", []) if not isinstance(each, dict) or "name" not in each]:
        raise DataError(f"{path}: every entry of domains must be a mapping with a name, found {odd[0]!r}.")
    if odd := [each for each in content.get("splits", {}).values() if not isinstance(each, dict)]:
        raise DataError(f"{path}: every entry of splits must be a mapping of counts, found {odd[0]!r}.")
    for key, inner in (("converter", "options"), ("source", "files")):
        wanted = dict if inner == "options" else list
        if not isinstance(content.get(key, {}).get(inner, wanted()), wanted):
            raise DataError(f"{path}: {key}.{inner} must be a {wanted.__name__}, found {content[key][inner]!r}.")
    files = content.get("source", {}).get("files", [])
    if odd := [each for each in files if not isinstance(each, dict) or not isinstance(each.get("name"), str)]:
        raise DataError(f"{path}: every entry of source.files must be a mapping with a name, found {odd[0]!r}.")
    domains = [{name: count for name, count in each.items() if name != "name"} for each in content.get("domains", [])]
    counted = [content.get("rows", {}), *domains, *content.get("splits", {}).values()]
    counts = [count for counts in counted for count in counts.values()]
    for value in (*counts, *content.get("sequence_length", {}).values()):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise DataError(f"{path}: rows, domains, splits and sequence_length hold numbers, found {value!r}.")


def _are_feature_entries(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, dict)
        and {"made_by", "encoder"} <= entry.keys()
        and all(isinstance(e, str) for e in entry.values())
        for entry in value
    )


def source_files(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Return `{name, sha256, bytes}` of each file; names carry no folder, which says nothing to others."""
    described = []
    for path in paths:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        described.append({"name": path.name, "sha256": digest, "bytes": path.stat().st_size})
    return described


def describe_interactions(
    interactions: pd.DataFrame | Mapping[str, pd.DataFrame], items: pd.DataFrame
) -> dict[str, Any]:
    """Count what a card states of the data, as keyword arguments of `DatasetCard`.

    Parameters
    ----------
    interactions : pd.DataFrame or Mapping[str, pd.DataFrame]
        Columns `user_id` and `item_id`; a mapping for pre-split data, whose parts are counted one by one too.
    items : pd.DataFrame
        Columns `item_id` and `domain`, in the order of `.item`.

    Returns
    -------
    dict
        `domains`, `users`, `overlapped_users`, `single_domain_users`, `interactions`, `density`,
        `sequence_length` and, for pre-split data, `splits`.

    Raises
    ------
    DataError
        When an interaction names an item that `items` lacks.
    """
    parts = dict(interactions) if isinstance(interactions, Mapping) else {"": interactions}
    merged = pd.concat([part[["user_id", "item_id"]] for part in parts.values()], ignore_index=True)
    item_rows = pd.Index(items["item_id"]).get_indexer(merged["item_id"])  # [N]
    if (item_rows < 0).any():
        missing = merged["item_id"].iloc[int(np.flatnonzero(item_rows < 0)[0])]
        raise DataError(f"item {missing!r} has interactions but does not stand in .item.")
    domain_of_item, names = pd.factorize(items["domain"])  # [n_items], in order of appearance
    users, _ = pd.factorize(merged["user_id"])  # [N]
    stops = np.cumsum([len(part) for part in parts.values()])
    numbered = {
        name: (users[stop - len(part) : stop], item_rows[stop - len(part) : stop])
        for (name, part), stop in zip(parts.items(), stops, strict=True)
    }
    return count_interactions(numbered, domain_of_item, names)


def count_interactions(
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]], item_domains: np.ndarray, domain_names: Sequence[str]
) -> dict[str, Any]:
    """Count what `describe_interactions` counts, of users and items that are numbers already.

    Parameters
    ----------
    parts : Mapping[str, tuple[np.ndarray, np.ndarray]]
        int `[n]` each, users and items: `{"": ...}` for data in one file, or one entry for each split.
    item_domains : np.ndarray
        int `[n_items]`, index of the domain of each item.
    domain_names : Sequence[str]
        K names.
    """
    n_domains, n_items = len(domain_names), len(item_domains)
    n_users = max((int(users.max(initial=-1)) + 1 for users, _ in parts.values()), default=0)
    counts = np.zeros(n_users * n_domains, dtype=np.int64)
    for users, items in parts.values():
        counts += np.bincount(users.astype(np.int64) * n_domains + item_domains[items], minlength=len(counts))
    counts = counts.reshape(n_users, n_domains)
    counts = counts[counts.any(axis=1)]  # [U, K] interactions of a user in a domain; numbers may be unused
    n_users = len(counts)
    lengths = counts.sum(axis=1)  # [U]
    n_interactions = int(lengths.sum())
    overlapped = int(((counts > 0).sum(axis=1) > 1).sum())
    described: dict[str, Any] = {
        "domains": [
            {
                "name": str(domain_names[k]),
                "items": int((item_domains == k).sum()),
                "interactions": int(counts[:, k].sum()),
                "users": int((counts[:, k] > 0).sum()),
            }
            for k in range(n_domains)
        ],
        "users": n_users,
        "overlapped_users": overlapped,
        "single_domain_users": n_users - overlapped,
        "interactions": n_interactions,
        "density": float(f"{n_interactions / max(1, n_users * n_items):.6g}"),
        "sequence_length": {key: float(np.quantile(lengths, q)) for key, q in QUANTILES.items()} if n_users else {},
    }
    if set(parts) != {""}:
        described["splits"] = count_splits({part: users for part, (users, _) in parts.items()})
    return described


def count_splits(users: Mapping[str, np.ndarray]) -> dict[str, dict[str, int]]:
    """Return `users` and `interactions` of each part of a split, given the user of each row."""
    return {part: {"users": len(np.unique(rows)), "interactions": len(rows)} for part, rows in users.items()}
