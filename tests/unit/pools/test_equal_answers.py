"""Equal answers: exact values by 5 decimals, stated ones by their precision, whatever the order of the candidates."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finrank.pools.candidate import read_candidate
from finrank.pools.equal_answers import _imprecision, equal_answers, is_right, stated_answer
from finrank.programs.stated import agrees, asks_for_percentage
from finrank.programs.value import answer_key
from finrank.records import Candidate

SHARE = "what is the share ?"
PERCENTAGE = "what percentage is it ?"


def read(*items: object) -> list[Candidate]:
    return [read_candidate(item, []) for item in items]


@pytest.mark.parametrize(
    ("items", "groups"),
    [
        (["divide(15000, 60100)", "24.96 %", "25%", None], [0, 0, 0, None]),
        (["24.96 %", "divide(15000, 60100)"], [0, 0]),
        (["divide(1, 8)", "0.125", "0.1251", 0.125, "12.5%"], [0, 0, 2, 0, 0]),
        (["add(0.241, 0)", "add(0.239, 0)", "24%", "0.24"], [0, 1, 2, 2]),  # near two exact values: joins neither
        (["add(0.241, 0)", "24%", "24.0%"], [0, 0, 2]),
        (["24%", "24.04%", "24.1%"], [0, 1, 2]),
        (["yes", "greater(2, 1)", "no", "No, it did not"], [0, 0, 2, 2]),
        (["add(1, 2)", "add(2, 1)", "3", "3.0", "-3"], [0, 0, 0, 0, 4]),
        ([None, "?", "divide(1, 0)"], [None, None, None]),
        ([], []),
    ],
)
def test_candidates_of_one_answer(items: list[object], groups: list[int | None]) -> None:
    assert equal_answers(read(*items), SHARE) == groups


def test_the_question_says_whether_a_percentage_may_lack_its_sign() -> None:
    pool = read("divide(15000, 60100)", "24.96")
    assert equal_answers(pool, SHARE) == [0, 1]
    assert equal_answers(pool, PERCENTAGE) == [0, 0]


def test_right_is_exact_for_programs_and_as_stated_for_answers() -> None:
    program, stated, number, failed = read("divide(15000, 60100)", "24.96 %", 0.2496, "divide(1, 0)")
    assert is_right(program, 0.24958, SHARE)
    assert not is_right(program, 0.24959, SHARE)
    assert is_right(stated, 0.24958, SHARE)
    assert is_right(stated, 0.24959, SHARE)
    assert not is_right(stated, 0.24912, SHARE)
    assert is_right(number, 0.24958, SHARE)
    assert not is_right(failed, 0.24958, SHARE)
    assert not is_right(stated, None, SHARE)
    beside = read_candidate({"program": "divide(1, 0)", "answer": "24.96 %"}, [])
    assert is_right(beside, 0.24958, SHARE)


ITEMS = [
    "divide(15000, 60100)", "add(0.25, 0)", "add(0.2496, 0)", "24.96 %", "25%", "0.25", "0.2496", "25", "yes",
    "24.9583%", "greater(2, 1)", "about 0.3", 0.25, 25, "decrease of 25%", "-25%", "$0.25 million", "250,000", None,
]  # fmt: skip


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.sampled_from(ITEMS), max_size=9),
    st.randoms(use_true_random=False),
    st.sampled_from([SHARE, PERCENTAGE]),
)
def test_another_order_gives_the_same_groups(items: list[object], random: object, question: str) -> None:
    order = list(range(len(items)))
    random.shuffle(order)  # type: ignore[attr-defined]
    groups = equal_answers(read(*items), question)
    moved = equal_answers(read(*(items[index] for index in order)), question)
    together = {frozenset(i for i, group in enumerate(groups) if group == leader) for leader in set(groups) - {None}}
    again = {frozenset(order[i] for i, group in enumerate(moved) if group == leader) for leader in set(moved) - {None}}
    assert again == together


def joined_by_trying_all(pool: list[Candidate], question: str) -> list[int | None]:
    """`equal_answers` the slow way: every stated answer is compared with every leader before it."""
    said = [stated_answer(one) for one in pool]
    keys = [answer_key(one.answer) if its is None else its for one, its in zip(pool, said, strict=True)]
    leaders: dict[object, int] = {}
    for index in sorted(range(len(pool)), key=lambda at: (*_imprecision(said[at]), str(keys[at]))):
        its, agreeing = said[index], []
        for leader in dict.fromkeys(leaders.values()) if its is not None else ():
            answer = pool[leader].answer
            if its is not None and answer is not None:
                agreeing += [leader] * agrees(its, answer, percentage=asks_for_percentage(question))
        exact = [leader for leader in agreeing if said[leader] is None]
        joined = exact if len(exact) == 1 else [leader for leader in agreeing if leader not in exact]
        leaders.setdefault(keys[index], joined[0] if len(joined) == 1 else index)
    first: dict[int, int] = {}
    return [None if key is None else first.setdefault(leaders[key], index) for index, key in enumerate(keys)]


NUMBERS = [0.0, -0.0, 5e-324, 1e308, -1e308, 0.25, 0.2496, 25.0, 24.96, 1e15, 123456.78949, -0.00001, 99.99999]
WRITTEN = ["{:.0f}", "{:.2f}", "{:.5f} %", "{:.1f} million", "decrease of {:.1f}", "-{:.3f}%", "{:.1f} billion"]
NEAR = st.builds(float.__add__, st.sampled_from(NUMBERS), st.sampled_from([0.0, 0.004, -0.05, 0.5, 5e-6]))
STATED = st.builds(str.format, st.sampled_from([*WRITTEN, "add({}, 0)"]), NEAR)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(STATED | NEAR | st.sampled_from(ITEMS), max_size=25), st.sampled_from([SHARE, PERCENTAGE]))
def test_looking_near_a_number_finds_what_trying_all_finds(items: list[object], question: str) -> None:
    pool = read(*items)
    assert equal_answers(pool, question) == joined_by_trying_all(pool, question)


@pytest.mark.parametrize("kind", ["add({}, 0.5)", "{}.5 %", "decrease of {}", "25.{:05d}", "0.00000{:05d}1"])
def test_ten_thousand_candidates_are_grouped_in_seconds(kind: str) -> None:
    pool = read(*map(kind.format, range(10_000)), *(f"add(25.{number}, 0)" for number in range(1_000, 1_100)))
    began = time.process_time()
    equal_answers(pool, PERCENTAGE)
    assert time.process_time() - began < 4.0  # 0.2 s on an idle core; 40 s where every pair is compared
