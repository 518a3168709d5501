"""What lies behind an accuracy: picked positions, kinds of questions, corruptions that were picked, single rankings."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from finrank.evaluation.intervals import chi_square_p_value, subset_intervals
from finrank.evaluation.metrics import FIGURE_DECIMALS, FloatArray, Metric, pick_probabilities
from finrank.evaluation.result import (
    BestPosition,
    BreakdownRow,
    Breakdowns,
    OrderInvariance,
    PickedPositions,
    PositionBias,
    RankedCandidate,
    RankedPool,
    WrongKind,
)
from finrank.evaluation.survival import gold_operands
from finrank.programs import OPERATIONS, parse_or_none
from finrank.ranker.choosing.answers import choose_answers, temper
from finrank.ranker.choosing.chooser import DEFAULT_CHOOSER, Chooser
from finrank.ranker.prompt import PromptSettings
from finrank.records import RewardedPool

# A model with more picks than this share at one position, in enough large pools, picks a place and not an answer.
POSITION_SHARE = 0.6
POSITION_MIN_CANDIDATES = 4
POSITION_MIN_POOLS = 20

ORDER_SAMPLE = 32  # pools whose candidates are scored again in another order
MOST_MISTAKES = 50
EXAMPLES = 8
_STEPS = ("1", "2", "3", "4 or more")
_MOST_SIZES = 8  # more distinct pool sizes than this are put together by quarters
_DECIMALS = 6

Score = Callable[[Sequence[RewardedPool]], Sequence[np.ndarray]]
Groups = dict[str, list[int]]  # the rows of a table: name -> indices of its pools


def _by_position(pools: Sequence[RewardedPool], scores: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Probability of the pick, and 1 for a correct candidate, by pool and position [pools, positions]."""
    shape = (len(pools), max(len(pool.candidates) for pool in pools))
    picks, correct = np.zeros(shape), np.zeros(shape)
    for row, (pool, pool_scores) in enumerate(zip(pools, scores, strict=True)):
        picks[row, : len(pool_scores)] = pick_probabilities(pool_scores)
        correct[row, pool.correct] = 1.0
    return picks, correct


def _at_random(scores: FloatArray) -> FloatArray:
    """Equal scores for the candidates that are scored."""
    return np.where(scores > -np.inf, 0.0, -np.inf)


def picked_positions(pools: Sequence[RewardedPool], scores: Sequence[FloatArray]) -> PickedPositions:
    """The number of picks at each position; a warning where one has most picks of at least 20 large pools."""
    picks, correct = _by_position(pools, scores)
    is_large = np.array([len(pool.candidates) >= POSITION_MIN_CANDIDATES for pool in pools])
    in_large, large = picks[is_large].sum(axis=0), int(is_large.sum())
    favourite = int(in_large.argmax())
    share = float(in_large[favourite]) / max(large, 1)
    warning = None
    if large >= POSITION_MIN_POOLS and share > POSITION_SHARE:
        warning = (
            f"{share:.0%} of the picks are at position {favourite} (counted from 0), where "
            f"{correct[is_large, favourite].mean():.0%} of the pools have a correct candidate: the model picks a "
            "place, not an answer, or the pools are not shuffled; run step 02 again and train on shuffled candidates"
        )
    counts = picks.sum(axis=0).round(_DECIMALS).tolist()
    return PickedPositions(counts, large, favourite if large else None, round(share, _DECIMALS), warning)


def position_bias(
    pools: Sequence[RewardedPool], scores: Sequence[FloatArray], accuracy: Metric, order: OrderInvariance, *, seed: int
) -> PositionBias:
    """Accuracy by the position of the correct candidate, and a test of the picks against no preference."""
    picks, correct = _by_position(pools, scores)
    even, _ = _by_position(pools, [_at_random(pool_scores) for pool_scores in scores])
    weights = correct / np.maximum(correct.sum(axis=1, keepdims=True), 1)
    metrics = {position: Metric(accuracy.values, row) for position, row in enumerate(weights.T) if row.any()}
    intervals = subset_intervals(metrics, [pool.page for pool in pools], seed=seed)
    best_positions = [
        BestPosition(position, round(float(metric.weights.sum()), _DECIMALS), metric.mean() or 0.0, intervals[position])
        for position, metric in metrics.items()
    ]
    p_value = chi_square_p_value(picks.sum(axis=0), even.sum(axis=0))
    picked, at_random = (shares.mean(axis=0).round(_DECIMALS).tolist() for shares in (picks, even))
    return PositionBias(best_positions, picked, at_random, p_value, order)


def order_invariance(
    pools: Sequence[RewardedPool], scores: Sequence[np.ndarray], score: Score, *, tolerance: float, seed: int
) -> OrderInvariance:
    """Score a sample of the pools with their candidates reversed, and shuffled, and compare with `scores`.

    `score` returns the model's scores of pools.
    """
    rng = random.Random(seed)
    sample = sorted(rng.sample(range(len(pools)), min(ORDER_SAMPLE, len(pools))))
    orders = []
    for index in sample:
        stored = list(range(len(pools[index].candidates)))
        orders += [(index, stored[::-1]), (index, rng.sample(stored, len(stored)))]
    again = score([reordered(pools[index], order) for index, order in orders])
    differences = [0.0]
    for (index, order), new_scores in zip(orders, again, strict=True):
        before, after = np.asarray(scores[index])[order], np.asarray(new_scores)
        scored = before > -np.inf
        differences.append(float(np.abs(after[scored] - before[scored]).max(initial=0.0)))
    return OrderInvariance(len(sample), max(differences), tolerance)


def reordered(pool: RewardedPool, order: Sequence[int]) -> RewardedPool:
    """The pool with its candidates in the order of these indices."""
    lists = {name: [getattr(pool, name)[old] for old in order] for name in ("candidates", "rewards", "components")}
    correct = [new for new, old in enumerate(order) if old in pool.correct]
    return pool.model_copy(update={**lists, "correct": correct})


def break_down(
    pools: Sequence[RewardedPool], scores: Sequence[FloatArray], accuracy: Metric, chance: Metric, *, seed: int
) -> Breakdowns:
    """Accuracy and chance by kind of question and pool, and the kinds of wrong candidates that were picked."""
    programs = {index: program for index, pool in enumerate(pools) if (program := parse_or_none(pool.program))}
    steps = {index: {_STEPS[min(len(program.steps), len(_STEPS)) - 1]} for index, program in programs.items()}
    operations = {index: {step.operation for step in program.steps} for index, program in programs.items()}
    origins = {index: {_origin(pools[index])} for index in programs}
    tables = {
        "steps": _grouped(_STEPS, steps),
        "operation": _grouped(OPERATIONS, operations),
        "origin": _grouped(("table", "text", "both", "nowhere"), origins),
        "context_length": _by_quarter([context_words(pool) for pool in pools], "words"),
        "candidates": _by_size([len(pool.candidates) for pool in pools]),
    }
    metrics = {
        (table, name): Metric(accuracy.values, np.isin(np.arange(len(pools)), indices).astype(np.float64))
        for table, groups in tables.items()
        for name, indices in groups.items()
    }
    intervals = subset_intervals(metrics, [pool.page for pool in pools], seed=seed)
    rows: dict[str, list[BreakdownRow]] = {table: [] for table in tables}
    for (table, name), metric in metrics.items():
        indices = tables[table][name]
        expected = round(float(chance.values[indices].mean()), FIGURE_DECIMALS)
        interval = intervals[table, name]
        rows[table].append(BreakdownRow(name, len(indices), metric.mean() or 0.0, interval, expected))
    return Breakdowns(**rows, fooled_by=fooled_by(pools, scores))


def _origin(pool: RewardedPool) -> str:
    origins = {operand.origin for operand in gold_operands(pool, [], PromptSettings(labels=False))} - {"nowhere"}
    return "both" if len(origins) > 1 else next(iter(origins), "nowhere")


def context_words(pool: RewardedPool) -> int:
    """Words of the pool's page, table and text."""
    return sum(len(part.split()) for part in (*(cell for row in pool.table for cell in row), *pool.text))


def _by_size(sizes: Sequence[int]) -> Groups:
    distinct = sorted(set(sizes))
    if len(distinct) < 2:
        return {}
    if len(distinct) > _MOST_SIZES:
        return _by_quarter(sizes, "candidates")
    return _grouped(map(str, distinct), {index: {str(size)} for index, size in enumerate(sizes)})


def _by_quarter(sizes: Sequence[int], unit: str) -> Groups:
    """Four groups of about as many pools each; fewer where sizes repeat.

    >>> _by_quarter([10, 20, 30, 40], "words")
    {'10 words': [0], '20 words': [1], '30 words': [2], '40 words': [3]}
    """
    quarter = np.searchsorted(np.quantile(sizes, [0.25, 0.5, 0.75]), sizes, side="left")
    groups = {}
    for number in range(4):
        if indices := np.flatnonzero(quarter == number).tolist():
            low, high = min(sizes[index] for index in indices), max(sizes[index] for index in indices)
            groups[f"{low} {unit}" if low == high else f"{low} to {high} {unit}"] = indices
    return groups


def _grouped(names: Iterable[str], names_of_pools: Mapping[int, set[str]]) -> Groups:
    """The indices of the pools under each name, in the order of the names; names without pools are left out."""
    rows = {name: [index for index, its_names in names_of_pools.items() if name in its_names] for name in names}
    return {name: indices for name, indices in rows.items() if indices}


def fooled_by(pools: Sequence[RewardedPool], scores: Sequence[FloatArray]) -> list[WrongKind]:
    """Wrong candidates by each of their edits, else by origin: how often they were picked, highest share first."""
    offered: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)  # shares of the pick: its own, at random
    for pool, pool_scores in zip(pools, scores, strict=True):
        shares, at_random = (pick_probabilities(row).tolist() for row in (pool_scores, _at_random(pool_scores)))
        for index, candidate in enumerate(pool.candidates):
            if index not in pool.correct:
                for name in set(candidate.edits) or {candidate.origin}:
                    offered[name].append((shares[index], at_random[index]))
    rows = []
    for name, pairs in offered.items():
        picked, expected = (sum(column) for column in zip(*pairs, strict=True))
        figures = (picked / len(pairs), expected / len(pairs))
        rows.append(WrongKind(name, round(picked, _DECIMALS), len(pairs), *(round(x, _DECIMALS) for x in figures)))
    return sorted(rows, key=lambda row: (-row.share, row.name))


def confident_mistakes(
    pools: Sequence[RewardedPool],
    scores: Sequence[FloatArray],
    *,
    temperature: float = 1.0,
    chooser: Chooser = DEFAULT_CHOOSER,
) -> list[RankedPool]:
    """At most 50 pools that have a correct candidate but none with the highest score, most confident first."""
    wrong = [
        rank_pool(pool, pool_scores, temperature, chooser)
        for pool, pool_scores in zip(pools, scores, strict=True)
        if pool.correct and pool_scores[pool.correct].max() < pool_scores.max()
    ]
    return sorted(wrong, key=lambda ranked: (-ranked.confidence, ranked.id))[:MOST_MISTAKES]


def examples(
    pools: Sequence[RewardedPool],
    scores: Sequence[FloatArray],
    *,
    temperature: float = 1.0,
    chooser: Chooser = DEFAULT_CHOOSER,
) -> list[RankedPool]:
    """Eight pools (all, where there are fewer) evenly spaced through the split, right or wrong."""
    indices = sorted({number * len(pools) // EXAMPLES for number in range(EXAMPLES)})
    return [rank_pool(pools[index], scores[index], temperature, chooser) for index in indices]


def rank_pool(
    pool: RewardedPool, scores: FloatArray, temperature: float = 1.0, chooser: Chooser = DEFAULT_CHOOSER
) -> RankedPool:
    """One pool ranked by its scores [candidates]; over distinct answers the probabilities sum to 1."""
    groups = choose_answers(pool.candidates, scores, pool.question, chooser)
    tempered = np.exp(temper(np.array([group.log_probability for group in groups]), temperature)).round(_DECIMALS)
    probabilities = np.empty(len(scores))
    for group, probability in zip(groups, tempered.tolist(), strict=True):
        probabilities[group.indices] = probability
    shown = zip(pool.candidates, scores.tolist(), probabilities.tolist(), pool.rewards, strict=True)
    candidates = [
        RankedCandidate(one.program, one.answer, _shown(score), probability, reward, one.origin, one.edits)
        for one, score, probability, reward in shown
    ]
    picked = int(scores.argmax())
    page = (pool.id, pool.page, pool.question, pool.table, pool.text, pool.program, pool.answer)
    return RankedPool(*page, candidates, picked, float(probabilities[picked]))


def _shown(score: float) -> float | None:
    return None if score == -np.inf else round(score, _DECIMALS)
