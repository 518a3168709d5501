"""The known ways in which a model or its pools fail, recognised from the figures, each with advice."""

from __future__ import annotations

from collections.abc import Iterator

from finrank.evaluation.intervals import FEWEST_PAGES
from finrank.evaluation.result import CalibrationFigures, Figures, PositionBias
from finrank.evaluation.survival import Truncation

MOST_LOSING = 0.2  # of the questions may lose a gold operand to truncation
MOST_UNANSWERABLE = 0.5  # of the pools
MOST_WITHOUT_SPREAD = 0.2  # of the pools may have equal rewards
UNEVEN_P = 0.001  # below this the picked positions are called uneven
MOST_HARM = 0.01  # the calibration error may grow by this much, by the temperature of the other half of the pages
_CLEAR = 0.05  # a paired test's p-value from which a difference is not clear
_ADVICE = {
    "medoid": "the pools may give gold away by its value: run finrank audit on them",
    "medoid_text": "the pools may give gold away by its program: run finrank audit on them",
    "candidate_only": "the model may not use question and page; check what the prompt keeps of them, or the pools may "
    "give gold away by its form",
    "majority_vote": "rank by votes too, as Ranker does, and see which weights fit with finrank fit",
}
_GIVING_AWAY = ("medoid", "medoid_text", "candidate_only")


def diagnose(
    figures: Figures,
    bias: PositionBias | None = None,
    confidence: CalibrationFigures | None = None,
    truncation: Truncation | None = None,
) -> list[str]:
    """A sentence, with advice, for each thing that is wrong with the model or the pools; none where all is well."""
    nothing_to_choose = list(_nothing_to_choose(figures))
    return [
        *nothing_to_choose,
        *_of_scores(figures, bias),
        *([] if nothing_to_choose else _of_accuracy(figures, made_up=_are_made_up(confidence))),
        *_of_data(figures, confidence, truncation),
    ]


def _nothing_to_choose(figures: Figures) -> Iterator[str]:
    best = figures.accuracy_of("oracle")
    if figures.unanswerable == figures.n:
        yield (
            f"none of the {figures.n} pools has a correct candidate: no scorer can be right, and no accuracy below "
            "says anything; check the gold answers (step 00), or add candidates (more samples, other models)"
        )
    elif abs(best - figures.accuracy_of("chance")) <= 1e-9:
        yield (
            f"the pools leave nothing to choose: in each, all candidates are right or none is, so that picks at random "
            f"reach the {best:.3f} of the best ones; evaluate on pools that hold right and wrong candidates"
        )


def _of_scores(figures: Figures, bias: PositionBias | None) -> Iterator[str]:
    if figures.ties.all:
        yield (
            f"in {figures.ties.all} of {figures.n} pools all scores are equal: different candidates look the "
            "same to the model; check that none is cut off (max_length) and that scores are computed in float32"
        )
    order = bias and bias.order_invariance
    if order and order.max_difference > order.tolerance:
        yield (
            f"scores depend on the order of the candidates: they move by up to {order.max_difference:.2g} when the "
            f"same {order.checked} pools are scored in another order; set attention_route: naive, and report the "
            "model's architecture"
        )
    if figures.positions.warning:
        yield figures.positions.warning
    elif bias is not None and bias.p_value is not None and bias.p_value < UNEVEN_P:
        more = [picked - even for picked, even in zip(bias.picked, bias.even, strict=True)]
        favourite = max(range(len(more)), key=more.__getitem__)
        yield (
            f"the picks lie unevenly over the positions, {bias.picked[favourite]:.1%} of them at position {favourite} "
            f"(counted from 0; at random {bias.even[favourite]:.1%}; chi-square test: p = {bias.p_value:.2g}): if "
            "finrank audit finds gold's places even, train on shuffled candidates, else run step 02 again"
        )


def _are_made_up(confidence: CalibrationFigures | None) -> bool:
    """True if candidates were corrupted; systems agree on right answers, which gives nothing away."""
    return confidence is None or "corrupted" in confidence.origins


def _of_accuracy(figures: Figures, *, made_up: bool) -> Iterator[str]:
    n, unanswerable, model = figures.n, figures.unanswerable, figures.model
    chance = figures.accuracy_of("chance")
    if model.interval[0] <= chance:
        yield (
            f"accuracy {model} is not clearly above chance ({chance:.3f}): train longer, raise the learning "
            "rate, or evaluate on more pages"
        )
    for name, advice in _ADVICE.items():
        row = figures.baselines[name] if made_up or name not in _GIVING_AWAY else None
        if row is not None and (model.accuracy <= row.accuracy or (row.p_value or 0.0) >= _CLEAR):
            yield (
                f"accuracy {model} is not clearly better than {name.replace('_', '-')} {row} "
                f"(paired test over pages: p = {row.p_value:.3g}): {advice}"
            )
    for name in _GIVING_AWAY if made_up else ():
        row = figures.baselines[name]
        # A quarter of the way from chance to certainty: 0.34 in pools of 8, 0.63 in pools of 2.
        if row is not None and row.interval[0] > chance + (1 - chance) / 4:
            yield (
                f"the pools give themselves away: {name.replace('_', '-')}, which reads neither question nor page, has "
                f"accuracy {row}, chance is {chance:.3f}; see what finrank audit says and make them again "
                "(step 02)"
            )
    if unanswerable > MOST_UNANSWERABLE * n:
        yield (
            f"{unanswerable} of {n} pools have no correct candidate: accuracy cannot be above "
            f"{1 - unanswerable / n:.3f}; add candidates (more samples, other models), or let ranking abstain"
        )


def _of_data(figures: Figures, confidence: CalibrationFigures | None, truncation: Truncation | None) -> Iterator[str]:
    if figures.equal_rewards > MOST_WITHOUT_SPREAD * figures.n:
        yield (
            f"in {figures.equal_rewards} of {figures.n} pools all rewards are equal: nothing can be chosen there; look "
            "at their candidates and answers, and run step 03 again"
        )
    if figures.pages < FEWEST_PAGES:
        yield (
            f"only {figures.pages} {'page' if figures.pages == 1 else 'pages'}: intervals and p-values mean little, "
            f"since they come from comparing pages; evaluate on {FEWEST_PAGES} pages or more"
        )
    if confidence and confidence.ece > confidence.ece_uncalibrated + MOST_HARM:
        yield (
            f"calibration harms: the temperature fitted on half of the pages makes the probabilities of the other half "
            f"worse (calibration error {confidence.ece:.3f}, without it {confidence.ece_uncalibrated:.3f}); fit it "
            "on more pages, or keep it from the model with --no-save_confidence"
        )
    losing = (truncation and truncation.questions_losing_numbers) or 0.0
    if losing > MOST_LOSING:
        yield (
            f"{losing:.1%} of the questions lose a number of their gold program to truncation: raise prompt.max_length "
            "or prompt.context_tokens, or set prompt.labels: true, and train again"
        )
