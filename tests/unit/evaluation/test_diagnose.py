"""Every known failure is named with a remedy, and a good model on fair pools is not blamed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from finrank.evaluation.diagnose import diagnose
from finrank.evaluation.result import (
    CalibrationFigures,
    Figures,
    OrderInvariance,
    PickedPositions,
    PositionBias,
    ScorerFigures,
    Ties,
)
from finrank.evaluation.survival import Truncation


def row(accuracy: float, p_value: float | None = 0.0001, half: float = 0.03) -> ScorerFigures:
    return ScorerFigures({"accuracy": accuracy}, {"accuracy": [accuracy - half, accuracy + half]}, p_value)


BASELINES = {
    "chance": row(0.125, None), "medoid": row(0.2), "medoid_text": row(0.2), "candidate_only": row(0.25),
    "majority_vote": None, "oracle": row(0.95, None),
}  # fmt: skip
# A good model on fair pools of eight.
GOOD = Figures(400, 200, 20, 3, row(0.6, None), BASELINES, PickedPositions([], 400, 0, 0.1, None), Ties(top=0, all=0))
BIAS = PositionBias([], [0.13, 0.12, 0.75], [0.6, 0.2, 0.2], 0.3, OrderInvariance(32, 1e-5, 1e-4))
CONFIDENCE = CalibrationFigures(1.0, 0.045, 0.05, [], [], {}, 0.9, None, {}, {})
TRUNCATION = Truncation(None, None, 0.15)


def change(figures: Figures = GOOD, **baselines: ScorerFigures) -> Figures:
    return replace(figures, baselines={**figures.baselines, **baselines})


def test_nothing_is_said_where_nothing_is_wrong() -> None:
    assert diagnose(GOOD, BIAS, CONFIDENCE, TRUNCATION) == []
    assert diagnose(GOOD) == [], "figures of a training evaluation are enough"
    assert diagnose(change(majority_vote=row(0.5))) == [], "voting reveals nothing"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ties": Ties(top=400, all=30)}, ["in 30 of 400 pools all scores are equal", "max_length"]),
        ({"model": row(0.14)}, ["not clearly above chance (0.125)", "train longer"]),
        ({"unanswerable": 220}, ["220 of 400 pools have no correct candidate", "above 0.450", "abstain"]),
        ({"pages": 9}, ["only 9 pages", "10 pages or more"]),
        ({"equal_rewards": 81}, ["in 81 of 400 pools all rewards are equal", "step 03"]),
    ],
)
def test_a_failure_of_model_or_pools_is_named(changes: dict[str, Any], said: list[str]) -> None:
    baselines = {} if "model" not in changes else dict.fromkeys(("medoid", "medoid_text", "candidate_only"))
    figures = replace(GOOD, **changes, baselines={**BASELINES, **baselines})
    (sentence,) = diagnose(figures, BIAS, CONFIDENCE, TRUNCATION)
    assert all(part in sentence for part in said), sentence


@pytest.mark.parametrize(
    ("explained", "said"),
    [
        ((replace(BIAS, order_invariance=OrderInvariance(32, 0.02, 1e-4)),), ["up to 0.02", "32 pools", "naive"]),
        ((replace(BIAS, p_value=1e-4),), ["75.0% of them at position 2"]),
        (
            (replace(BIAS, p_value=1e-4, picked=[0.45, 0.35, 0.2]),),
            ["35.0% of them at position 1", "at random 20.0%"],
        ),
        ((BIAS, replace(CONFIDENCE, ece=0.06)), ["calibration harms", "0.060", "0.045"]),
        ((BIAS, CONFIDENCE, Truncation(None, None, 0.21)), ["21.0% of the questions lose", "prompt.max_length"]),
    ],
)
def test_a_failure_in_the_explanations_is_named(explained: tuple[Any, ...], said: list[str]) -> None:
    (sentence,) = diagnose(GOOD, *explained)
    assert all(part in sentence for part in said), sentence


def test_of_two_sentences_about_positions_the_stronger_is_said() -> None:
    warned = replace(GOOD, positions=PickedPositions([], 400, 2, 0.9, "the stronger sentence"))
    assert diagnose(warned, replace(BIAS, p_value=1e-4)) == ["the stronger sentence"]


@pytest.mark.parametrize("name", ["medoid", "medoid_text", "candidate_only", "majority_vote"])
def test_attackers_as_good_as_the_model_are_named_and_those_far_above_chance(name: str) -> None:
    (sentence,) = diagnose(change(**{name: row(0.3, p_value=0.2)}))
    assert f"not clearly better than {name.replace('_', '-')}" in sentence
    if name != "majority_vote":
        (sentence,) = diagnose(change(**{name: row(0.4)}))
        assert re.search("pools give themselves away.*finrank audit", sentence)


@pytest.mark.parametrize(
    ("accuracy", "unanswerable", "said"),
    [(0.0, 400, "none of the 400 pools has a correct candidate"), (0.4, 240, "nothing to choose")],
)
def test_nothing_is_compared_where_scorers_cannot_differ(accuracy: float, unanswerable: int, said: str) -> None:
    same = row(accuracy, 1.0)
    figures = replace(GOOD, model=same, unanswerable=unanswerable, baselines=dict.fromkeys(BASELINES, same))
    (sentence,) = diagnose(figures)
    assert said in sentence
