"""In-domain evaluation of any model: candidates, honest ranks, RecBole's metrics, results by domain."""

from __future__ import annotations

from recbole_cdsr.evaluator.candidates import CandidateSampler, CandidateSpec, parse_candidates
from recbole_cdsr.evaluator.groups import groups, head_items
from recbole_cdsr.evaluator.metrics import RankingMetrics
from recbole_cdsr.evaluator.protocol import ProtocolEvaluator
from recbole_cdsr.evaluator.ranking import CandidateRanker, Ranking
from recbole_cdsr.evaluator.report import CandidateResults, EvaluationReport
from recbole_cdsr.evaluator.rows import EvaluationRows

__all__ = [
    "CandidateRanker",
    "CandidateResults",
    "CandidateSampler",
    "CandidateSpec",
    "EvaluationReport",
    "EvaluationRows",
    "ProtocolEvaluator",
    "Ranking",
    "RankingMetrics",
    "groups",
    "head_items",
    "parse_candidates",
]
