"""Text for items that are known by their asin alone, joined from Amazon's item details of any release."""

from __future__ import annotations

import json
import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_cdsr.convert import amazon_items
from recbole_cdsr.convert.amazon import CATEGORIES, COLLECTIONS
from recbole_cdsr.convert.interactions import Interactions
from recbole_cdsr.convert.options import parse_domains
from recbole_cdsr.convert.pipeline import check_malformed, read_item_table
from recbole_cdsr.convert.raw_file import RawFile, find_raw_file
from recbole_cdsr.convert.text import decode
from recbole_cdsr.errors import ConfigError, DataError


class AmazonDetails:
    """Amazon's item details of one domain, of the release that the file turns out to be of.

    Parameters
    ----------
    path : Path
        `meta_<Category>.json` or the like, plain or gzip.
    domain : str
        Whose items it describes.

    Raises
    ------
    DataError
        When it is not there.
    """

    def __init__(self, path: Path, domain: str) -> None:
        if not path.is_file():
            raise DataError(f"{path}: no such file; --metadata takes Amazon's item details, meta_<Category>.json.gz.")
        self.file = RawFile(path, domain)
        first = next(RawFile(path).lines(), (1, b""))[1]
        if b'"parent_asin"' in first:
            self.release = "2023"
        else:
            try:
                json.loads(decode(first))
                self.release = "2018"
            except ValueError:
                self.release = "2014"
        logging.getLogger().info("%s: %s is of %s", domain, path.name, COLLECTIONS[self.release])


class _Text:
    """What `read_item_table` asks of a source."""

    def __init__(self, details: Mapping[str, AmazonDetails]) -> None:
        self._releases = {domain: each.release for domain, each in details.items()}
        # Releases differ in their columns; `features` of 2023 comes before the description.
        columns = max((amazon_items.text_types(release) for release in self._releases.values()), key=len, default={})
        self.text_types: Mapping[str, str] = dict(columns)

    def read_items(self, file: RawFile, wanted: Container[str]) -> Iterator[tuple[str, Sequence[str]]]:
        release = self._releases[file.domain]
        own = list(amazon_items.text_types(release))
        for asin, cells in amazon_items.read_items(file, release, wanted):
            found = dict(zip(own, cells, strict=True))
            yield asin, [found.get(column, "") for column in self.text_types]


def item_table(
    asins: Sequence[Sequence[str]], domains: tuple[str, ...], details: Mapping[str, AmazonDetails], max_malformed: float
) -> tuple[pd.DataFrame, Mapping[str, str]]:
    """Return the item table of a whole catalogue and the types of its text columns.

    Parameters
    ----------
    asins : Sequence[Sequence[str]]
        Of each domain, in the order of the table.
    domains : tuple[str, ...]
        K names.
    details : Mapping[str, AmazonDetails]
        By domain; items of other domains have no text.
    max_malformed : float
        Largest share of malformed rows of the details.
    """
    text = _Text(details)
    catalogue = Interactions(
        users=np.empty(0, dtype=np.int32),
        items=np.empty(0, dtype=np.int32),
        times=np.empty(0),
        ratings=None,
        user_tokens=np.empty(0, dtype=object),
        item_tokens=np.array(
            [f"{domain}:{asin}" for domain, some in zip(domains, asins, strict=True) for asin in some], dtype=object
        ),
        item_domains=np.repeat(np.arange(len(domains)), [len(some) for some in asins]),
        domain_names=domains,
    )
    if not details:
        logging.getLogger().warning(
            "items have no text without --metadata; models with text need Amazon's item details (meta_<Category>.json)."
        )
    table = read_item_table(text, {domain: [each.file] for domain, each in details.items()}, catalogue)
    check_malformed([each.file for each in details.values()], max_malformed)
    return table, text.text_types


def find_metadata(entries: Sequence[str], domains: Sequence[str]) -> dict[str, Path]:
    """Return the file of item details of each domain.

    Parameters
    ----------
    entries : Sequence[str]
        `NAME=FILE` for each domain, or one folder with a file for the category of each.
    domains : Sequence[str]
        The domains of the dataset.
    """
    if not entries or "=" in entries[0]:
        values = parse_domains(None, list(entries), "--metadata") if entries else {}
        return {domain: Path(value) for domain, value in values.items()}
    if len(entries) > 1:
        raise ConfigError("--metadata: give one folder, or NAME=FILE for each domain.")
    found = {}
    for domain in domains:
        if domain not in CATEGORIES:
            raise ConfigError(
                f"--metadata: no category of Amazon is known for {domain!r}, only for {', '.join(CATEGORIES)}; "
                f"write --metadata {domain}=FILE."
            )
        names = [f"meta_{CATEGORIES[domain]}.json", f"meta_{CATEGORIES[domain]}.jsonl"]
        found[domain] = find_raw_file(Path(entries[0]), names, f"{names[0]}.gz in {COLLECTIONS['2018']}", "--metadata")
    return found
