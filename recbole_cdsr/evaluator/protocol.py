"""The evaluation protocol as the trainer drives it: start, add batches of scores, finish with a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from recbole_cdsr.config_reading import choice, is_whole, setting, whole_number, wrong
from recbole_cdsr.evaluator.candidates import parse_candidates
from recbole_cdsr.evaluator.metrics import RankingMetrics
from recbole_cdsr.evaluator.ranking import CandidateRanker, Ranking
from recbole_cdsr.evaluator.report import EvaluationReport
from recbole_cdsr.evaluator.rows import EvaluationRows


class ProtocolEvaluator:
    """Judges any model's full scores over the rows of a split under one protocol.

    One object serves all passes over its split; sampled candidates are drawn in the first and kept.

    Parameters
    ----------
    config
        Read by key: ``eval_candidates`` (default ``[full]``), ``eval_seed`` (2026), ``ties`` (``half``; or
        ``recbole``), ``candidate_domains`` (``target``; or ``all``), ``topk``, ``metrics``,
        ``metric_decimal_place`` (4), ``tail_ratio``, ``model``. A key that is absent or None takes its
        default.
    rows
        The split.
    exclude_history
        Leave each row's input history out of ``full``, except the target.

    Attributes
    ----------
    rows : EvaluationRows
        As given.
    of_all_domains : bool
        Whether candidates come from all domains, so that the scores of all of them are read.

    Raises
    ------
    ConfigError
        A key holds what cannot be honoured.
    """

    def __init__(self, config: Mapping[str, Any], rows: EvaluationRows, exclude_history: bool) -> None:
        if not isinstance(exclude_history, bool):
            raise wrong("exclude_history", exclude_history, "resolved to True or False here")
        self.rows = rows
        settings = {
            "metrics": _names(config, "metrics"),
            "topk": _cut_offs(config),
            "metric_decimal_place": whole_number(config, "metric_decimal_place", 0, default=4),
            "tail_ratio": setting(config, "tail_ratio"),
        }
        domains = choice(config, "candidate_domains", ("target", "all"), default="target")
        self.of_all_domains = domains == "all"
        self._metrics = RankingMetrics(settings, rows.train_item_counts)
        self._specs = parse_candidates(setting(config, "eval_candidates", ["full"]))
        self._ranker = CandidateRanker(
            rows,
            self._specs,
            eval_seed=whole_number(config, "eval_seed", least=None, default=2026),
            exclude_history=exclude_history,
            ties=choice(config, "ties", ("half", "recbole"), default="half"),
            candidate_domains=domains,
            n_top=max(self._metrics.topk),
            with_top_items=self._metrics.reads_top_items,
            model_name=str(setting(config, "model", "the model")),
        )
        self._added: np.ndarray | None = None  # bool [R] while a pass is under way
        self._batches: list[tuple[np.ndarray, dict[str, Ranking]]] = []

    def start(self) -> None:
        """Begin a pass; what an unfinished pass before it gathered is dropped."""
        self._added = np.zeros(len(self.rows), dtype=bool)
        self._batches = []

    def add(self, scores: Tensor, row_indices: np.ndarray | Tensor | Sequence[int]) -> None:
        """Rank the targets of some rows.

        Parameters
        ----------
        scores
            Floating point ``[B, n_items]`` on any device; not changed. Only the scores in the domains that
            candidates come from are read.
        row_indices
            int64 ``[B]``, positions in ``rows``. A pass need not cover all rows, and may take them in any
            order.

        Raises
        ------
        CDSRError
            A score that would be read is NaN.
        ValueError
            Scores of another shape, a row that does not exist, or a row for the second time in this pass.
        RuntimeError
            No pass has been started.
        """
        if self._added is None:
            raise RuntimeError("ProtocolEvaluator.add before start().")
        if isinstance(row_indices, Tensor):
            row_indices = row_indices.cpu().numpy()
        row_indices = np.asarray(row_indices, dtype=np.int64)
        if tuple(scores.shape) != (len(row_indices), self.rows.n_items):
            raise ValueError(
                f"Scores of shape {tuple(scores.shape)} came for {len(row_indices)} rows and {self.rows.n_items} items."
            )
        if len(row_indices) == 0:
            return
        if row_indices.min() < 0 or row_indices.max() >= len(self.rows):
            raise ValueError(f"The {self.rows.split} split has rows 0 to {len(self.rows) - 1} only.")
        if self._added[row_indices].any() or len(np.unique(row_indices)) < len(row_indices):
            raise ValueError(f"A row of {self.rows.split} was added twice in one pass.")
        self._batches.append((row_indices, self._ranker.rank(scores.detach(), row_indices)))
        self._added[row_indices] = True

    def finish(self) -> EvaluationReport:
        """End the pass.

        Returns
        -------
        EvaluationReport
            Over the rows added since :meth:`start`, in ascending order.

        Raises
        ------
        RuntimeError
            No pass has been started.
        """
        if self._added is None:
            raise RuntimeError("ProtocolEvaluator.finish before start().")
        batches, self._batches, self._added = self._batches, [], None
        row_indices = np.concatenate([np.zeros(0, dtype=np.int64), *(rows for rows, _ in batches)])
        order = np.argsort(row_indices)
        rankings = {spec.name: _joined([ranking[spec.name] for _, ranking in batches], order) for spec in self._specs}
        return EvaluationReport(self.rows, row_indices[order], rankings, self._metrics)


def _joined(parts: list[Ranking], order: np.ndarray) -> Ranking:
    """The rankings of several batches as one, its rows in ``order``."""
    if not parts:
        return Ranking(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64))
    top_items = None
    if parts[0].top_items is not None:
        top_items = np.concatenate([part.top_items for part in parts])[order]
    return Ranking(
        ranks=np.concatenate([part.ranks for part in parts])[order],
        mean_ranks=np.concatenate([part.mean_ranks for part in parts])[order],
        n_ranked=np.concatenate([part.n_ranked for part in parts])[order],
        top_items=top_items,
    )


def _names(config: Mapping[str, Any], key: str) -> list[str]:
    value = setting(config, key, [])
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise wrong(key, value, "a list of names, such as [NDCG, Hit]")
    return list(names)


def _cut_offs(config: Mapping[str, Any]) -> list[int]:
    value = setting(config, "topk", [])
    cut_offs = [value] if is_whole(value) else value
    if not isinstance(cut_offs, (list, tuple)) or not cut_offs or not all(is_whole(k, 1) for k in cut_offs):
        raise wrong("topk", value, "a list of whole numbers from 1, such as [10, 20]")
    return list(cut_offs)
