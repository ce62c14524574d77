"""Recommendations as text: blocks for a person, JSON lines, tab-separated lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_cdsr.data.atomic import text_cells
from recbole_cdsr.data.dataset import CrossDomainDataset
from recbole_cdsr.errors import CDSRError
from recbole_cdsr.llm.item_features import read_items
from recbole_cdsr.llm.prompts import item_titles
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.llm.store import rows_of
from recbole_cdsr.recommend.histories import ServedHistories
from recbole_cdsr.recommend.new_items import NewItems
from recbole_cdsr.recommend.recommender import DomainLists

FORMATS = ("table", "jsonl", "tsv")
TITLE_WIDTH = 80
_TSV_HEADER = "user\tdomain\trank\titem\ttitle\tscore\n"


class ItemNames:
    """What items are called, known ones by internal id and new ones behind them.

    Attributes
    ----------
    tokens, titles, domains : list[str]
        ``[n_items + m]`` each; "" for padding.
    n_known : int
        n_items, padding included.
    """

    def __init__(self, data: CrossDomainDataset, new: NewItems | None = None) -> None:
        self.n_known = data.item_num
        self.tokens = ["", *map(str, data.id2token(data.iid_field, np.arange(1, data.item_num)))]
        self.titles = ["", *_titles(data, self.tokens[1:])]
        self.domains = ["", *(data.domain_names[domain] for domain in data.item_domain[1:].tolist())]
        if new is not None:
            self.tokens += new.tokens
            self.titles += new.titles
            self.domains += [data.domain_names[domain] for domain in new.domains.tolist()]


def _titles(data: CrossDomainDataset, tokens: list[str]) -> list[str]:
    """Titles ``[n]`` of items by token: their own, also where an experiment gave the model others'."""
    settings = FeatureSettings(data.config, data.dataset_name)
    try:
        frame = read_items(settings)
        titles = item_titles(frame, settings.item_prompt())
        rows = rows_of(frame["item_id"].tolist(), tokens)
    except CDSRError as error:  # a file that RecBole reads by settings of its own, as `field_separator`
        logging.getLogger().warning(f"Items are told by their tokens alone, for their titles cannot be read: {error}")
        return tokens
    return [titles[row] for row in rows.tolist()]


class Writer:
    """Turns lists of recommendations into text; a subclass for each format.

    Parameters
    ----------
    names
        Of all items that may occur.
    n_history
        Latest items of a history to tell; 0 tells none.
    """

    header = ""

    def __init__(self, names: ItemNames, n_history: int) -> None:
        self.names, self.n_history = names, n_history

    def text(self, histories: ServedHistories, rows: np.ndarray, lists: Sequence[DomainLists]) -> str:
        """The users at some places of `histories`, with the lists of each domain for them."""
        raise NotImplementedError

    def _latest(self, histories: ServedHistories, row: int) -> list[int]:
        stop = histories.pointers[row + 1]
        start = max(int(histories.pointers[row]), int(stop) - self.n_history)
        return histories.items[start:stop].tolist()


class TableWriter(Writer):
    """A block for each user: the latest history, then a list for each domain."""

    def text(self, histories: ServedHistories, rows: np.ndarray, lists: Sequence[DomainLists]) -> str:
        """As `Writer.text`."""
        blocks = []
        for place, row in enumerate(rows.tolist()):
            latest = self._latest(histories, row)
            length = int(histories.lengths[row])
            lines = [f"user {histories.names[row]}: {_items(length)} known" + self._shown(len(latest), length)]
            lines += [f"  {self.names.domains[item]:12s} {self._name(item)}" for item in latest]
            for of_domain in lists:
                lines += self._list(of_domain, place)
            blocks.append("\n".join(lines) + "\n")
        return "\n".join(blocks) + "\n"

    @staticmethod
    def _shown(n_shown: int, length: int) -> str:
        if n_shown == 0:
            return ""
        return ", oldest first" if n_shown == length else f", the latest {n_shown} of them"

    def _list(self, lists: DomainLists, place: int) -> list[str]:
        items, scores = lists.items[place].tolist(), lists.scores[place].tolist()
        domain = self.names.domains[next((item for item in items if item), 0)]
        if not domain:
            return []
        lines = [f"  recommended in {domain}: rank, score, item"]
        for rank, (item, score) in enumerate(zip(items, scores, strict=True), start=1):
            if item:
                lines.append(f"    {rank:3d} {score:10.4f}  {self._name(item)}")
        return lines

    def _name(self, item: int) -> str:
        title, token = self.names.titles[item], self.names.tokens[item]
        short = title if len(title) <= TITLE_WIDTH else f"{title[: TITLE_WIDTH - 1]}…"
        return f"{short} ({token})" + (", new" if item >= self.names.n_known else "")


class JsonLinesWriter(Writer):
    """An object for each user: `user`, `history`, `recommendations` (domain, rank, item, title, score)."""

    def __init__(self, names: ItemNames, n_history: int) -> None:
        super().__init__(names, n_history)
        # An item's part of a line is always the same.
        self._parts = [
            f'"domain": {json.dumps(domain)}, "item": {json.dumps(token, ensure_ascii=False)}, '
            f'"title": {json.dumps(title, ensure_ascii=False)}' + (', "new": true' if item >= names.n_known else "")
            for item, (token, title, domain) in enumerate(zip(names.tokens, names.titles, names.domains, strict=True))
        ]

    def text(self, histories: ServedHistories, rows: np.ndarray, lists: Sequence[DomainLists]) -> str:
        """As `Writer.text`."""
        parts, lines = self._parts, []
        found = [(of_domain.items.tolist(), of_domain.scores.tolist()) for of_domain in lists]
        for place, row in enumerate(rows.tolist()):
            entries = [
                f'{{{parts[item]}, "rank": {rank}, "score": {score:.9g}}}'
                for items, scores in found
                for rank, (item, score) in enumerate(zip(items[place], scores[place], strict=True), start=1)
                if item
            ]
            history = ""
            if self.n_history:
                latest = self._latest(histories, row)
                history = f'"history": [{", ".join(f"{{{parts[item]}}}" for item in latest)}], '
            user = json.dumps(str(histories.names[row]), ensure_ascii=False)
            lines.append(f'{{"user": {user}, {history}"recommendations": [{", ".join(entries)}]}}\n')
        return "".join(lines)


class TsvWriter(Writer):
    """A line for each recommended item, under a header; histories are not told."""

    header = _TSV_HEADER

    def __init__(self, names: ItemNames, n_history: int) -> None:
        super().__init__(names, n_history)
        tokens, titles = (self._cells(texts) for texts in (names.tokens, names.titles))
        self._parts = [f"{token}\t{title}" for token, title in zip(tokens, titles, strict=True)]

    def text(self, histories: ServedHistories, rows: np.ndarray, lists: Sequence[DomainLists]) -> str:
        """As `Writer.text`."""
        users = self._cells(histories.names[rows].tolist())
        found = [(of_domain.items.tolist(), of_domain.scores.tolist()) for of_domain in lists]
        parts, domains = self._parts, self.names.domains
        return "".join(
            f"{user}\t{domains[item]}\t{rank}\t{parts[item]}\t{score:.9g}\n"
            for place, user in enumerate(users)
            for items, scores in found
            for rank, (item, score) in enumerate(zip(items[place], scores[place], strict=True), start=1)
            if item
        )

    @staticmethod
    def _cells(texts: Sequence[str]) -> list[str]:
        return text_cells(Path("recommendations"), pd.Series(texts, dtype=object), "token_seq").tolist()


def writer_of(kind: str, names: ItemNames, n_history: int) -> Writer:
    """The writer of a format, one of `FORMATS`."""
    return {"table": TableWriter, "jsonl": JsonLinesWriter, "tsv": TsvWriter}[kind](names, n_history)


def _items(count: int) -> str:
    return f"{count} item" + "s" * (count != 1)
