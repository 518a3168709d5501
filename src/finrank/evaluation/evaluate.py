"""The evaluation of one scorer on one split: its figures beside those of the baselines, and what explains them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from finrank.errors import UserError
from finrank.evaluation import baselines, explain
from finrank.evaluation.calibration import calibration_figures
from finrank.evaluation.diagnose import diagnose
from finrank.evaluation.intervals import page_intervals, paired_difference, paired_sign_flip
from finrank.evaluation.metrics import FloatArray, Metric, checked_scores, pool_metrics, pooled_accuracy
from finrank.evaluation.result import Comparison, EvaluationResult, Figures, ScorerFigures, Source, Ties
from finrank.evaluation.survival import Truncation, encode_and_measure
from finrank.ranker.confidence import Confidence
from finrank.ranker.saving import LoadedModel
from finrank.ranker.scoring import score_pools, score_records
from finrank.records import Answer, RewardedPool

# Scorers without a paired test. A baseline's outcome of a pool is a constant (its chance, its best), and swapping that
# with the 0 or 1 of a model is no less likely only by accident: a sign flip tests nothing, the intervals do.
UNTESTED = ("model", "chance", "constant", "oracle")
# Largest change of a score by another order of the candidates that is rounding, which depends on what is packed with
# what. In bfloat16 a number has 8 significant bits.
_ORDER_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}


def evaluate_pools(
    pools: Sequence[RewardedPool],
    scores: Sequence[ArrayLike],
    *,
    seed: int = 0,
    candidate_only: Sequence[ArrayLike] | None = None,
    rounding: float = 0.0,
) -> Figures:
    """The metrics of a scorer and of all baselines on these pools.

    `scores` holds an array [candidates] per pool, `candidate_only` those of a model that saw neither question nor
    page; scores of a pool that differ by at most `rounding` count as equal in `ties`. Raises UserError without pools,
    ValueError for a wrong number of scores and for NaN or infinite ones.
    """
    if not pools:
        raise UserError("no pools to evaluate: the split is empty; choose another --split or run steps 01 to 03 again")
    pages = [pool.page for pool in pools]
    model = _with_pooled(pools, scores)
    arrays = _checked(pools, scores)
    rows = {"model": model, **_baseline_metrics(pools, candidate_only)}
    flat = {(name, metric): values for name, row in rows.items() if row for metric, values in row.items()}
    intervals = page_intervals(flat, pages, seed=seed)  # the same resamples of pages for all rows
    figures = {
        name: ScorerFigures(
            {metric: values.mean() for metric, values in row.items()},
            {metric: intervals[name, metric] for metric in row},
            None
            if name in UNTESTED
            else paired_sign_flip(model["accuracy"].values, row["accuracy"].values, pages, seed=seed),
        )
        for name, row in rows.items()
        if row
    }
    return Figures(
        n=len(pools),
        pages=len(set(pages)),
        unanswerable=sum(not pool.correct for pool in pools),
        equal_rewards=sum(_rewards_without_spread(pool) for pool in pools),
        model=figures["model"],
        baselines={name: figures.get(name) for name in rows if name != "model"},
        positions=explain.picked_positions(pools, arrays),
        ties=Ties(
            top=sum(int((array == array.max()).sum() > 1) for array in arrays),
            all=sum(
                _several_distinct(pool) and float(np.ptp(array)) <= rounding
                for pool, array in zip(pools, arrays, strict=True)
            ),
        ),
    )


def _several_distinct(pool: RewardedPool) -> bool:
    return len({(candidate.program, candidate.answer) for candidate in pool.candidates}) > 1


def _rewards_without_spread(pool: RewardedPool) -> bool:
    """True if the rewards do not separate candidates that differ; all right or all failed may well be equal."""
    if max(pool.rewards) > min(pool.rewards) or not _several_distinct(pool):
        return False
    all_failed = all(candidate.answer is None for candidate in pool.candidates)
    return not all_failed and len(pool.correct) < len(pool.candidates)


def _checked(pools: Sequence[RewardedPool], scores: Sequence[ArrayLike]) -> list[FloatArray]:
    return [checked_scores(*pair) for pair in zip(pools, scores, strict=True)]


def _with_pooled(pools: Sequence[RewardedPool], scores: Sequence[ArrayLike]) -> dict[str, Metric]:
    """All metrics, for scores that are logits: those of a model, or equal ones."""
    return {**pool_metrics(pools, scores), "accuracy_pooled": pooled_accuracy(pools, scores)}


def _baseline_metrics(
    pools: Sequence[RewardedPool], candidate_only: Sequence[ArrayLike] | None
) -> dict[str, dict[str, Metric] | None]:
    def of(scorer: Callable[[RewardedPool], FloatArray]) -> dict[str, Metric]:
        return pool_metrics(pools, [scorer(pool) for pool in pools])

    votes = baselines.majority_vote(pools)
    return {
        "chance": baselines.chance(pools),
        "constant": _with_pooled(pools, [baselines.constant(pool) for pool in pools]),
        "medoid": of(baselines.medoid),
        "medoid_text": of(baselines.medoid_text),
        "candidate_only": None if candidate_only is None else _with_pooled(pools, candidate_only),
        "majority_vote": None if votes is None else pool_metrics(pools, votes),
        "oracle": of(baselines.oracle),
    }


def compare_pools(
    pools: Sequence[RewardedPool], scores: Sequence[ArrayLike], other: Sequence[ArrayLike], *, name: str, seed: int = 0
) -> Comparison:
    """A second scorer (`other`, called `name`) compared with the first on the same pools by accuracy."""
    first, second = pool_metrics(pools, scores)["accuracy"], pool_metrics(pools, other)["accuracy"]
    accuracy = second.mean()
    assert accuracy is not None
    return Comparison(name, accuracy, *paired_difference(first, second, [pool.page for pool in pools], seed=seed))


@dataclass(frozen=True)
class ScoredPools:
    """A model's scores of the pools, and what else an evaluation must know of the model."""

    scores: Sequence[np.ndarray]
    rescore: explain.Score
    """Scores further pools: the same ones in another order."""
    tolerance: float
    """Largest difference of two scores that is rounding."""
    truncation: Truncation
    shipped: Confidence | None = None
    """The confidence found in the model folder."""


class Rivals(NamedTuple):
    """Scores of the same pools by other models; None where there is no such model."""

    candidate_only: Sequence[np.ndarray] | None = None
    compared: Sequence[np.ndarray] | None = None
    compared_name: str = ""


def score_evaluated(
    loaded: LoadedModel, pools: Sequence[RewardedPool], description: str, shipped: Confidence | None
) -> ScoredPools:
    """Encode and score pools with the model under evaluation, and measure truncation."""
    encoded, truncation = encode_and_measure(pools, loaded.tokenizer, loaded.model.settings.prompt, "encoding")
    scores = score_pools(loaded.model, encoded, route=loaded.route, description=description)
    return ScoredPools(
        _copies_tied(pools, scores),
        lambda others: score_rival(loaded, others, ""),
        _ORDER_TOLERANCE[loaded.model.settings.dtype],
        truncation,
        shipped,
    )


def score_rival(loaded: LoadedModel, pools: Sequence[RewardedPool], description: str) -> list[np.ndarray]:
    """Encode and score pools with a model: scores [candidates] of each."""
    return _copies_tied(pools, score_records(loaded, pools, description))


def _copies_tied(pools: Sequence[RewardedPool], scores: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The scores, each copy of a candidate having that of the first one: rounding in the packing must break no tie."""
    tied = []
    for pool, pool_scores in zip(pools, scores, strict=True):
        first: dict[tuple[str | None, Answer | None], int] = {}
        copies = [first.setdefault((one.program, one.answer), index) for index, one in enumerate(pool.candidates)]
        tied.append(pool_scores[copies])
    return tied


def evaluate(
    pools: Sequence[RewardedPool],
    model: ScoredPools,
    rivals: Rivals,
    source: Source,
    *,
    wanted_accuracy: float = 0.9,
    seed: int = 0,
) -> EvaluationResult:
    """Evaluate a scored model: figures beside baselines and rivals, what explains them, calibration, and diagnosis.

    `wanted_accuracy` is that of the threshold below which ranking abstains; `seed` draws resamples, orders and halves.
    Raises UserError without pools, ValueError for bad scores.
    """
    figures = evaluate_pools(
        pools, model.scores, seed=seed, candidate_only=rivals.candidate_only, rounding=model.tolerance
    )
    arrays = _checked(pools, model.scores)
    accuracy, chance = pool_metrics(pools, arrays)["accuracy"], baselines.chance(pools)["accuracy"]
    order = explain.order_invariance(pools, model.scores, model.rescore, tolerance=model.tolerance, seed=seed)
    bias = explain.position_bias(pools, arrays, accuracy, order, seed=seed)
    confidence = calibration_figures(
        pools, model.scores, wanted_accuracy=wanted_accuracy, seed=seed, shipped=model.shipped
    )
    comparison = None
    if rivals.compared is not None:
        comparison = compare_pools(pools, model.scores, rivals.compared, name=rivals.compared_name, seed=seed)
    return EvaluationResult(
        figures=figures,
        bias=bias,
        breakdowns=explain.break_down(pools, arrays, accuracy, chance, seed=seed),
        mistakes=explain.confident_mistakes(pools, arrays, temperature=confidence.temperature),
        examples=explain.examples(pools, arrays, temperature=confidence.temperature),
        confidence=confidence,
        comparison=comparison,
        truncation=model.truncation,
        troubles=diagnose(figures, bias, confidence, model.truncation),
        source=source,
    )
