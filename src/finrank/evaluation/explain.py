"""What lies behind an accuracy: picked positions, kinds of questions, corruptions that were picked, single rankings."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

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
from finrank.programs import OPERATIONS, Program, ProgramError, parse
from finrank.ranker.answers import group_equal_answers, temper
from finrank.ranker.prompt import PromptSettings
from finrank.records import RewardedPool

# When a model is said to pick a position rather than an answer.
POSITION_SHARE = 0.6
POSITION_MIN_CANDIDATES = 4
POSITION_MIN_POOLS = 20

ORDER_SAMPLE = 32  # pools whose candidates are scored again in another order
MOST_MISTAKES = 50
EXAMPLES = 8
_MOST_STEPS = 4  # programs of this many steps and more are one row
_MOST_SIZES = 8  # more distinct pool sizes than this are put together by quarters
_DECIMALS = 6

Score = Callable[[Sequence[RewardedPool]], Sequence[np.ndarray]]
Groups = Sequence[tuple[str, Sequence[int]]]  # the rows of a table: name, indices of its pools


def picked_positions(pools: Sequence[RewardedPool], scores: Sequence[FloatArray]) -> PickedPositions:
    """How often each position is picked; a warning where one has over 60 % of the picks of at least 20 large pools."""
    picks = np.zeros(max(len(pool.candidates) for pool in pools))
    in_large, right_in_large, large = np.zeros_like(picks), np.zeros_like(picks), 0
    for pool, pool_scores in zip(pools, scores, strict=True):
        shares = pick_probabilities(pool_scores)
        picks[: len(shares)] += shares
        if len(shares) >= POSITION_MIN_CANDIDATES:
            large += 1
            in_large[: len(shares)] += shares
            right_in_large[pool.correct] += 1
    favourite = int(in_large.argmax())
    share = float(in_large[favourite]) / large if large else 0.0
    warning = None
    if large >= POSITION_MIN_POOLS and share > POSITION_SHARE:
        warning = (
            f"{share:.0%} of the picks are at position {favourite} (counted from 0), where "
            f"{right_in_large[favourite] / large:.0%} of the pools have a correct candidate: the model picks a "
            "place, not an answer, or the pools are not shuffled; "
            "run step 02 again and train on shuffled candidates"
        )
    return PickedPositions(
        [round(count, _DECIMALS) for count in picks.tolist()],
        large,
        favourite if large else None,
        round(share, _DECIMALS),
        warning,
    )


def position_bias(
    pools: Sequence[RewardedPool],
    scores: Sequence[FloatArray],
    accuracy: Metric,
    order: OrderInvariance,
    *,
    seed: int,
) -> PositionBias:
    """Accuracy by the position of the correct candidate, and a test of the picks against no preference."""
    longest = max(len(pool.candidates) for pool in pools)
    picked, expected, correct = np.zeros(longest), np.zeros(longest), np.zeros((longest, len(pools)))
    for number, (pool, pool_scores) in enumerate(zip(pools, scores, strict=True)):
        picked[: len(pool_scores)] += pick_probabilities(pool_scores)
        expected[: len(pool_scores)] += 1 / len(pool_scores)
        correct[pool.correct, number] = 1 / max(len(pool.correct), 1)
    metrics = {str(position): Metric(accuracy.values, row) for position, row in enumerate(correct) if row.any()}
    intervals = subset_intervals(metrics, [pool.page for pool in pools], seed=seed)
    return PositionBias(
        [
            BestPosition(int(name), round(float(row.weights.sum()), _DECIMALS), row.mean(), intervals[name])
            for name, row in metrics.items()
        ],
        [round(share, _DECIMALS) for share in (picked / len(pools)).tolist()],
        chi_square_p_value(picked, expected),
        order,
    )


def order_invariance(
    pools: Sequence[RewardedPool], scores: Sequence[np.ndarray], score: Score, *, tolerance: float, seed: int
) -> OrderInvariance:
    """Score a sample of the pools with their candidates reversed, and shuffled, and compare with `scores`.

    `score` returns the model's scores of pools. A model that sees candidates apart from each other differs by rounding.
    """
    rng = random.Random(seed)
    sample = sorted(rng.sample(range(len(pools)), min(ORDER_SAMPLE, len(pools))))
    orders = []
    for index in sample:
        stored = list(range(len(pools[index].candidates)))
        orders += [(index, stored[::-1]), (index, rng.sample(stored, len(stored)))]
    again = score([reordered(pools[index], order) for index, order in orders])
    differences = [
        float(np.abs(np.asarray(new_scores) - np.asarray(scores[index])[order]).max())
        for (index, order), new_scores in zip(orders, again, strict=True)
    ]
    return OrderInvariance(len(sample), max(differences), tolerance)


def reordered(pool: RewardedPool, order: Sequence[int]) -> RewardedPool:
    """The pool with its candidates in another order, given as their indices in `pool`."""
    lists = {name: [getattr(pool, name)[old] for old in order] for name in ("candidates", "rewards", "components")}
    return pool.model_copy(update={**lists, "correct": [new for new, old in enumerate(order) if old in pool.correct]})


def break_down(
    pools: Sequence[RewardedPool], scores: Sequence[FloatArray], accuracy: Metric, chance: Metric, *, seed: int
) -> Breakdowns:
    """The accuracy by kind of question and pool, beside the chance of the same pools, and what was wrongly picked."""
    programs = [_gold_program(pool) for pool in pools]
    steps = [0 if program is None else min(len(program.steps), _MOST_STEPS) for program in programs]
    step_names = ["", *map(str, range(1, _MOST_STEPS)), f"{_MOST_STEPS} or more"]
    used = [set() if program is None else {step.operation for step in program.steps} for program in programs]
    origins = [set() if program is None else {_origin(pool)} for pool, program in zip(pools, programs, strict=True)]
    groups: dict[str, Groups] = {
        "steps": _grouped(step_names[1:], [{step_names[count]} for count in steps]),
        "operation": _grouped(OPERATIONS, used),
        "origin": _grouped(("table", "text", "both", "nowhere"), origins),
        "context_length": _by_quarter([context_words(pool) for pool in pools], "words"),
        "candidates": _by_size([len(pool.candidates) for pool in pools]),
    }
    metrics: dict[tuple[str, str], Metric] = {}
    for table, rows in groups.items():
        for name, indices in rows:
            weights = np.zeros(len(pools))
            weights[list(indices)] = 1.0
            metrics[table, name] = Metric(accuracy.values, weights)
    intervals = subset_intervals(metrics, [pool.page for pool in pools], seed=seed)

    def rows_of(table: str) -> list[BreakdownRow]:
        return [
            BreakdownRow(
                name,
                len(indices),
                metrics[table, name].mean(),
                intervals[table, name],
                round(float(chance.values[list(indices)].mean()), FIGURE_DECIMALS),
            )
            for name, indices in groups[table]
        ]

    return Breakdowns(*map(rows_of, groups), fooled_by=fooled_by(pools, scores))


def _gold_program(pool: RewardedPool) -> Program | None:
    try:
        return parse(pool.program) if pool.program is not None else None
    except ProgramError:
        return None


def _origin(pool: RewardedPool) -> str:
    origins = {operand.origin for operand in gold_operands(pool, [], PromptSettings(labels=False))} - {"nowhere"}
    return "both" if len(origins) > 1 else next(iter(origins), "nowhere")


def context_words(pool: RewardedPool) -> int:
    """Words of the pool's page, table and text."""
    cells = (cell for row in pool.table for cell in row)
    return sum(len(part.split()) for part in (*cells, *pool.text))


def _by_size(sizes: Sequence[int]) -> Groups:
    distinct = sorted(set(sizes))
    if len(distinct) < 2:
        return []
    if len(distinct) > _MOST_SIZES:
        return _by_quarter(sizes, "candidates")
    return _grouped(map(str, distinct), [{str(size)} for size in sizes])


def _by_quarter(sizes: Sequence[int], unit: str) -> Groups:
    """Four groups of about as many pools each; fewer where sizes repeat.

    >>> _by_quarter([10, 20, 30, 40], "words")
    [('10 words', [0]), ('20 words', [1]), ('30 words', [2]), ('40 words', [3])]
    """
    quarter = np.searchsorted(np.quantile(sizes, [0.25, 0.5, 0.75]), sizes, side="left")
    groups = []
    for number in range(4):
        if indices := np.flatnonzero(quarter == number).tolist():
            low, high = min(sizes[index] for index in indices), max(sizes[index] for index in indices)
            groups.append((f"{low} {unit}" if low == high else f"{low} to {high} {unit}", indices))
    return groups


def _grouped(names: Iterable[str], names_of_pools: Sequence[set[str]]) -> Groups:
    """The indices of the pools under each name, in the order of the names; names without pools are left out."""
    rows = [(name, [index for index, pool_names in enumerate(names_of_pools) if name in pool_names]) for name in names]
    return [(name, indices) for name, indices in rows if indices]


def fooled_by(pools: Sequence[RewardedPool], scores: Sequence[FloatArray]) -> list[WrongKind]:
    """How often a wrong candidate of each kind was picked, the most often picked kind first.

    A candidate with several edits counts under each.
    """
    picked: defaultdict[str, float] = defaultdict(float)
    at_random: defaultdict[str, float] = defaultdict(float)
    offered: Counter[str] = Counter()
    for pool, pool_scores in zip(pools, scores, strict=True):
        shares = pick_probabilities(pool_scores).tolist()
        for index, candidate in enumerate(pool.candidates):
            if index in pool.correct:
                continue
            for name in sorted(set(candidate.edits)) or [candidate.origin]:
                offered[name] += 1
                picked[name] += shares[index]
                at_random[name] += 1 / len(shares)
    rows = [
        WrongKind(
            name,
            round(picked[name], _DECIMALS),
            count,
            round(picked[name] / count, _DECIMALS),
            round(at_random[name] / count, _DECIMALS),
        )
        for name, count in offered.items()
    ]
    return sorted(rows, key=lambda row: (-row.share, row.name))


def confident_mistakes(
    pools: Sequence[RewardedPool], scores: Sequence[FloatArray], *, temperature: float = 1.0
) -> list[RankedPool]:
    """At most 50 pools that have a correct candidate and in which none has the highest score, most confident first."""
    wrong = [
        rank_pool(pool, pool_scores, temperature)
        for pool, pool_scores in zip(pools, scores, strict=True)
        if pool.correct and pool_scores[pool.correct].max() < pool_scores.max()
    ]
    return sorted(wrong, key=lambda ranked: (-ranked.confidence, ranked.id))[:MOST_MISTAKES]


def examples(
    pools: Sequence[RewardedPool], scores: Sequence[FloatArray], *, temperature: float = 1.0
) -> list[RankedPool]:
    """Eight pools (all, where there are fewer) evenly spaced through the split, right or wrong."""
    indices = sorted({number * len(pools) // EXAMPLES for number in range(EXAMPLES)})
    return [rank_pool(pools[index], scores[index], temperature) for index in indices]


def rank_pool(pool: RewardedPool, scores: FloatArray, temperature: float = 1.0) -> RankedPool:
    """One pool ranked by its scores [candidates]; over distinct answers the probabilities sum to 1."""
    groups = group_equal_answers(pool.candidates, scores)
    probabilities = np.exp(temper(np.array([group.log_probability for group in groups]), temperature))
    probability_N = np.empty(len(scores))
    for group, probability in zip(groups, probabilities.round(_DECIMALS).tolist(), strict=True):
        probability_N[group.indices] = probability
    picked = int(scores.argmax())
    shown = zip(pool.candidates, scores.tolist(), probability_N.tolist(), pool.rewards, strict=True)
    return RankedPool(
        pool.id,
        pool.page,
        pool.question,
        pool.table,
        pool.text,
        pool.program,
        pool.answer,
        [
            RankedCandidate(
                candidate.program,
                candidate.answer,
                round(score, _DECIMALS),
                probability,
                reward,
                candidate.origin,
                candidate.edits,
            )
            for candidate, score, probability, reward in shown
        ],
        picked,
        float(probability_N[picked]),
    )
