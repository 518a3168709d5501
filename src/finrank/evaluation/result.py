"""The result of an evaluation, typed: JSON, screen tables, HTML report, model card and diagnosis read this object.

Fields are named and ordered as in the JSON that `finrank evaluate --json` writes; means and shares are rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from finrank.evaluation.intervals import Interval
from finrank.evaluation.survival import Truncation
from finrank.ranker.confidence import Confidence, Threshold
from finrank.records import Answer


@dataclass(frozen=True)
class ScorerFigures:
    """The metrics of one scorer (names and meaning: `metrics.py`)."""

    means: dict[str, float | None]
    """Mean over pools by metric; None where the metric leaves every pool out."""
    intervals: dict[str, Interval | None]
    p_value: float | None = None
    """Paired test of the accuracy against the model's; None for the model itself and what is not tested."""

    @property
    def accuracy(self) -> float:
        """Mean accuracy; it leaves no pool out."""
        accuracy = self.means["accuracy"]
        assert accuracy is not None
        return accuracy

    @property
    def interval(self) -> Interval:
        """Interval of the accuracy."""
        interval = self.intervals["accuracy"]
        assert interval is not None
        return interval


@dataclass(frozen=True)
class PickedPositions:
    """Where in the stored order the picks are, positions counted from 0."""

    picks: list[float]
    """Picks at each position, ties in equal shares."""
    pools: int
    """Pools of at least four candidates; the next two fields are about these."""
    most: int | None
    """Position picked most often; None without such pools."""
    share: float
    """Share of the picks at that position."""
    warning: str | None


@dataclass(frozen=True)
class Ties:
    """Pools in which scores are equal."""

    top: int
    """Pools whose highest score is shared."""
    all: int
    """Pools whose candidates differ though all their scores are equal."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A scorer beside the baselines on the same pools: what training measures, and the first part of an evaluation."""

    n: int
    pages: int
    unanswerable: int
    """Pools without a correct candidate."""
    equal_rewards: int
    """Pools whose rewards are all equal though there is something to choose."""
    model: ScorerFigures
    baselines: dict[str, ScorerFigures | None]
    """By name (see `baselines.py`); None where a baseline does not apply."""
    positions: PickedPositions
    ties: Ties

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; the model's metrics are at the top."""
        values: dict[str, Any] = to_jsonable_python(self)
        model = values.pop("model")
        counts = {name: values.pop(name) for name in ("n", "pages", "unanswerable", "equal_rewards")}
        values["baselines"] = {name: row and _flat(row) for name, row in values["baselines"].items()}
        return {**counts, **model["means"], "intervals": model["intervals"], **values}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {**row.pop("means"), **row}


@dataclass(frozen=True)
class BestPosition:
    """Pools by the position of their correct candidate."""

    position: int
    n: float
    """Pools; one with several correct candidates counts in equal shares at each."""
    accuracy: float | None
    interval: Interval | None


@dataclass(frozen=True)
class OrderInvariance:
    """Pools scored again with their candidates reversed and shuffled."""

    checked: int
    """Pools scored again."""
    max_difference: float
    """Largest difference of a candidate's score from its score in the stored order."""
    tolerance: float
    """Largest difference that rounding explains."""


@dataclass(frozen=True)
class PositionBias:
    """Whether the model picks positions rather than answers."""

    best_positions: list[BestPosition]
    picked: list[float]
    """Share of the picks at each position."""
    p_value: float | None
    """Chi-square test of the picks against all positions of a pool being as likely; None for too few pools."""
    order_invariance: OrderInvariance


@dataclass(frozen=True)
class BreakdownRow:
    """Pools of one kind."""

    name: str
    n: int
    accuracy: float | None
    interval: Interval | None
    """None for a row of fewer than ten pages."""
    chance: float
    """Accuracy of picks at random in the same pools."""


@dataclass(frozen=True)
class WrongKind:
    """Wrong candidates of one kind: made by the same edit, or without an edit of the same origin."""

    name: str
    picked: float
    """Picks, ties in equal shares."""
    offered: int
    share: float
    """Share of the offered ones that was picked."""
    chance: float
    """The same for picks at random."""


@dataclass(frozen=True)
class Breakdowns:
    """Accuracy by kind of question and pool. Pools without a gold program are in none of the first three tables."""

    steps: list[BreakdownRow]
    operation: list[BreakdownRow]
    """A pool counts for each operation of its gold program."""
    origin: list[BreakdownRow]
    """Where the gold program's numbers and rows are: table, text (sentences only), both or nowhere on the page."""
    context_length: list[BreakdownRow]
    """Quarters of the pools by words of table and text."""
    candidates: list[BreakdownRow]
    """Pool sizes; empty where all pools have the same."""
    fooled_by: list[WrongKind]


@dataclass(frozen=True)
class RankedCandidate:
    """A candidate of a ranking."""

    program: str | None
    answer: Answer | None
    score: float
    probability: float
    """Probability of its answer as `Ranker` returns it: equal answers pool theirs, then the temperature applies."""
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
    picked: int
    """Index of the candidate with the highest score."""
    confidence: float
    """Probability of the picked candidate."""

    @property
    def pick(self) -> RankedCandidate:
        """The picked candidate."""
        return self.candidates[self.picked]

    @property
    def right_program(self) -> str | None:
        """Gold program, else that of the first candidate with reward 1.0."""
        return self.program or next((one.program for one in self.candidates if one.reward == 1.0), None)


@dataclass(frozen=True)
class ReliabilityBin:
    """Pools of similar confidence."""

    n: int
    low: float
    high: float
    confidence: float
    """Mean confidence."""
    accuracy: float


@dataclass(frozen=True)
class ShippedConfidence:
    """The temperature and threshold found in the model folder, tried on the evaluated pools."""

    temperature: float
    threshold: float | None
    coverage: float
    """Share of the pools answered: of all of them where there is no threshold."""
    accuracy: float | None
    """Accuracy of the answered pools; None where none is answered."""


@dataclass(frozen=True)
class CalibrationFigures:
    """How well probabilities predict accuracy. Errors, reliability and risk-coverage are out of fold."""

    temperature: float
    """Fitted on all pools; this one ships."""
    ece_uncalibrated: float
    """Expected calibration error at temperature 1."""
    ece: float
    """Expected calibration error at the temperature of the other half of the pages."""
    reliability: list[ReliabilityBin]
    risk_coverage: list[list[float]]
    """[coverage, accuracy] when only the surest pools are answered."""
    accuracy_at: dict[float, float]
    """Accuracy by share of the pools answered, the surest first."""
    wanted_accuracy: float
    threshold: Threshold | None
    """For the shipped temperature; None where the wanted accuracy is out of reach."""
    pool_sizes: dict[int, int]
    """Pools by number of candidates."""
    origins: dict[str, int]
    """Candidates by origin."""
    shipped: ShippedConfidence | None = None

    def to_ship(self, data_hashes: dict[str, str]) -> Confidence:
        """Temperature and threshold for the model folder; `data_hashes` names the files they were fitted on."""
        return Confidence(
            temperature=self.temperature,
            threshold=self.threshold,
            n=sum(self.pool_sizes.values()),
            pool_sizes=self.pool_sizes,
            origins=self.origins,
            data_hashes=data_hashes,
            score_head="",  # that of the folder it is saved into
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
class Source:
    """What was evaluated, and with which versions."""

    model: str
    data: str
    split: str
    versions: dict[str, str]
    data_hashes: dict[str, str]
    """sha256 by file of the data."""


@dataclass(frozen=True)
class EvaluationResult:
    """Everything that `finrank evaluate` finds out about a model."""

    figures: Figures
    bias: PositionBias
    breakdowns: Breakdowns
    mistakes: list[RankedPool]
    """At most 50, the surest first."""
    examples: list[RankedPool]
    """Eight pools evenly spaced through the split."""
    confidence: CalibrationFigures
    comparison: Comparison | None
    truncation: Truncation
    troubles: list[str]
    """Sentences of `diagnose`."""
    source: Source

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; figures and source are at the top."""
        values: dict[str, Any] = to_jsonable_python(self)
        del values["figures"]
        source = values.pop("source")
        return {**self.figures.as_json(), **values, **source}
