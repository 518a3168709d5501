"""The evaluation of one scorer on one split: its figures, those of the baselines, and what explains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from finrank.console import say, warn
from finrank.errors import UserError
from finrank.evaluation import baselines, explain
from finrank.evaluation.answer_figures import answer_figures, first_answers
from finrank.evaluation.calibration import calibration_figures
from finrank.evaluation.diagnose import diagnose
from finrank.evaluation.intervals import page_intervals, paired_sign_flip
from finrank.evaluation.metrics import FloatArray, Metric, pick_probabilities, pool_metrics, pooled_accuracy
from finrank.evaluation.result import Comparison, EvaluationResult, Figures, ScorerFigures, Source, Ties
from finrank.evaluation.survival import Truncation, encode_and_measure
from finrank.ranker.choosing.chooser import DEFAULT_CHOOSER, Chooser, load_chooser
from finrank.ranker.choosing.confidence import Confidence, load_confidence, unlike_fitted
from finrank.ranker.encoding import LeftOut
from finrank.ranker.saving import LoadedModel, find_model, load_model, read_settings
from finrank.ranker.scoring import score_pools, score_records
from finrank.records import Answer, Candidate, RewardedPool
from finrank.store import load_records, refuse_earlier_stage, split_files

# Scorers without a paired test: their outcome of a pool is a constant, which a sign flip cannot swap with a model's.
UNTESTED = ("model", "chance", "constant", "oracle")
# Largest change of a score by another order of the candidates that rounding explains; bfloat16 has 8 significant bits.
_ORDER_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}


def evaluate_pools(
    pools: Sequence[RewardedPool],
    scores: Sequence[ArrayLike],
    *,
    seed: int = 0,
    candidate_only: Sequence[ArrayLike] | None = None,
    further: Mapping[str, Sequence[ArrayLike]] | None = None,
    rounding: float = 0.0,
) -> Figures:
    """The metrics of a scorer and of all baselines on these pools.

    `scores` holds an array [candidates] per pool, minus infinity where one is not scored, `candidate_only` those of a
    model that saw neither question nor page, `further` those of other baselines by name; scores that differ by at most
    `rounding` tie. Raises UserError without pools, ValueError for bad scores.
    """
    if not pools:
        raise UserError("no pools to evaluate: the split is empty; choose another --split or run steps 01 to 03 again")
    pages = [pool.page for pool in pools]
    rows = _metrics(pools, scores, candidate_only, further or {})
    arrays = [np.asarray(pool_scores, dtype=np.float64) for pool_scores in scores]
    flat = {(name, metric): values for name, row in rows.items() if row for metric, values in row.items()}
    intervals = page_intervals(flat, pages, seed=seed)  # the same resamples of pages for all rows
    accuracy = flat["model", "accuracy"].values
    figures = {
        name: ScorerFigures(
            means={metric: values.mean() for metric, values in row.items()},
            intervals={metric: intervals[name, metric] for metric in row},
            p_value=None if name in UNTESTED else paired_sign_flip(accuracy, row["accuracy"].values, pages, seed=seed),
        )
        for name, row in rows.items()
        if row is not None
    }
    distinct = [_copies(pool.candidates) != [0] * len(pool.candidates) for pool in pools]
    return Figures(
        n=len(pools),
        pages=len(set(pages)),
        unanswerable=sum(not pool.correct for pool in pools),
        equal_rewards=sum(several and _rewards_equal(pool) for pool, several in zip(pools, distinct, strict=True)),
        model=figures["model"],
        baselines={name: figures.get(name) for name in rows if name != "model"},
        positions=explain.picked_positions(pools, arrays),
        ties=Ties(
            top=sum(int(np.count_nonzero(pick_probabilities(array)) > 1) for array in arrays),
            all=sum(_look_the_same(*each, rounding) for each in zip(pools, arrays, strict=True)),
        ),
    )


def _copies(candidates: Sequence[Candidate]) -> list[int]:
    """The index of the first candidate with the same program and answer, for each candidate."""
    first: dict[tuple[str | None, Answer | None], int] = {}
    return [first.setdefault((one.program, one.answer), index) for index, one in enumerate(candidates)]


def _look_the_same(pool: RewardedPool, scores: FloatArray, rounding: float) -> bool:
    """True if candidates that are not copies of each other are scored, and all scores are equal."""
    scored = np.flatnonzero(scores > -np.inf)
    distinct = set(np.take(_copies(pool.candidates), scored).tolist())
    return len(distinct) > 1 and float(np.ptp(scores[scored])) <= rounding


def _rewards_equal(pool: RewardedPool) -> bool:
    """True if rewards do not separate the candidates, though some are right or have a value and others do not."""
    all_failed = all(candidate.answer is None for candidate in pool.candidates)
    return max(pool.rewards) == min(pool.rewards) and not all_failed and len(pool.correct) < len(pool.candidates)


def _metrics(
    pools: Sequence[RewardedPool],
    scores: Sequence[ArrayLike],
    candidate_only: Sequence[ArrayLike] | None,
    further: Mapping[str, Sequence[ArrayLike]],
) -> dict[str, dict[str, Metric] | None]:
    def of(row: Sequence[ArrayLike] | None, *, logits: bool = False) -> dict[str, Metric] | None:
        pooled = {"accuracy_pooled": pooled_accuracy(pools, row)} if row is not None and logits else {}
        return None if row is None else {**pool_metrics(pools, row), **pooled}

    return {
        "model": of(scores, logits=True),
        "chance": baselines.chance(pools),
        "constant": of([baselines.constant(pool) for pool in pools], logits=True),
        "medoid": of([baselines.medoid(pool) for pool in pools]),
        "medoid_text": of([baselines.medoid_text(pool) for pool in pools]),
        "candidate_only": of(candidate_only, logits=True),
        "majority_vote": of(baselines.majority_vote(pools)),
        **{name: of(row) for name, row in further.items()},
        "oracle": of([baselines.oracle(pool) for pool in pools]),
    }


def compare_pools(
    pools: Sequence[RewardedPool], scores: Sequence[ArrayLike], other: Sequence[ArrayLike], *, name: str, seed: int = 0
) -> Comparison:
    """A second scorer (`other`, called `name`) compared with the first on the same pools by accuracy."""
    first, second = pool_metrics(pools, scores)["accuracy"], pool_metrics(pools, other)["accuracy"]
    return _compare(pools, first, second, name, seed)


def _compare(pools: Sequence[RewardedPool], first: Metric, second: Metric, name: str, seed: int) -> Comparison:
    pages = [pool.page for pool in pools]
    difference = Metric(first.values - second.values, first.weights)
    return Comparison(
        other=name,
        accuracy=second.mean() or 0.0,
        difference=difference.mean() or 0.0,
        interval=page_intervals({"": difference}, pages, seed=seed)[""] or [],
        p_value=paired_sign_flip(first.values, second.values, pages, seed=seed),
    )


@dataclass(frozen=True)
class ScoredPools:
    """A model's scores of the pools, and what else an evaluation must know of the model."""

    scores: Sequence[np.ndarray]
    rescore: explain.Score  # of the same pools in another order
    tolerance: float  # the largest difference of two scores that is rounding
    truncation: Truncation
    shipped: Confidence | None = None  # found in the model folder
    chooser: Chooser = DEFAULT_CHOOSER  # of the model folder


class Rivals(NamedTuple):
    """Scores of the same pools by other models, None without one; name and chooser of the compared one.

    `further` holds scorers that become rows beside the baselines, by name.
    """

    candidate_only: Sequence[np.ndarray] | None = None
    compared: Sequence[np.ndarray] | None = None
    compared_name: str = ""
    compared_chooser: Chooser = DEFAULT_CHOOSER
    further: Mapping[str, Sequence[np.ndarray]] | None = None


def load_pools(data_dir: Path, split: str) -> list[RewardedPool]:
    """The pools of a split; UserError where it is missing or empty."""
    path = split_files(data_dir, [split], expected="finqa_with_rewards")[split]
    refuse_earlier_stage([path], "finqa_with_rewards")
    pools = load_records(path, RewardedPool)
    if not pools:
        raise UserError(f"{path} is empty: choose another --split, or run steps 01 to 03 again")
    return pools


def score_model(
    model_dir: Path, pools: Sequence[RewardedPool], description: str, base_model: str | None
) -> ScoredPools:
    """Load the model under evaluation, score the pools with it, and measure truncation."""
    loaded = load_model(model_dir, base_model)
    say(f"attention route: {loaded.route} ({loaded.route_reason})")
    try:
        shipped = load_confidence(model_dir)
    except UserError as error:  # says to evaluate again, which is what happens here
        shipped = None
        warn(str(error))
    for sentence in unlike_fitted(shipped, [pool.candidates for pool in pools]).values() if shipped else []:
        warn(sentence)
    settings = loaded.model.settings
    encoded, truncation = encode_and_measure(pools, loaded.tokenizer, settings.prompt, "encoding")
    if left_out := str(LeftOut.of(pools, encoded)):
        warn(left_out)
    scores = _copies_tied(pools, score_pools(loaded.model, encoded, route=loaded.route, description=description))
    tolerance = _ORDER_TOLERANCE[settings.dtype]
    chooser = load_chooser(find_model(model_dir))
    return ScoredPools(scores, lambda others: _score(loaded, others, ""), tolerance, truncation, shipped, chooser)


def score_rivals(
    pools: Sequence[RewardedPool],
    model_dir: Path,
    base_model: str | None,
    *,
    compared: Path | None,
    control: Path | None,
) -> Rivals:
    """Score the pools with other models than the one in `model_dir`; a model that is both rivals is loaded once.

    `base_model` replaces the path of the evaluated model's base, where a rival has the same base.
    """
    chooser = DEFAULT_CHOOSER if compared is None else load_chooser(compared)
    scores: dict[Path | None, list[np.ndarray] | None] = {None: None}
    for label, directory in (("compare", compared), ("candidate-only", control)):
        if directory is None:
            continue
        say(f"{label} model: {directory}")
        if directory not in scores:
            same_base = read_settings(directory).base_model == read_settings(model_dir).base_model
            loaded = load_model(directory, base_model if same_base else None)
            scores[directory] = _score(loaded, pools, f"scoring {label}")
    return Rivals(scores[control], scores[compared], str(compared), chooser)


def _score(loaded: LoadedModel, pools: Sequence[RewardedPool], description: str) -> list[np.ndarray]:
    return _copies_tied(pools, score_records(loaded, pools, description))


def _copies_tied(pools: Sequence[RewardedPool], scores: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The scores, with that of the first copy for all copies of a candidate: rounding must not break their ties."""
    return [pool_scores[_copies(pool.candidates)] for pool, pool_scores in zip(pools, scores, strict=True)]


def evaluate(
    pools: Sequence[RewardedPool],
    model: ScoredPools,
    rivals: Rivals,
    source: Source,
    *,
    wanted_accuracy: float = 0.9,
    seed: int = 0,
) -> EvaluationResult:
    """Evaluate a scored model; `wanted_accuracy` is the threshold's, `seed` draws resamples, orders and halves."""
    scores, tolerance = model.scores, model.tolerance
    controls: dict[str, Any] = {"candidate_only": rivals.candidate_only, "further": rivals.further}
    figures = evaluate_pools(pools, scores, seed=seed, rounding=tolerance, **controls)
    arrays = [pool_scores.astype(np.float64) for pool_scores in scores]
    accuracy, chance = pool_metrics(pools, arrays)["accuracy"], baselines.chance(pools)["accuracy"]
    order = explain.order_invariance(pools, scores, model.rescore, tolerance=tolerance, seed=seed)
    bias = explain.position_bias(pools, arrays, accuracy, order, seed=seed)
    confidence = calibration_figures(
        pools, scores, wanted_accuracy=wanted_accuracy, seed=seed, shipped=model.shipped, chooser=model.chooser
    )
    comparison, answers = None, answer_figures(pools, scores, model.chooser, seed=seed)
    if rivals.compared is not None:
        comparison = compare_pools(pools, scores, rivals.compared, name=rivals.compared_name, seed=seed)
        if answers is not None:
            first = first_answers(pools, scores, model.chooser)
            second = first_answers(pools, rivals.compared, rivals.compared_chooser)
            answers = replace(answers, compared=_compare(pools, first, second, rivals.compared_name, seed))
    return EvaluationResult(
        figures=figures,
        bias=bias,
        breakdowns=explain.break_down(pools, arrays, accuracy, chance, seed=seed),
        mistakes=explain.confident_mistakes(pools, arrays, temperature=confidence.temperature, chooser=model.chooser),
        examples=explain.examples(pools, arrays, temperature=confidence.temperature, chooser=model.chooser),
        confidence=confidence,
        comparison=comparison,
        answers=answers,
        truncation=model.truncation,
        troubles=diagnose(figures, bias, confidence, model.truncation),
        source=source,
    )
