"""Every known failure is named, with what to do; a good model on fair pools gives no sentence."""

from __future__ import annotations

from typing import Any

import pytest

from finrank.evaluation.diagnose import diagnose


def row(accuracy: float, p_value: float = 0.0001, half: float = 0.03) -> dict[str, Any]:
    return {"accuracy": accuracy, "intervals": {"accuracy": [accuracy - half, accuracy + half]}, "p_value": p_value}


def good() -> dict[str, Any]:
    """A good model on fair pools of eight."""
    return {
        "n": 400,
        "pages": 200,
        "unanswerable": 20,
        "equal_rewards": 3,
        **row(0.6),
        "baselines": {
            "chance": row(0.125),
            "medoid": row(0.2),
            "medoid_text": row(0.2),
            "candidate_only": row(0.25),
            "majority_vote": None,
            "oracle": row(0.95),
        },
        "positions": {"warning": None},
        "ties": {"top": 0, "all": 0},
        "bias": {
            "picked": [0.13, 0.12, 0.75],
            "p_value": 0.3,
            "order_invariance": {"checked": 32, "max_difference": 1e-5, "tolerance": 1e-4},
        },
        "confidence": {"ece": 0.05, "ece_uncalibrated": 0.045},
        "truncation": {"questions_losing_numbers": 0.15},
    }


def test_nothing_is_said_where_nothing_is_wrong() -> None:
    assert diagnose(good()) == []


def test_figures_of_a_training_evaluation_are_enough() -> None:
    result = good()
    del result["bias"], result["truncation"], result["confidence"]
    assert diagnose(result) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ties": {"top": 400, "all": 30}}, ["in 30 of 400 pools all scores are equal", "max_length"]),
        ({"positions": {"warning": "90% of the picks are at position 2"}}, ["position 2"]),
        (row(0.14), ["not clearly above chance (0.125)", "train longer"]),
        ({"unanswerable": 220}, ["220 of 400 pools have no correct candidate", "above 0.450", "abstain"]),
        ({"pages": 9}, ["only 9 pages", "10 pages or more"]),
        ({"confidence": {"ece": 0.06, "ece_uncalibrated": 0.045}}, ["calibration harms", "0.060", "0.045"]),
        ({"equal_rewards": 81}, ["in 81 of 400 pools all rewards are equal", "step 03"]),
        ({"truncation": {"questions_losing_numbers": 0.21}}, ["21.0% of the questions lose", "prompt.max_length"]),
    ],
)
def test_a_failure_of_the_whole_is_named_with_what_to_do(change: dict[str, Any], said: list[str]) -> None:
    found = "\n".join(diagnose({**good(), **change}))
    assert [part for part in said if part not in found] == []


def test_scores_that_depend_on_the_order_are_named() -> None:
    result = good()
    result["bias"]["order_invariance"]["max_difference"] = 2e-4
    (sentence,) = diagnose(result)
    assert "scores depend on the order of the candidates" in sentence
    assert "0.0002" in sentence


def test_uneven_picks_are_named_below_the_warning_of_one_position() -> None:
    result = good()
    result["bias"]["p_value"] = 0.0001
    (sentence,) = diagnose(result)
    assert "75.0% of them at position 2" in sentence
    result["positions"]["warning"] = "the stronger sentence"
    assert diagnose(result) == ["the stronger sentence"]


@pytest.mark.parametrize("name", ["medoid", "medoid_text", "candidate_only", "majority_vote"])
def test_a_model_no_better_than_an_attacker_is_named(name: str) -> None:
    result = good()
    result["baselines"][name] = row(0.3, p_value=0.2)
    (sentence,) = diagnose(result)
    assert f"not clearly better than {name.replace('_', '-')}" in sentence


@pytest.mark.parametrize("name", ["medoid", "medoid_text", "candidate_only"])
def test_pools_that_give_themselves_away_are_named_though_the_model_is_better(name: str) -> None:
    result = good()
    result["baselines"][name] = row(0.4)
    (sentence,) = diagnose(result)
    assert "the pools give themselves away" in sentence
    assert "finrank audit" in sentence


def test_voting_gives_nothing_away() -> None:
    result = good()
    result["baselines"]["majority_vote"] = row(0.5)
    assert diagnose(result) == []


def test_chance_constant_and_oracle_need_no_test() -> None:
    result = good()
    for name in ("chance", "oracle"):
        result["baselines"][name]["p_value"] = None
    assert diagnose(result) == []


def test_nothing_is_compared_where_nothing_can_be_right() -> None:
    nothing = {"accuracy": 0.0, "intervals": {"accuracy": [0.0, 0.0]}, "p_value": 1.0}
    baselines = dict.fromkeys(good()["baselines"], nothing)
    (sentence,) = diagnose({**good(), **nothing, "unanswerable": 400, "baselines": baselines})
    assert "none of the 400 pools has a correct candidate" in sentence


def test_nothing_is_compared_where_there_is_nothing_to_choose() -> None:
    same = {"accuracy": 0.4, "intervals": {"accuracy": [0.36, 0.44]}, "p_value": 1.0}
    baselines = dict.fromkeys(good()["baselines"], same)
    (sentence,) = diagnose({**good(), **same, "unanswerable": 240, "baselines": baselines})
    assert "nothing to choose" in sentence
    assert "0.400" in sentence
