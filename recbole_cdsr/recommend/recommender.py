"""The best items of each domain for many users at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from recbole.utils import ModelType

from recbole_cdsr.config_data import TARGET_DOMAIN
from recbole_cdsr.data.loaders import SCORES_PER_BATCH
from recbole_cdsr.data.sequences import Rows
from recbole_cdsr.data.windows import WindowCutter
from recbole_cdsr.errors import CDSRError
from recbole_cdsr.model.trimmed_windows import TRIMMABLE
from recbole_cdsr.ranges import expand_ranges
from recbole_cdsr.recommend.histories import ServedHistories
from recbole_cdsr.recommend.new_items import NewItems, NewItemScores
from recbole_cdsr.recommend.ranking import best_places
from recbole_cdsr.trained_run import TrainedRun
from recbole_cdsr.trainer.judging import FullScores

# Users whose lists are held at a time; they are ordered by length among themselves and come out as they went in.
USERS_AT_ONCE = 4096
# Scores are read several times, so that those of a batch should stay in a processor's cache (4 MiB): five times as fast
# for SASRec on 10,000 items as batches of 128 MiB. Below some rows a batch costs what a batch costs anyway.
SCORES_IN_CACHE = 2**20
# Our models call more and smaller operations a batch, so that twice as many rows pay.
OUR_SCORES_IN_CACHE = 2**21
ROWS_WORTH_A_BATCH = 64
# These draw what only training reads, at a Python loop over the rows.
_TRAINING_TRANSFORMS = ("mask_itemseq", "crop_itemseq", "reorder_itemseq")


@dataclass(frozen=True, eq=False)
class DomainLists:
    """The best items of one domain for R users.

    Attributes
    ----------
    domain : int
        0-based.
    items : np.ndarray
        int64 ``[R, k]``, best first and of equal scores the lower number first: internal ids, or ``n_items + j`` for
        new item j; 0 where a user has fewer candidates than k.
    scores : np.ndarray
        float32 ``[R, k]``, −∞ where there is no item.
    """

    domain: int
    items: np.ndarray
    scores: np.ndarray


class Recommender:
    """Ranks the items of domains for users by the scores of a trained model.

    Parameters
    ----------
    run
        The trained run.
    domains
        0-based, which to recommend from; a list is made for each, for scores of different domains do not compare.
    topk
        Items of each list, 1 or more.
    keep_history
        Whether items of a user's history may be recommended.
    new_items
        Items that the model was not trained on, ranked among the others.
    only_new
        Rank new items alone.

    Attributes
    ----------
    new_items : NewItems | None
        As given.

    Raises
    ------
    CDSRError
        The model cannot be restored, or cannot score new items.
    """

    def __init__(
        self,
        run: TrainedRun,
        domains: Sequence[int],
        topk: int,
        keep_history: bool = False,
        new_items: NewItems | None = None,
        only_new: bool = False,
    ) -> None:
        self._data, self._config = run.data, run.config
        self._domains, self._topk = list(domains), topk
        self._keep_history, self.new_items, self._only_new = keep_history, new_items, only_new
        names = self._data.domain_names
        self._files = [run.checkpoint_of(names[domain]) for domain in self._domains]
        self._by_model: dict[int, tuple[_Scorer, list[int]]] = {}
        for domain in self._domains:
            model = run.model_of(names[domain])
            if id(model) not in self._by_model:
                new_scores = None if new_items is None else NewItemScores(run, model, new_items)
                self._by_model[id(model)] = (_Scorer(run, model, new_scores), [])
            self._by_model[id(model)][1].append(domain)
        self._is_sequential = self._config["MODEL_TYPE"] == ModelType.SEQUENTIAL
        self._is_ours = getattr(self._config.model_class, "rows_per", None) is not None
        # RecBole's models may depend on the padded width; those of TRIMMABLE are known not to.
        self._fixed_width = not self._is_ours and self._config["model"] not in TRIMMABLE
        self._transform = None
        if self._is_sequential and self._config["transform"] not in (None, *_TRAINING_TRANSFORMS):
            self._transform = construct_transform(self._config)

    def described(self) -> list[Any]:
        """As plain data all that lists depend on beside the histories: the checkpoints, what is ranked, the batches."""
        files = [path.stat() for path in self._files]
        return [
            [[file.st_size, file.st_mtime_ns] for file in files],
            [self._domains, self._topk, self._keep_history, self._only_new],
            [str(self._config["device"]), self._config["eval_batch_size"]],
        ]

    @property
    def models(self) -> list[torch.nn.Module]:
        """The models that score, one for each checkpoint in use."""
        return [scorer.model for scorer, _ in self._by_model.values()]

    def lists(self, histories: ServedHistories, begin: int = 0) -> Iterator[tuple[np.ndarray, list[DomainLists]]]:
        """Lists for all users from place `begin` on, some thousand at a time.

        Yields
        ------
        (rows, lists)
            int64 ``[R']``, consecutive places in `histories`, and the lists of each domain for them.

        Raises
        ------
        CDSRError
            A score is NaN or infinite.
        """
        for first in range(begin, len(histories), USERS_AT_ONCE):
            rows = np.arange(first, min(first + USERS_AT_ONCE, len(histories)))
            yield rows, self._lists_of(histories, rows)

    @torch.no_grad()
    def _lists_of(self, histories: ServedHistories, rows: np.ndarray) -> list[DomainLists]:
        data, n_users = self._data, len(rows)
        lengths = np.minimum(histories.lengths[rows], data.config["MAX_ITEM_LIST_LENGTH"] or np.inf)
        order = np.argsort(-lengths, kind="stable")  # the longest batch first: memory runs out at once, or never
        found = {domain: self._empty_lists(domain, n_users) for domain in self._domains}
        for scorer, domains in self._by_model.values():
            at_once = self._rows_at_once(scorer)
            for begin in range(0, n_users, at_once):
                places = order[begin : begin + at_once]
                interaction = self._interaction(histories, rows[places], domains)
                scores, new_scores = scorer.of(interaction)
                if not self._keep_history:
                    scores[_pairs(histories, rows[places])] = -math.inf
                for domain in domains:
                    lists = found[domain]
                    lists.items[places], lists.scores[places] = self._best(scores, new_scores, domain)
        return [found[domain] for domain in self._domains]

    def _rows_at_once(self, scorer: _Scorer) -> int:
        n_items = self._data.item_num
        wanted = SCORES_PER_BATCH // n_items
        if self._config["device"].type == "cpu":
            in_cache = OUR_SCORES_IN_CACHE if self._is_ours else SCORES_IN_CACHE
            wanted = min(wanted, max(in_cache // n_items, ROWS_WORTH_A_BATCH))
        return max(1, min(wanted, self._config["eval_batch_size"], scorer.rows_at_once))

    def _empty_lists(self, domain: int, n_users: int) -> DomainLists:
        width = min(self._topk, len(self._candidates(domain)))
        items = np.zeros((n_users, width), dtype=np.int64)
        return DomainLists(domain, items, np.full((n_users, width), -np.inf, dtype=np.float32))

    def _candidates(self, domain: int) -> np.ndarray:
        """int64, the candidates of a domain: internal ids, then ``n_items + j`` of new items j."""
        low, high = self._data.domain_offsets[domain : domain + 2]
        known = np.arange(low, low if self._only_new else high)
        if self.new_items is None:
            return known
        return np.concatenate([known, self._data.item_num + self.new_items.of_domain(domain)])

    def _best(
        self, scores: torch.Tensor, new_scores: torch.Tensor | None, domain: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Items ``[B, k]`` and scores ``[B, k]`` of a batch, best first and of equal ones the lower id first."""
        candidates = self._candidates(domain)
        low, high = (int(offset) for offset in self._data.domain_offsets[domain : domain + 2])
        parts = [] if self._only_new else [scores[:, low:high]]
        if new_scores is not None:
            parts.append(new_scores[:, torch.from_numpy(self.new_items.of_domain(domain)).to(new_scores.device)])
        inside = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]  # [B, C]
        values, places = best_places(inside, min(self._topk, inside.shape[1]))  # [B, k]
        if (torch.isnan(values) | torch.isposinf(values)).any():  # NaN counts as the greatest
            raise CDSRError(
                f"{self._config['model']} gives scores that are not finite numbers for items of "
                f"{self._data.domain_names[domain]}; its training failed, so train it again."
            )
        values = values.float().cpu().numpy()
        return np.where(np.isneginf(values), 0, candidates[places.cpu().numpy()]), values

    # ------------------------------------------------------------------------------------------------ rows
    def _interaction(self, histories: ServedHistories, rows: np.ndarray, domains: list[int]) -> Interaction:
        """What a model reads of some users: `user_id`, and for a sequential model the window of their latest items."""
        data = self._data
        fields = {data.uid_field: torch.from_numpy(histories.user_ids[rows])}
        if self._is_sequential:
            cutter = WindowCutter(
                {data.iid_field: torch.from_numpy(histories.items)}, data.max_item_list_len, self._fixed_width
            )
            windows = cutter.cut(Rows(histories.pointers[rows], histories.pointers[rows + 1]))
            fields[getattr(data, f"{data.iid_field}_list_field")] = windows.values(data.iid_field)
            fields[data.item_list_length_field] = torch.from_numpy(windows.lengths)
        if self._is_ours and len(domains) == 1:
            fields[TARGET_DOMAIN] = torch.full((len(rows),), domains[0], dtype=torch.int64)
        batch = Interaction(fields)
        if not self._is_ours:
            batch = data.join(batch)
        return batch if self._transform is None else self._transform(data, batch)


def _pairs(histories: ServedHistories, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Places in `rows` and items, int64 ``[N]`` each, of all that is in the histories of some users."""
    starts = histories.pointers[rows]
    owners, flat = expand_ranges(starts, histories.pointers[rows + 1] - starts)
    return torch.from_numpy(owners), torch.from_numpy(histories.items[flat])


class _Scorer:
    """Scores of known and of new items by one model."""

    def __init__(self, run: TrainedRun, model: torch.nn.Module, new_scores: NewItemScores | None) -> None:
        self.model, self._n_items, self._new = model, run.data.item_num, new_scores
        self._scores = FullScores(
            model, run.data, run.config["eval_batch_size"], run.config["device"], may_be_wider=new_scores is not None
        )
        self.rows_at_once = self._scores.rows_at_once or SCORES_PER_BATCH

    def of(self, interaction: Interaction) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Scores ``[B, n_items]`` and ``[B, m]`` of the m new items; None where there are none."""
        scores = self._scores.of(interaction)
        if self._new is None:
            return scores, None
        return scores[:, : self._n_items], self._new.of(interaction, scores)
