"""The rank of every row's target among its candidates, for all candidate sets, from one score matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recbole_cdsr.errors import CDSRError, ConfigError
from recbole_cdsr.evaluator.candidates import CandidateSampler, CandidateSpec, candidate_blocks
from recbole_cdsr.evaluator.counting import better_and_equal
from recbole_cdsr.evaluator.rows import EvaluationRows


@dataclass(frozen=True, eq=False)
class Ranking:
    """What a set of rows (a batch, or a whole pass) got for one candidate set.

    Attributes
    ----------
    ranks
        int64 ``[B]``, from 1. With RecBole's ties 0 stands for a target beyond the largest of ``topk``.
    mean_ranks
        float64 ``[B]``, 1 + #better + ½ · #equal, not rounded.
    n_ranked
        int64 ``[B]``, number of candidates, the target included.
    top_items
        int64 ``[B, max(topk)]``, item ids in falling order of score, the target among the candidates; None
        unless a metric reads it.
    """

    ranks: np.ndarray
    mean_ranks: np.ndarray
    n_ranked: np.ndarray
    top_items: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class _BlockSlice:
    """The part of a score matrix that holds one block of candidates, items ``low .. high - 1``."""

    members: Tensor  # [b], rows of the batch whose candidates come from the block
    low: int
    high: int
    scores: Tensor  # [b, high - low], not to be written to


@dataclass(frozen=True, eq=False)
class _Batch:
    """A batch of rows on the device of its scores."""

    scores: Tensor  # [B, n_items]
    targets: Tensor  # [B]
    target_scores: Tensor  # [B, 1]
    slices: list[_BlockSlice]


class CandidateRanker:
    """Ranks targets for every entry of ``eval_candidates`` off the same full scores.

    With ``ties="half"`` a target's rank is ⌈1 + #better + ½ · #equal⌉, where *better* and *equal* count the
    other candidates with a score above or equal to the target's: a model that scores all candidates alike
    ranks in the middle. With ``ties="recbole"`` it is the place that ``torch.topk`` gives it over the whole
    ``[B, n_items]`` matrix in which everything but the candidates stands at −inf, as in RecBole's trainer and
    collector.

    Parameters
    ----------
    rows
        The split.
    specs
        Entries of ``eval_candidates``.
    eval_seed
        Seed of the sampled candidates.
    exclude_history
        Leave the row's input history out of ``full``, except the target itself.
    ties
        ``"half"`` or ``"recbole"``.
    candidate_domains
        ``"target"``: candidates come from the target's domain; ``"all"``: from every domain.
    n_top
        Largest of ``topk``.
    with_top_items
        Return ``top_items`` as well.
    model_name
        Named when scores are not numbers.
    """

    def __init__(
        self,
        rows: EvaluationRows,
        specs: list[CandidateSpec],
        *,
        eval_seed: int,
        exclude_history: bool,
        ties: str,
        candidate_domains: str,
        n_top: int,
        with_top_items: bool = False,
        model_name: str = "the model",
    ) -> None:
        if ties == "recbole" and n_top > rows.n_items:
            raise ConfigError(
                f"topk reaches {n_top}, but there are {rows.n_items - 1} items: lower topk or set ties: half."
            )
        self._rows = rows
        self._specs = specs
        self._exclude_history = exclude_history
        self._ties = ties
        self._n_top = n_top
        self._with_top_items = with_top_items
        self._model_name = model_name
        row_blocks, block_offsets = candidate_blocks(rows, candidate_domains)
        self._row_blocks = row_blocks
        self._block_offsets = block_offsets
        self._samplers = {
            spec.name: CandidateSampler(spec, eval_seed, rows, candidate_domains)
            for spec in specs
            if spec.kind != "full"
        }

    def rank(self, scores: Tensor, row_indices: np.ndarray) -> dict[str, Ranking]:
        """Rank the targets of some rows.

        Parameters
        ----------
        scores
            Floating point ``[B, n_items]`` on any device; −inf is a score like any other.
        row_indices
            int64 ``[B]``, the rows the scores belong to.

        Returns
        -------
        dict[str, Ranking]
            One entry for each candidate set, in the order of ``specs``.

        Raises
        ------
        CDSRError
            A score in the domains that candidates come from is NaN.
        ConfigError
            A metric reads the top items and a row has fewer candidates than the largest of ``topk``.
        """
        device = scores.device
        targets = torch.from_numpy(self._rows.targets[row_indices]).to(device)  # [B]
        batch = _Batch(
            scores=scores,
            targets=targets,
            target_scores=scores.gather(1, targets[:, None]),  # [B, 1]
            slices=self._slices(scores, row_indices),
        )
        self._refuse_nan(batch, row_indices)
        rankings: dict[str, Ranking] = {}
        for spec in self._specs:
            if spec.kind == "full":
                history = self._excluded_pairs(row_indices, device)
                if self._ties == "recbole":
                    rankings[spec.name] = self._rank_by_topk(batch, self._full_masked(batch, history))
                else:
                    rankings[spec.name] = self._rank_full(batch, history)
            else:
                candidates = self._samplers[spec.name].candidates(row_indices)
                items = torch.from_numpy(candidates).to(device).long()  # [B, width], 0 = none
                if self._ties == "recbole":
                    rankings[spec.name] = self._rank_by_topk(batch, self._sampled_masked(batch, items))
                else:
                    rankings[spec.name] = self._rank_sampled(batch, items)
            self._refuse_short_lists(rankings[spec.name], spec)
        return rankings

    def _slices(self, scores: Tensor, row_indices: np.ndarray) -> list[_BlockSlice]:
        """Cut ``[B, n_items]`` scores into the blocks that the rows' candidates come from."""
        blocks = self._row_blocks[row_indices]
        slices = []
        for block in np.unique(blocks):
            members = torch.from_numpy(np.flatnonzero(blocks == block)).to(scores.device)
            low, high = self._block_offsets[[block, block + 1]].tolist()
            slices.append(_BlockSlice(members, low, high, scores[members, low:high]))
        return slices

    def _refuse_nan(self, batch: _Batch, row_indices: np.ndarray) -> None:
        for part in batch.slices:
            # A maximum hands NaN on, and costs one pass without a matrix of its own.
            broken = torch.nonzero(torch.isnan(part.scores.amax(dim=1)))
            if len(broken):
                member = int(broken[0])
                item = part.low + int(torch.nonzero(torch.isnan(part.scores[member]))[0])
                row = int(row_indices[int(part.members[member])])
                raise CDSRError(
                    f"{self._model_name} scored item {item} NaN for {self._rows.split} row "
                    f"{self._rows.row_keys[row]} (user {self._rows.users[row]}): its parameters have most "
                    f"likely diverged, train with a smaller learning_rate or clip_grad_norm."
                )

    def _refuse_short_lists(self, ranking: Ranking, spec: CandidateSpec) -> None:
        if not self._with_top_items or self._ties == "recbole":  # RecBole fills up with whatever stands at −inf
            return
        if ranking.n_ranked.min(initial=self._n_top) < self._n_top:
            raise ConfigError(
                f"A metric that looks at the recommended items needs {self._n_top} of them, the largest of "
                f"topk, but a {self._rows.split} row has {ranking.n_ranked.min()} candidates under "
                f"{spec.name}: lower topk."
            )

    def _excluded_pairs(self, row_indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """History items that are no candidates of ``full``: batch positions and items, int64 ``[P]`` each."""
        if self._exclude_history:
            positions, items = self._rows.history_items(row_indices)
            blocks = self._row_blocks[row_indices][positions]
            inside = (items >= self._block_offsets[blocks]) & (items < self._block_offsets[blocks + 1])
            inside &= items != self._rows.targets[row_indices][positions]
            positions, items = positions[inside], items[inside]
        else:
            positions = items = np.zeros(0, dtype=np.int64)
        return torch.from_numpy(positions).to(device), torch.from_numpy(items).to(device)

    def _rank_full(self, batch: _Batch, history: tuple[Tensor, Tensor]) -> Ranking:
        """Honest ranks among a whole block: count over its slice, then take the history's share off again."""
        n_rows = len(batch.targets)
        better, equal, ranked = (torch.zeros(n_rows, dtype=torch.int32, device=batch.scores.device) for _ in range(3))
        top_items = batch.targets.new_zeros(n_rows, self._n_top) if self._with_top_items else None
        positions, items = history
        for part in batch.slices:
            target_scores = batch.target_scores[part.members]  # [b, 1]
            above, same = better_and_equal(part.scores, target_scores)
            better[part.members], equal[part.members] = above, same - 1
            ranked[part.members] = part.high - part.low
            if top_items is not None and part.high - part.low >= self._n_top:
                place = torch.full_like(batch.targets, -1)  # [B], place of each row in the slice
                place[part.members] = torch.arange(len(part.members), device=place.device)
                here = place[positions] >= 0
                candidate_scores = part.scores.clone()
                candidate_scores[place[positions[here]], items[here] - part.low] = -torch.inf
                top_items[part.members] = candidate_scores.topk(self._n_top, dim=1).indices + part.low
        if len(positions):
            history_scores = batch.scores[positions, items]  # [P]
            target_scores = batch.target_scores[positions, 0]  # [P]
            better.index_add_(0, positions, (history_scores > target_scores).int(), alpha=-1)
            equal.index_add_(0, positions, (history_scores == target_scores).int(), alpha=-1)
            ranked.index_add_(0, positions, torch.ones_like(positions, dtype=torch.int32), alpha=-1)
        return _honest_ranking(better, equal, ranked, top_items)

    def _rank_sampled(self, batch: _Batch, items: Tensor) -> Ranking:
        """Honest ranks among sampled items (``[B, width]``, 0 = none)."""
        there = items > 0  # [B, width]
        item_scores = batch.scores.gather(1, items)  # [B, width]
        better = _count((item_scores > batch.target_scores) & there)
        equal = _count((item_scores == batch.target_scores) & there)
        top_items = None
        if self._with_top_items and items.shape[1] + 1 >= self._n_top:
            with_target = torch.cat([batch.targets[:, None], items], dim=1)  # [B, 1 + width]
            list_scores = torch.cat([batch.target_scores, item_scores.masked_fill(~there, -torch.inf)], dim=1)
            top_items = with_target.gather(1, list_scores.topk(self._n_top, dim=1).indices)
        return _honest_ranking(better, equal, _count(there) + 1, top_items)

    def _full_masked(self, batch: _Batch, history: tuple[Tensor, Tensor]) -> Tensor:
        """``[B, n_items]``: scores of the candidates of ``full``, −inf elsewhere."""
        masked = torch.full_like(batch.scores, -torch.inf)
        for part in batch.slices:
            masked[part.members, part.low : part.high] = part.scores
        masked[history] = -torch.inf
        return masked

    def _sampled_masked(self, batch: _Batch, items: Tensor) -> Tensor:
        """``[B, n_items]``: scores of the target and of its sampled candidates, −inf elsewhere."""
        masked = torch.full_like(batch.scores, -torch.inf)
        masked.scatter_(1, items, batch.scores.gather(1, items))
        masked.scatter_(1, batch.targets[:, None], batch.target_scores)
        masked[:, 0] = -torch.inf  # where the absent candidates went
        return masked

    def _rank_by_topk(self, batch: _Batch, masked: Tensor) -> Ranking:
        """RecBole's own way, over a masked score matrix ``[B, n_items]``."""
        top_items = masked.topk(self._n_top, dim=-1).indices  # [B, n_top]
        hits = top_items == batch.targets[:, None]
        ranks = torch.where(hits.any(dim=1), hits.int().argmax(dim=1) + 1, 0)
        better, equal = better_and_equal(masked, batch.target_scores)
        return Ranking(
            ranks=ranks.cpu().numpy(),
            mean_ranks=1 + better.cpu().numpy() + 0.5 * (equal.cpu().numpy() - 1),
            n_ranked=_count(masked > -torch.inf).cpu().numpy().astype(np.int64),
            top_items=top_items.cpu().numpy() if self._with_top_items else None,
        )


def _count(marked: Tensor) -> Tensor:
    """True entries of each row, int32 ``[B]``; summing bool as int64 takes many times as long on CPU."""
    return marked.sum(dim=1, dtype=torch.int32)


def _honest_ranking(better: Tensor, equal: Tensor, ranked: Tensor, top_items: Tensor | None) -> Ranking:
    """Counts ``[B]`` of better and equal candidates, and of candidates with the target, as a ranking."""
    mean_ranks = 1 + better.cpu().numpy() + 0.5 * equal.cpu().numpy()
    return Ranking(
        ranks=np.ceil(mean_ranks).astype(np.int64),
        mean_ranks=mean_ranks,
        n_ranked=ranked.cpu().numpy().astype(np.int64),
        top_items=None if top_items is None else top_items.cpu().numpy(),
    )
