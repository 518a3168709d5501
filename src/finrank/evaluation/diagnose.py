"""The known ways in which a model or its pools fail, recognised from the figures, each with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finrank.evaluation.intervals import FEWEST_PAGES

MOST_LOSING = 0.2  # of the questions may lose a gold operand to truncation
MOST_UNANSWERABLE = 0.5  # of the pools
MOST_WITHOUT_SPREAD = 0.2  # of the pools may have equal rewards
UNEVEN_P = 0.001  # below this the picked positions are called uneven
MOST_HARM = 0.01  # the calibration error may grow by this much, by the temperature of the other half of the pages
_CLEAR = 0.05  # a paired test's p-value from which a difference is not clear

_WHAT_TO_DO = {
    "medoid": "the pools may give gold away by its value: run finrank audit on them",
    "medoid_text": "the pools may give gold away by its program: run finrank audit on them",
    "candidate_only": "the model may not use question and page; check what the prompt keeps of them, or the pools may "
    "give gold away by its form",
    "majority_vote": "voting costs nothing: train on pools of this origin, or vote",
}
_GIVING_AWAY = ("medoid", "medoid_text", "candidate_only")


def diagnose(result: Mapping[str, Any]) -> list[str]:
    """What the figures of an evaluation say is wrong, a sentence each with what to do, or nothing.

    Takes what `evaluate_pools` gives; "bias", "confidence" and "truncation" are looked at where they are there.
    """
    nothing_to_choose = _nothing_to_choose(result)
    return [
        *nothing_to_choose,
        *_of_scores(result),
        *_of_positions(result),
        *([] if nothing_to_choose else _of_accuracy(result)),
        *([] if nothing_to_choose else _of_answerable(result)),
        *_of_rewards(result),
        *_of_pages(result),
        *_of_confidence(result),
        *_of_truncation(result),
    ]


def _nothing_to_choose(result: Mapping[str, Any]) -> list[str]:
    """Pools on which all scorers are equally good: nothing is learnt from comparing them."""
    n, best = result["n"], result["baselines"]["oracle"]["accuracy"]
    if result["unanswerable"] == n:
        return [
            f"none of the {n} pools has a correct candidate: no scorer can be right, and no accuracy below says "
            "anything; check the gold answers (step 00), or add candidates (more samples, other models)"
        ]
    if abs(best - result["baselines"]["chance"]["accuracy"]) > 1e-9:
        return []
    return [
        f"the pools leave nothing to choose: in each, all candidates are right or none is, so that picks at random "
        f"reach the {best:.3f} of the best ones; evaluate on pools that hold right and wrong candidates"
    ]


def _of_scores(result: Mapping[str, Any]) -> list[str]:
    found = []
    if result["ties"]["all"]:
        found.append(
            f"in {result['ties']['all']} of {result['n']} pools all scores are equal: different candidates look the "
            "same to the model; check that none is cut off (max_length) and that scores are computed in float32"
        )
    order = result.get("bias", {}).get("order_invariance")
    if order and order["max_difference"] > order["tolerance"]:
        found.append(
            f"scores depend on the order of the candidates: they move by up to {order['max_difference']:.2g} when the "
            f"same {order['checked']} pools are scored in another order; set attention_route: naive, and report the "
            "model's architecture"
        )
    return found


def _of_positions(result: Mapping[str, Any]) -> list[str]:
    if result["positions"]["warning"]:
        return [result["positions"]["warning"]]
    bias = result.get("bias")
    if not bias or bias["p_value"] is None or bias["p_value"] >= UNEVEN_P:
        return []
    most = max(range(len(bias["picked"])), key=lambda place: bias["picked"][place])
    return [
        f"the picks lie unevenly over the positions, {bias['picked'][most]:.1%} of them at position {most} (counted "
        f"from 0; chi-square test: p = {bias['p_value']:.2g}): if finrank audit finds gold's places even, train on "
        "shuffled candidates, else run step 02 again"
    ]


def _of_accuracy(result: Mapping[str, Any]) -> list[str]:
    found = []
    own, chance = _accuracy(result), result["baselines"]["chance"]["accuracy"]
    if result["intervals"]["accuracy"][0] <= chance:
        found.append(
            f"accuracy {own} is not clearly above chance ({chance:.3f}): train longer, raise the learning rate, or "
            "evaluate on more pages"
        )
    for name, what_to_do in _WHAT_TO_DO.items():
        row = result["baselines"][name]
        if row is not None and (result["accuracy"] <= row["accuracy"] or row["p_value"] >= _CLEAR):
            found.append(
                f"accuracy {own} is not clearly better than {name.replace('_', '-')} {_accuracy(row)} (paired test "
                f"over pages: p = {row['p_value']:.3g}): {what_to_do}"
            )
    return found


def _of_answerable(result: Mapping[str, Any]) -> list[str]:
    found = []
    n, chance = result["n"], result["baselines"]["chance"]["accuracy"]
    for name in _GIVING_AWAY:
        row = result["baselines"][name]
        # A quarter of the way from chance to certainty: 0.34 in pools of 8, 0.63 in pools of 2.
        if row is not None and row["intervals"]["accuracy"][0] > chance + (1 - chance) / 4:
            found.append(
                f"the pools give themselves away: {name.replace('_', '-')}, which reads neither question nor page, has "
                f"accuracy {_accuracy(row)}, chance is {chance:.3f}; see what finrank audit says and make them again "
                "(step 02)"
            )
    if result["unanswerable"] > MOST_UNANSWERABLE * n:
        found.append(
            f"{result['unanswerable']} of {n} pools have no correct candidate: accuracy cannot be above "
            f"{1 - result['unanswerable'] / n:.3f}; add candidates (more samples, other models), or let ranking abstain"
        )
    return found


def _of_rewards(result: Mapping[str, Any]) -> list[str]:
    n = result["n"]
    if result["equal_rewards"] > MOST_WITHOUT_SPREAD * n:
        return [
            f"in {result['equal_rewards']} of {n} pools all rewards are equal: nothing can be chosen there; look at "
            "their candidates and answers, and run step 03 again"
        ]
    return []


def _of_pages(result: Mapping[str, Any]) -> list[str]:
    pages = result["pages"]
    if pages >= FEWEST_PAGES:
        return []
    return [
        f"only {pages} {'page' if pages == 1 else 'pages'}: intervals and p-values mean little, since they come from "
        f"comparing pages; evaluate on {FEWEST_PAGES} pages or more"
    ]


def _of_confidence(result: Mapping[str, Any]) -> list[str]:
    confidence = result.get("confidence")
    if confidence is None or confidence["ece"] <= confidence["ece_uncalibrated"] + MOST_HARM:
        return []
    return [
        f"calibration harms: the temperature fitted on half of the pages makes the probabilities of the other half "
        f"worse (calibration error {confidence['ece']:.3f}, without it {confidence['ece_uncalibrated']:.3f}); fit it "
        "on more pages, or keep it from the model with --no-save_confidence"
    ]


def _of_truncation(result: Mapping[str, Any]) -> list[str]:
    losing = result.get("truncation", {}).get("questions_losing_numbers")
    if losing is None or losing <= MOST_LOSING:
        return []
    return [
        f"{losing:.1%} of the questions lose a number of their gold program to truncation: raise prompt.max_length or "
        "prompt.context_tokens, or set prompt.labels: true, and train again"
    ]


def _accuracy(row: Mapping[str, Any]) -> str:
    low, high = row["intervals"]["accuracy"]
    return f"{row['accuracy']:.3f} ({low:.3f}-{high:.3f})"
