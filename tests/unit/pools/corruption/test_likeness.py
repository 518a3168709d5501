"""The likeness to gold: a sum of weights, with caches that agree with it."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest

from finrank.page.page import Page
from finrank.pools.corruption.corrupt import Draft
from finrank.pools.corruption.gold_shapes import FINQA_SHAPES, count_shapes
from finrank.pools.corruption.likeness import Feature, Likeness, PageLikeness, shape_features
from finrank.pools.corruption.trees import grow
from finrank.programs import operands, parse
from finrank.programs.shape import shape_of
from finrank.records import Question
from tests.helpers.questions import CHANGE, PAGE, RATE, N, Questions, corrupted, draft_of, gold_draft, small_corruptor

# The 0.1 % quantile of chi-square with 4 degrees of freedom.
CHI_SQUARE_4 = 18.5


Written = list[tuple[Question, list[tuple[Draft, list[Feature]]]]]
Edit = Callable[[list[Feature]], list[Feature]]


@pytest.fixture(scope="module")
def written(sample: Questions) -> Written:
    """Gold and wrong programs of 60 questions, some 500, with the features of each."""
    written = []
    for question in sample.dev[:60]:
        corruptor, gold = gold_draft(question, Likeness())
        drafts = [gold, *grow(corruptor, gold, N, RATE, random.Random(question.id))]
        written.append((question, [(draft, corruptor.features(draft)) for draft in drafts]))
    return written


def random_weights(written: Written, seed: int) -> dict[Feature, float]:
    every = {feature for _, drafts in written for _, features in drafts for feature in features}
    rng = random.Random(seed)
    return {feature: rng.gauss(0.0, 1.0) for feature in sorted(every, key=repr)}


def share_of_equal_scores(written: Written, likeness: Likeness, edit: Edit = list) -> float:
    """How often the cached scores, asked twice, are the sum of the weights of the features, plus log count."""
    equal = []
    for question, drafts in written:
        on_page = PageLikeness(Page(question.table, question.text), likeness)
        for draft, features in drafts * 2:
            score = likeness.of_shape(draft.program) + on_page.score(draft.program, draft.answer)
            count = math.log(likeness.shapes.get(shape_of(draft.program), 1.0))
            total = count + sum(likeness.weights.get(feature, 0.0) for feature in edit(features))
            equal.append(math.isclose(score, total, rel_tol=1e-9, abs_tol=1e-9))
    return sum(equal) / len(equal)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_the_sum_of_the_weights_of_all_features(written: Written, seed: int) -> None:
    likeness = Likeness(weights=random_weights(written, seed))
    assert len(likeness.weights) > 300
    assert share_of_equal_scores(written, likeness) == 1.0


@pytest.mark.parametrize("edit", [lambda features: features[1:], lambda features: features[:-1], set])
def test_a_feature_left_out_or_a_repeat_lost_would_be_noticed(written: Written, edit: Edit) -> None:
    assert share_of_equal_scores(written, Likeness(weights=random_weights(written, 0)), edit) < 0.9


def test_changed_weights_reach_the_scores(written: Written) -> None:
    likeness = Likeness()
    assert share_of_equal_scores(written, likeness) == 1.0
    for seed in (1, 2):
        likeness.change(random_weights(written, seed))
        assert share_of_equal_scores(written, likeness) == 1.0
    likeness.weights.update(random_weights(written, 3))  # behind its back: remembered scores are wrong
    assert share_of_equal_scores(written, likeness) < 0.1


def test_without_weights_a_shape_counts_as_often_as_it_occurs() -> None:
    likeness = Likeness()
    for text, shape in [(CHANGE, "subtract(a, b), divide(#0, b)"), ("divide(310, 290)", "divide(a, b)")]:
        assert likeness.of_shape(parse(text)) == pytest.approx(math.log(FINQA_SHAPES[shape]))
    assert likeness.of_shape(parse("exp(310, 290)")) == 0.0  # never seen
    assert PageLikeness(PAGE, likeness).score(parse("divide(310, 290)"), 1.06897) == 0


def test_shapes_are_drawn_as_often_as_they_occur() -> None:
    counts = {"divide(a, b)": 5.0, "add(a, b)": 2.0, "exp(a, b)": 1.0, "greater(a, b)": 1.0, "add(a, a)": 1.0}
    likeness = Likeness(shapes=counts)
    rng = random.Random(0)
    drawn = Counter(likeness.draw_shape(rng) for _ in range(2000))

    def chi_square(shapes: dict[str, float]) -> float:
        total = sum(shapes.values())
        return sum((drawn[shape] - 2000 * n / total) ** 2 / (2000 * n / total) for shape, n in shapes.items())

    assert chi_square(likeness.shapes) < CHI_SQUARE_4
    assert chi_square(dict.fromkeys(likeness.shapes, 1.0)) > CHI_SQUARE_4


def test_shapes_seen_once_are_not_counted() -> None:
    texts = ["divide(1, 2)", "divide(3, 4)", "divide(3, 3)", "add(1, const_2)", "table_max(a, none)"]
    assert count_shapes(map(parse, [*texts, "table_max(b, none)"])) == {"divide(a, b)": 2.0, "table_max(row)": 2.0}


def test_features_of_a_shape_are_its_steps_operations_and_constants() -> None:
    assert shape_features(parse("add(310, 290), divide(#0, const_2)")) == [
        ("shape", "add(a, b), divide(#0, const_2)"),
        ("steps", 2),
        ("operation", "add"),
        ("operation", "divide"),
        ("constant", "const_2", "divide"),
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("divide(310, 290)", "divide(270, 290)"),  # another column
        ("divide(310, 290)", "divide(5829, 5735)"),  # another row
        ("add(310, 31)", "add(310, -31)"),  # written otherwise
        ("divide(310, 290)", "divide(310, 29)"),  # other relative position
        ("divide(310, 290)", "divide(290, 310)"),
        ("divide(40, 290)", "divide(310, 290)"),  # from the text
    ],
)
def test_features_distinguish_programs_of_one_shape(one: str, other: str) -> None:
    corruptor = small_corruptor()
    first, second = (Counter(corruptor.features(draft_of(corruptor, text))) for text in (one, other))
    assert first != second


def test_corruption_avoids_what_has_a_low_weight() -> None:
    def reading_2007(weight: float) -> int:
        made = corrupted(400, 0.5, likeness=Likeness(weights={("column", 3): weight}))
        return sum(not {"5100", "270", "-20", "20"}.isdisjoint(operands(draft.program)) for draft in made)

    assert reading_2007(0.0) > 100
    assert reading_2007(-8.0) < 10


def test_shapes_do_not_drift_away_from_those_of_gold() -> None:
    """After ten edits on average, most programs still have a shape that gold programs often have."""

    def share_of_common_shapes(likeness: Likeness) -> float:
        shapes = [shape_of(draft.program) for draft in corrupted(300, 0.9, likeness=likeness)]
        return sum(FINQA_SHAPES.get(shape, 0.0) >= 50.0 for shape in shapes) / len(shapes)

    assert share_of_common_shapes(Likeness()) > 0.6
    assert share_of_common_shapes(Likeness(shapes=dict.fromkeys(FINQA_SHAPES, 1.0))) < 0.4
