"""Pools: distinct values, gold at any position, the same pool for the same seed and question."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from finrank.pools.corruption.corrupt import EDITS
from finrank.pools.corruption.fit_likeness import fit
from finrank.pools.corruption.likeness import Likeness
from finrank.pools.pool import NoPool, PoolSettings, build_pool, gold_program
from finrank.programs import parse
from finrank.programs.value import answer_key, value_of
from finrank.records import Pool, Question
from tests.helpers.questions import CHANGE, CHI_SQUARE_7, RATE, TABLE, TEXT, N, Questions, make_question


def build(question: Question, likeness: Likeness | None = None, **settings: Any) -> Pool:
    return build_pool(question, PoolSettings(**{"failing_share": 0.0, **settings}), likeness)


def faults(pool: Pool) -> list[str]:
    """The promises of a pool that do not hold."""
    broken = []
    gold = [candidate for candidate in pool.candidates if candidate.origin == "gold"]
    if len(gold) != 1 or gold[0].edits or gold[0].answer != pool.answer:
        broken.append("not one gold")
    values = [answer_key(candidate.answer) for candidate in pool.candidates if candidate.answer is not None]
    if len(set(values)) < len(values):
        broken.append("a value twice")
    if len({candidate.program for candidate in pool.candidates}) < len(pool.candidates):
        broken.append("a program twice")
    for candidate in pool.candidates:
        if candidate.origin == "corrupted" and candidate.edits[:1] not in [[name] for name in (*EDITS, "refill")]:
            broken.append("no known edit first")
        if (candidate.answer is None) != (candidate.error is not None):
            broken.append("a value and an error, or neither")
        if (candidate.answer is None) != (candidate.edits[-1:] == ["break"]) or "break" in candidate.edits[:-1]:
            broken.append("break is not the last edit, or without a failure")
        if value_of(candidate.program or "", pool.table).answer != candidate.answer:
            broken.append("another value than the program's")
    return broken


@pytest.mark.parametrize("num_candidates", [2, 3, 8, 32])
@pytest.mark.parametrize("failing_share", [0.0, 0.3, 0.9])
def test_a_pool_holds_what_it_promises(sample: Questions, num_candidates: int, failing_share: float) -> None:
    twins = [make_question(f"q {number}", "divide(5829, 5735)", answer=1.01639) for number in range(10)]
    for seed, question in enumerate([make_question(), *twins, *sample.dev[:15]]):
        pool = build(question, num_candidates=num_candidates, failing_share=failing_share, seed=seed)
        assert len(pool.candidates) == num_candidates
        assert faults(pool) == []


def test_broken_promises_would_be_noticed() -> None:
    pool = build(make_question(), failing_share=0.5)
    gold = next(candidate for candidate in pool.candidates if candidate.origin == "gold")
    wrong = next(candidate for candidate in pool.candidates if candidate.origin != "gold" and not candidate.error)
    failing = next(candidate for candidate in pool.candidates if candidate.error)
    for candidates, fault in [
        ([gold, wrong, wrong], "a value twice"),
        ([gold, failing, failing], "a program twice"),
        ([gold, gold, wrong], "not one gold"),
        ([wrong, failing], "not one gold"),
        ([gold, failing.model_copy(update={"edits": failing.edits[:-1]})], "break is not the last"),
        ([gold, wrong.model_copy(update={"edits": [*wrong.edits, "break"]})], "break is not the last"),
        ([gold, wrong.model_copy(update={"answer": 12.5})], "another value"),
        ([gold, failing.model_copy(update={"error": None})], "a value and an error"),
        ([gold, wrong.model_copy(update={"edits": []})], "no known edit"),
    ]:
        assert fault in " ".join(faults(pool.model_copy(update={"candidates": candidates}))), fault


def test_real_pools_hold_what_they_promise(finqa_dev: list[Question]) -> None:
    pools = [build(question, failing_share=0.1) for question in finqa_dev[::6]]
    assert [fault for pool in pools for fault in faults(pool)] == []
    # Some page has too few numbers of one kind for a full pool.
    assert sum(len(pool.candidates) == N for pool in pools) >= 0.98 * len(pools)


def test_the_position_of_the_gold_is_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    def chi_square(count: int) -> float:
        pools = (build(make_question(f"question {number}")) for number in range(count))
        positions = Counter([candidate.origin for candidate in pool.candidates].index("gold") for pool in pools)
        return sum((positions[position] - count / N) ** 2 / (count / N) for position in range(N))

    assert chi_square(320) < CHI_SQUARE_7
    monkeypatch.setattr(random.Random, "shuffle", lambda self, items: None)
    assert chi_square(80) > CHI_SQUARE_7  # gold left in its place would be noticed


def test_the_likeness_decides_which_candidates_are_made() -> None:
    few_steps = Likeness(weights={("steps", 1): -9.0, ("steps", 2): -9.0})
    assert build(make_question(), few_steps) != build(make_question()) == build(make_question(), Likeness())


def test_a_pool_does_not_depend_on_those_made_before(sample: Questions) -> None:
    """One likeness serves all questions: what it remembers of one must not reach another."""
    likeness = fit(sample.train[:60], RATE, seed=0)
    questions = sample.dev[:25]
    forwards = [build(question, likeness) for question in questions]
    assert forwards == [build(question, likeness) for question in reversed(questions)][::-1]
    alone = Likeness(shapes=dict(likeness.shapes), weights=dict(likeness.weights))
    assert build(questions[24], alone) == forwards[24]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_the_share_of_failing_candidates_is_as_asked(sample: Questions, share: float) -> None:
    pools = [build(question, failing_share=share) for question in sample.dev[:100]]
    wrong = [candidate for pool in pools for candidate in pool.candidates if candidate.origin != "gold"]
    # 700 wrong candidates: the standard deviation of the share is 0.019.
    assert sum(candidate.answer is None for candidate in wrong) / len(wrong) == pytest.approx(share, abs=0.08 * share)


def test_gold_is_the_program_written_like_the_others_and_its_value() -> None:
    blanks = "subtract( 5829,  5735), divide(#0, 5735)"
    pool = build(make_question(program=blanks, answer=None))
    assert (pool.program, pool.answer) == (blanks, 0.01639)
    assert [candidate.program for candidate in pool.candidates if candidate.origin == "gold"] == [CHANGE]
    assert gold_program(make_question(program=blanks)) == (parse(CHANGE), 0.01639)


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        (make_question(program=None), "no program"),
        (make_question(program="5829 - 5735"), "the gold program does not parse"),
        (make_question(program="divide(1, 0)", answer=None), "the gold program does not execute"),
        (make_question(program="multiply(1e300, 1e300)", answer=None), "the gold program does not execute"),
        (make_question(program="subtract(1, 2), divide(#0,, 2), add(#1, 3)"), "the gold program does not execute"),
        (make_question(program="table_max(a, none)", table=[["a", "+0"]], text=[], answer=0.0), "no wrong candidate"),
    ],
)
def test_no_pool_says_why(question: Question, kind: str) -> None:
    with pytest.raises(NoPool, match=f"^{kind}") as raised:
        build(question, corruption_rate=0.0)
    assert raised.value.kind.startswith(kind)


def test_a_smaller_pool_where_no_more_is_possible() -> None:
    question = make_question(program="table_max(a, none)", answer=1.0, table=[["a", "1e0"]], text=[])
    pool = build(question, num_candidates=40, corruption_rate=0.0)
    assert 2 <= len(pool.candidates) < 40
    assert faults(pool) == []


@pytest.mark.parametrize("table", [[], [[]], [["a"]], [["a", "1"], [], ["b", "1", "2", "3"]], TABLE[:1]])
def test_odd_pages_have_pools_too(table: list[list[str]]) -> None:
    for text in ([], TEXT, ["$ %", "1,2,3 nan 1e999"]):
        pool = build(make_question(table=table, text=text), failing_share=0.2)
        assert len(pool.candidates) >= 2
        assert faults(pool) == []
