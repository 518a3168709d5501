"""Attackers on pools made by hand: each finds its own cue, and stays at chance in pools without one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finrank.evaluation.audit import attackers, cues
from finrank.evaluation.audit.audit import Accuracy, audit_pools, findings, print_audit
from finrank.evaluation.audit.cues import gold_places
from finrank.evaluation.audit.features import features_of
from finrank.evaluation.audit.linear import Design, PoolFeatures, fit, vocabulary
from finrank.evaluation.audit.medoids import anti_scores, edit_distance, log_distance, medoid_by_rank
from finrank.programs import execute, parse
from finrank.records import Candidate, Pool, Question, RewardedPool
from tests.helpers.evaluated_pools import linear_accuracy, medoid_accuracies

N = 4  # candidates per pool


def pool_of(programs: Sequence[str], gold: int, page: str, number: int = 0) -> Pool:
    """A pool whose candidates have the values of their programs, the one at `gold` being right."""
    candidates = [
        Candidate(program=text, answer=execute(parse(text), []), origin="gold" if index == gold else "corrupted")
        for index, text in enumerate(programs)
    ]
    question = Question(
        id=f"{page}-{number}", page=page, question="how much ?", table=[], text=[],
        program=programs[gold], answer=candidates[gold].answer,
    )  # fmt: skip
    return Pool(**question.model_dump(), candidates=candidates)


def shuffled(right: str, wrong: Sequence[str], page: str, draw: random.Random) -> Pool:
    place = draw.randrange(len(wrong) + 1)
    return pool_of([*wrong[:place], right, *wrong[place:]], place, page)


def drawn(count: int, seed: int, start: int, programs: Callable[[random.Random], list[str]]) -> list[Pool]:
    """Pools on a page each, their programs drawn gold first, then shuffled."""
    draw = random.Random(seed)
    texts = [programs(draw) for _ in range(count)]
    return [shuffled(gold, wrong, f"page {start + number}", draw) for number, (gold, *wrong) in enumerate(texts)]


def even_pools(count: int, seed: int, start: int = 0) -> list[Pool]:
    """Nothing to find: all candidates are drawn alike."""

    def programs(draw: random.Random) -> list[str]:
        return [f"subtract({draw.randint(100, 999)}, {draw.randint(100, 999)})" for _ in range(N)]

    return drawn(count, seed, start, programs)


def one_edit_pools(count: int, seed: int, start: int = 0) -> list[Pool]:
    """Every wrong candidate is gold with one other operand: gold is nearest to all."""

    def programs(draw: random.Random) -> list[str]:
        first, second, *others = draw.sample(range(100, 1000), N + 1)
        edits = [(first, other) if index % 2 else (other, second) for index, other in enumerate(others)]
        return [f"add({left}, {right})" for left, right in [(first, second), *edits]]

    return drawn(count, seed, start, programs)


def percent_change_pools(count: int, seed: int, start: int = 0) -> list[Pool]:
    """Gold is a percent change, every other a difference: the form reveals it."""

    def programs(draw: random.Random) -> list[str]:
        pairs = [(draw.randint(100, 999), draw.randint(100, 999)) for _ in range(N)]
        gold, *wrong = [f"subtract({first}, {second})" for first, second in pairs]
        return [f"{gold}, divide(#0, {pairs[0][1]})", *wrong]

    return drawn(count, seed, start, programs)


def test_the_text_medoid_finds_gold_among_its_edits_and_the_linear_attacker_does_not() -> None:
    train, dev = one_edit_pools(120, 1), one_edit_pools(60, 2, start=120)
    accuracies = medoid_accuracies(dev)
    assert max(accuracies["medoid_text"].values()) == 1.0
    assert accuracies["anti_medoid_text"]["tokens"] == 0.0
    assert linear_accuracy(train, dev) == pytest.approx(1 / N, abs=0.15)
    assert np.mean(attackers.accuracies(dev, attackers.combined_scores(train, dev))) == 1.0


def test_the_linear_attacker_finds_gold_by_its_own_form() -> None:
    train, dev = percent_change_pools(60, 1), percent_change_pools(40, 2, start=60)
    assert linear_accuracy(train, dev) == 1.0
    assert max(medoid_accuracies(dev)["anti_medoid_text"].values()) == 1.0  # gold is unlike the others


def test_where_nothing_is_to_find_all_stay_near_chance() -> None:
    result = audit_pools(even_pools(100, 2, start=100), even_pools(100, 1))
    for name in ("linear", "combined", "medoid_value", "medoid_text", "anti_medoid_value", "anti_medoid_text"):
        assert result.attackers[name].accuracy == pytest.approx(1 / N, abs=0.12), name
    assert len(findings(result)) <= 2  # each of some twenty intervals lies above chance by accident once in forty times


def test_scores_that_tie_count_by_expectation() -> None:
    pools = [pool_of(["add(1, 2)"] * 3 + ["add(1, 3)"], 3, "page a"), pool_of(["add(1, 2)"] * N, 0, "page b")]
    scores = [np.array([1.0, 1.0, 0.0, 1.0]), np.zeros(N)]
    assert attackers.accuracies(pools, scores).tolist() == [pytest.approx(1 / 3), 1.0]  # all four are right in b
    hopeless = pools[0].model_copy(update={"answer": 7.0})
    assert attackers.accuracies([hopeless], [np.zeros(N)]).tolist() == [0.0]  # none correct: wrong


def test_pools_with_rewards_and_without_are_the_same_to_an_attacker() -> None:
    plain = percent_change_pools(30, 1)
    rewarded = [
        RewardedPool(
            **pool.model_dump(), rewards=[0.0] * N, components=[{}] * N, correct=attackers.correct_indices(pool)
        )
        for pool in plain
    ]
    assert audit_pools(plain, None) == audit_pools(rewarded, None)


def test_cross_fitting_never_trains_on_the_pages_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    # Four pools per page with the same gold program, about which other pages say nothing.
    draw = random.Random(5)
    pools = []
    for page in range(30):
        right, *wrong = (f"add({draw.randint(100, 999)}, {draw.randint(100, 999)})" for _ in range(1 + 4 * (N - 1)))
        pools += [shuffled(right, wrong[number::4], f"page {page}", draw) for number in range(4)]
    scorer = cues.cue_scorers()["program seen elsewhere"]

    def accuracy() -> float:
        return float(attackers.accuracies(pools, attackers.cross_fitted(pools, scorer)).mean())

    assert accuracy() == pytest.approx(1 / N, abs=0.02)

    def through_pages(pages: Sequence[str], n_folds: int, seed: int) -> list[list[int]]:
        return [list(range(fold, len(pages), n_folds)) for fold in range(n_folds)]

    monkeypatch.setattr(attackers, "page_folds", through_pages)
    with pytest.raises(ValueError, match="is in both train and audited pools"):
        accuracy()
    monkeypatch.setattr(cues, "check_disjoint", lambda train, audited: None)
    assert accuracy() == 1.0  # what the guard keeps out


def test_no_attacker_takes_a_page_that_is_in_both() -> None:
    pools = even_pools(10, 1)
    for scorer in (attackers.linear_scores, attackers.combined_scores, *cues.cue_scorers().values()):
        with pytest.raises(ValueError, match="page 3 is in both"):
            scorer(pools, pools[3:4])


def test_folds_cut_through_no_page_and_hold_every_pool_once() -> None:
    pages = [f"page {number // 3}" for number in range(30)]
    folds = attackers.page_folds(pages, 4, seed=0)
    assert sorted(index for fold in folds for index in fold) == list(range(30))
    assert sum(len({pages[index] for index in fold}) for fold in folds) == 10
    assert attackers.page_folds(pages, 4, seed=1) != folds
    assert len(attackers.page_folds(["one"] * 3, 4, seed=0)) == 1


def test_candidates_that_look_alike_and_those_of_an_unfitted_model_tie() -> None:
    twins = pool_of(["subtract(5, 3)", "subtract(5, 3)", "subtract(9, 3)"], 2, "other")
    first, second, _ = attackers.linear_scores(percent_change_pools(30, 1), [twins])[0]
    assert first == second
    hopeless = [pool.model_copy(update={"answer": -1.5}) for pool in even_pools(5, 1)]
    assert [attackers.linear_scores(train, [twins])[0].tolist() for train in ([], hopeless)] == [[0.0] * 3] * 2
    one_page = [pool.model_copy(update={"page": "the only one"}) for pool in even_pools(4, 1)]
    assert audit_pools(one_page, None).attackers["linear"].accuracy == 1 / N


def test_the_fit_is_the_known_minimum() -> None:
    # Of two candidates the one with the feature is right in 3 of 4 pools: w = log(3 / 1) without a penalty.
    pools = [PoolFeatures([["f"], []], [0 if number % 4 else 1]) for number in range(8)]
    design = Design(pools, vocabulary(pools))
    assert fit(design, 1e-9)[0] == pytest.approx(np.log(3), abs=1e-4)
    assert 0 < fit(design, 10.0)[0] < 0.3


def test_the_fit_has_no_slope() -> None:
    pools = [attackers.pool_features(pool) for pool in percent_change_pools(40, 3)]
    design = Design(pools, vocabulary(pools))

    def slope(weights: np.ndarray) -> float:
        residuals = np.exp(design.log_softmax(design.times(weights))) - design.target
        return float(np.linalg.norm(design.transposed_times(residuals) + weights))

    assert slope(fit(design, 1.0)) < 1e-3 * slope(np.zeros(design.n_columns))


@settings(max_examples=200, deadline=None)
@given(
    program=st.none() | st.text(max_size=30) | st.sampled_from(
        ["divide(0, 0)", "add(1e308, 1e308)", "table_sum(net sales, none)", "exp(2, nan), add(#0, #7)", "add(٣٣٣٣, x%)"]
    ),
    answer=st.none() | st.sampled_from(["yes", "no"]) | st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
def test_any_candidate_has_features(program: str | None, answer: float | str | None) -> None:
    names = features_of(Candidate(program=program, answer=answer, origin="imported"))  # type: ignore[arg-type]
    assert names
    assert len(set(names)) == len(names)


def test_the_features_show_the_forms_of_programs_and_values() -> None:
    def seen(program: str, answer: float) -> set[str]:
        return set(features_of(Candidate(program=program, answer=answer, origin="gold")))

    later_first, earlier_first = seen("subtract(2009, 2008)", 1.0), seen("subtract(2008, 2009)", -1.0)
    assert "years: subtract larger first" in later_first - earlier_first
    assert {"operand decimals: 1", "percent marks: 1"} <= seen("add(4.5%, 3)", 3.045)
    assert "operand with a comma" in seen("add(1,200, 3)", 1203.0)
    assert "value above 1e6" in seen("multiply(2000, const_1000)", 2e6)


def test_the_medoid_by_rank_is_the_median_and_a_failed_candidate_is_last_both_ways() -> None:
    pool = pool_of(["add(1, 0)", "add(5, 0)", "add(1000000, 0)"], 1, "page")
    failed = Candidate(program="divide(1, 0)", answer=None, error="division by zero", origin="corrupted")
    pool = pool.model_copy(update={"candidates": [*pool.candidates, failed]})
    scores = medoid_by_rank(pool)
    assert (log_distance(1e-9, 1e9), edit_distance((), ("add",))) == (1.0, 1.0)
    assert scores.argmax() == 1
    assert scores.argmin() == anti_scores([pool], [scores])[0].argmin() == 3


def test_positions_and_ranks_of_gold_by_hand() -> None:
    first = [pool_of(["add(1, 2)", "add(1, 3)", "add(1, 4)"], 0, f"page {number}") for number in range(30)]
    places = gold_places(first)
    assert places.observed == [30, 0, 0]
    assert places.expected == [10, 10, 10]
    assert places.p_value < 1e-10
    ranks = gold_places(first, [np.array([1.0, 1.0, 0.0])] * 30)  # tied for the first two ranks
    assert ranks.observed == [0.5, 0.5, 0.0]
    even = [pool_of(["add(1, 2)", "add(1, 3)", "add(1, 4)"], number % 3, f"page {number}") for number in range(30)]
    assert gold_places(even).p_value == 1.0


def test_few_places_of_gold_are_printed_one_by_one_and_many_as_a_range(capsys: pytest.CaptureFixture[str]) -> None:
    for size, shown in ((4, "positions of gold: 5 5 5 5 ("), (20, "positions of gold: 5.0% to 5.0% at each of 20 (")):
        texts = [f"add({number}, 2)" for number in range(size)]
        pools = [pool_of(texts, number % size, f"page {number}") for number in range(20)]
        print_audit(audit_pools(pools, None), title="audit")
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if line.startswith(shown)]
        assert len([line for line in lines if line.startswith("ranks of gold")]) == 2
        assert ("at each of 20" in "".join(lines)) == (size == 20)


def test_the_cue_of_the_position_is_found_and_said() -> None:
    draw = random.Random(1)
    texts = [[f"subtract({draw.randint(100, 999)}, {draw.randint(100, 999)})" for _ in range(N)] for _ in range(120)]
    pools = [pool_of(programs, 0, f"page {page}") for page, programs in enumerate(texts)]
    result = audit_pools(pools[60:], pools[:60])
    assert result.cues["position"] == Accuracy(1.0, [1.0, 1.0])
    assert result.attackers["linear"].accuracy == pytest.approx(1 / N, abs=0.15)
    said = "\n".join(findings(result))
    assert "pools give themselves away: position alone finds gold in 1.000 (1.000-1.000)" in said
    assert "gold is at some positions more often" in said
    assert "linear" not in said


def cue_accuracy(name: str, train: Sequence[Pool], audited: Sequence[Pool]) -> float:
    return float(attackers.accuracies(audited, cues.cue_scorers()[name](train, audited)).mean())


def test_a_measure_takes_the_direction_that_is_better_on_train() -> None:
    largest = [pool_of(["add(1, 2)", "add(1, 3)", "add(1, 9)"], 2, f"page {number}") for number in range(4)]
    smallest = [pool_of(["add(1, 2)", "add(1, 3)", "add(1, 9)"], 0, f"page {number}") for number in range(4, 8)]
    assert cue_accuracy("value", largest, smallest) == 0.0
    assert cue_accuracy("value", smallest[:2], smallest[2:]) == 1.0


def test_values_seen_as_gold_elsewhere_and_shared_operands_are_found() -> None:
    def pools(start: int) -> list[Pool]:
        return [
            pool_of([f"add({10 + n}, {20 + n})", "add(40, 2)", f"add({90 + n}, 1)"], 1, f"page {n}")
            for n in range(start, start + 5)
        ]

    assert cue_accuracy("value seen elsewhere", pools(0), pools(5)) == 1.0
    shared = one_edit_pools(40, 4)
    assert cue_accuracy("operand votes", shared[:20], shared[20:]) == 1.0
