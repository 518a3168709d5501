"""The result of an evaluation, typed: JSON, screen tables, HTML report, model card and diagnosis read this object.

Fields are named and ordered as in the JSON of `finrank evaluate --json`. Figures are rounded; positions count from 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from finrank.evaluation.intervals import Interval, with_interval
from finrank.evaluation.survival import Truncation
from finrank.ranker.choosing.confidence import Confidence, Threshold
from finrank.records import Answer


@dataclass(frozen=True)
class ScorerFigures:
    """The metrics of one scorer by name (see `metrics.py`), and a test of its accuracy against the model's."""

    means: dict[str, float | None]  # over pools; None where the metric leaves every pool out
    intervals: dict[str, Interval | None]
    p_value: float | None = None  # None for the model itself and for what is not tested

    @property
    def accuracy(self) -> float:
        """Mean accuracy; it leaves no pool out."""
        return self.means["accuracy"] or 0.0

    @property
    def interval(self) -> Interval:
        """Interval of the accuracy."""
        return self.intervals["accuracy"] or []

    def __str__(self) -> str:
        return with_interval(self.accuracy, self.interval)


@dataclass(frozen=True)
class PickedPositions:
    """Where in the stored order the picks are; all but `picks` is about pools of at least four candidates."""

    picks: list[float]  # at each position, ties in equal shares
    pools: int
    most: int | None  # position picked most often; None without such pools
    share: float  # of the picks, at that position
    warning: str | None


@dataclass(frozen=True)
class Ties:
    """Pools in which scores are equal."""

    top: int  # pools whose highest score is shared
    all: int  # pools whose candidates differ though all their scores are equal


@dataclass(frozen=True)
class Figures:
    """A scorer and the baselines on the same pools: the measure of training, and the first part of an evaluation."""

    n: int
    pages: int
    unanswerable: int  # pools without a correct candidate
    equal_rewards: int  # pools whose rewards are equal though there is something to choose
    model: ScorerFigures
    baselines: dict[str, ScorerFigures | None]  # see `baselines.py`; None where one does not apply
    positions: PickedPositions
    ties: Ties

    def accuracy_of(self, name: str) -> float:
        """Accuracy of a baseline that always applies, such as chance."""
        row = self.baselines[name]
        assert row is not None
        return row.accuracy

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; the model's metrics are at the top."""
        values: dict[str, Any] = to_jsonable_python(self)
        rest = {name: values.pop(name) for name in ("baselines", "positions", "ties")}
        model = values.pop("model")
        rest["baselines"] = {name: row and {**row.pop("means"), **row} for name, row in rest["baselines"].items()}
        return {**values, **model["means"], "intervals": model["intervals"], **rest}


@dataclass(frozen=True)
class BestPosition:
    """Pools by the position of their correct candidate."""

    position: int
    n: float  # pools; one with several correct candidates counts in equal shares at each
    accuracy: float
    interval: Interval | None


@dataclass(frozen=True)
class OrderInvariance:
    """Pools scored again with their candidates reversed and shuffled."""

    checked: int  # pools
    max_difference: float  # of a candidate's score from that in the stored order
    tolerance: float  # the largest difference that rounding explains


@dataclass(frozen=True)
class PositionBias:
    """Whether the model picks positions rather than answers."""

    best_positions: list[BestPosition]
    picked: list[float]  # share of the picks at each position
    even: list[float]  # the same of picks at random: smaller at late positions where pools differ in size
    p_value: float | None  # chi-square test against no preference; None for too few pools
    order_invariance: OrderInvariance


@dataclass(frozen=True)
class BreakdownRow:
    """Pools of one kind."""

    name: str
    n: int
    accuracy: float
    interval: Interval | None  # None for fewer than ten pages
    chance: float  # accuracy of picks at random in the same pools


@dataclass(frozen=True)
class WrongKind:
    """Wrong candidates made by the same edit, or of the same origin where they have no edit."""

    name: str
    picked: float  # ties in equal shares
    offered: int
    share: float  # of the offered that was picked
    chance: float  # that share for picks at random


@dataclass(frozen=True)
class Breakdowns:
    """Accuracy by kind of question and pool. Pools without a gold program are in none of the first three tables."""

    steps: list[BreakdownRow]
    operation: list[BreakdownRow]  # a pool counts for each operation of its gold program
    origin: list[BreakdownRow]  # of gold's numbers and rows: table, text (sentences only), both, or nowhere on the page
    context_length: list[BreakdownRow]  # quarters of the pools by words of table and text
    candidates: list[BreakdownRow]  # sizes of pools; empty where all are equal
    fooled_by: list[WrongKind]


@dataclass(frozen=True)
class RankedCandidate:
    """A candidate of a ranking; its probability is that of its answer, as `Ranker` returns it."""

    program: str | None
    answer: Answer | None
    score: float | None  # None where it is not scored
    probability: float
    reward: float
    origin: str
    edits: list[str]


@dataclass(frozen=True)
class RankedPool:
    """A question, its page and gold, and its ranked candidates in stored order."""

    id: str
    page: str
    question: str
    rows: list[list[str]]
    text: list[str]
    program: str | None
    answer: Answer | None
    candidates: list[RankedCandidate]
    picked: int  # index of the candidate with the highest score
    confidence: float  # its probability

    @property
    def pick(self) -> RankedCandidate:
        """The picked candidate."""
        return self.candidates[self.picked]

    @property
    def best_first(self) -> list[RankedCandidate]:
        """The candidates by score, those that are not scored last."""
        return sorted(self.candidates, key=lambda one: -math.inf if one.score is None else one.score, reverse=True)

    @property
    def right_program(self) -> str | None:
        """Gold program, else that of the first candidate with reward 1.0."""
        return self.program or next((one.program for one in self.candidates if one.reward == 1.0), None)


@dataclass(frozen=True)
class ReliabilityBin:
    """Pools of similar confidence: lowest, highest and mean confidence, and accuracy."""

    n: int
    low: float
    high: float
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class ShippedConfidence:
    """The temperature and threshold found in the model folder, tried on the evaluated pools."""

    temperature: float
    threshold: float | None
    coverage: float  # share of the pools answered: of all of them without a threshold
    accuracy: float | None  # of the answered pools; None where none is answered


@dataclass(frozen=True)
class CalibrationFigures:
    """How well probabilities predict accuracy. Errors, reliability and risk-coverage are out of fold."""

    temperature: float  # fitted on all pools; this one ships
    ece_uncalibrated: float  # expected calibration error at temperature 1
    ece: float  # the same at the temperature of the other half of the pages
    reliability: list[ReliabilityBin]
    risk_coverage: list[list[float]]  # [coverage, accuracy] when only the surest pools are answered
    accuracy_at: dict[float, float]  # accuracy by coverage
    wanted_accuracy: float
    threshold: Threshold | None  # for `temperature`; None where the wanted accuracy is out of reach
    pool_sizes: dict[int, int]  # pools by number of candidates
    origins: dict[str, int]  # candidates by origin
    shipped: ShippedConfidence | None = None

    def to_ship(self, data_hashes: dict[str, str]) -> Confidence:
        """Temperature and threshold for a model folder; `data_hashes` names the files they were fitted on."""
        return Confidence(
            temperature=self.temperature,
            threshold=self.threshold,
            n=sum(self.pool_sizes.values()),
            pool_sizes=self.pool_sizes,
            origins=self.origins,
            data_hashes=data_hashes,
            score_head="",  # that of the folder
        )


@dataclass(frozen=True)
class Comparison:
    """A second model on the same pools; a difference above 0 means that the evaluated model is better."""

    other: str
    accuracy: float
    difference: float
    interval: Interval
    p_value: float


@dataclass(frozen=True)
class AnswerRow:
    """How often a way to choose an answer is right."""

    accuracy: float
    interval: Interval
    p_value: float  # of the paired test against the first answer


@dataclass(frozen=True)
class AnswerFigures:
    """How often the first answer is right where several candidates may say one (see `answer_figures.py`)."""

    accuracy: float
    interval: Interval
    baselines: dict[str, AnswerRow | None]  # vote, best_system, systems_only, medoid, oracle; None without systems
    fitted: AnswerRow  # a chooser fitted on other pages of these pools
    compared: Comparison | None = None  # the first answers of a second model, by its own chooser

    @property
    def rows(self) -> dict[str, AnswerRow]:
        """Those of the baselines that apply and the fitted chooser, by their names for people."""
        named = {**self.baselines, "finrank, fitted to other pages": self.fitted}
        return {name.replace("_", " "): row for name, row in named.items() if row is not None}


@dataclass(frozen=True)
class Source:
    """What was evaluated, and with which versions."""

    model: str
    data: str
    split: str
    versions: dict[str, str]
    data_hashes: dict[str, str]  # sha256 by file


@dataclass(frozen=True)
class EvaluationResult:
    """Everything that `finrank evaluate` finds out about a model."""

    figures: Figures
    bias: PositionBias
    breakdowns: Breakdowns
    mistakes: list[RankedPool]  # at most 50, the surest first
    examples: list[RankedPool]  # eight, evenly spaced through the split
    confidence: CalibrationFigures
    comparison: Comparison | None
    answers: AnswerFigures | None  # None where every candidate says something else
    truncation: Truncation
    troubles: list[str]  # sentences of `diagnose`
    source: Source

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; figures and source are at the top."""
        values: dict[str, Any] = to_jsonable_python(self)
        del values["figures"]
        source = values.pop("source")
        return {**self.figures.as_json(), **values, **source}
