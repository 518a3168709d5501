"""Mixed pools: shares hold on average, wrong candidates by plausibility, each value once, no trace of a system."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from finrank.errors import UserError
from finrank.pools.equal_answers import equal_answers, is_right
from finrank.pools.mixing import Mix, take, wrong_candidates
from finrank.pools.pool import PoolSettings, build_pool
from finrank.records import Candidate, Question
from tests.helpers.questions import make_question

QUESTION = make_question()  # its answer is 0.01639
HALVES = Mix.of("corrupted,proposed,sampled", "2,1,1")


def offer(program: str | None = None, **fields: Any) -> Candidate:
    return Candidate(**{"program": program, "origin": "sampled", "model": "a system", **fields})


def values(candidates: list[Candidate]) -> list[object]:
    return [candidate.answer for candidate in candidates]


def test_shares_are_equal_or_proportions() -> None:
    assert Mix.of("corrupted") == Mix.of("corrupted", "0.3") == Mix()
    assert Mix.of(" sampled, proposed").shares == (0.5, 0.5)
    assert Mix.of("corrupted,proposed,sampled", "0.5,0.25,0.25") == HALVES
    assert HALVES.others == ["proposed", "sampled"]


@pytest.mark.parametrize(
    ("sources", "shares", "fault"),
    [
        ("corrupted,guessed", None, "unknown source 'guessed'; known: corrupted, proposed, sampled"),
        ("", None, "unknown source ''"),
        ("sampled,sampled", None, "sampled is there twice"),
        ("corrupted,sampled", "1", "expected 2 positive numbers"),
        ("corrupted,sampled", "1,0", "--shares 1,0: expected 2 positive"),
        ("corrupted,sampled", "1,-1", "one for each of corrupted, sampled"),
        ("corrupted,sampled", "1,nan", "positive"),
        ("corrupted,sampled", "1,inf", "positive"),
        ("corrupted,sampled", "half,half", "positive"),
    ],
)
def test_sources_and_shares_that_do_not_fit(sources: str, shares: str | None, fault: str) -> None:
    with pytest.raises(UserError) as raised:
        Mix.of(sources, shares)
    assert fault in str(raised.value)


@pytest.mark.parametrize("mix", [HALVES, Mix.of("sampled,corrupted,proposed", "0.1,0.2,0.7"), Mix.of("sampled")])
@pytest.mark.parametrize("wrong", [1, 7, 10])
def test_places_fill_a_pool_and_shares_hold_on_average(mix: Mix, wrong: int) -> None:
    drawn = [mix.places(wrong, 0, f"q{number}") for number in range(2000)]
    assert {sum(places.values()) for places in drawn} == {wrong}
    for source, share in zip(mix.sources, mix.shares, strict=True):
        counts = [places[source] for places in drawn]
        assert max(abs(count - share * wrong) for count in counts) < 1  # rounded up or down
        assert sum(counts) / len(counts) == pytest.approx(share * wrong, abs=0.05)
    assert drawn == [mix.places(wrong, 0, f"q{number}") for number in range(2000)]


def test_places_depend_on_the_seed_and_the_question() -> None:
    drawn = [[HALVES.places(7, seed, f"q{number}") for number in range(20)] for seed in (0, 1)]
    assert drawn[0] != drawn[1]
    assert len({tuple(places.values()) for places in drawn[0]}) > 1


def test_wrong_ones_come_by_log_probability_then_votes_then_order() -> None:
    offered = [
        offer("add(1, 2)", answer=3.0),
        offer("add(2, 2)", answer=4.0),
        offer("add(2, 3)", answer=5.0),
        offer("multiply(2, 2)", answer=4.0),
        offer("add(3, 3)", answer=6.0, log_probability=-9.0),
        offer("subtract(5829, 5735), divide(#0, 5735)", answer=0.01639, log_probability=-0.1),
        offer("add(3, 4)", answer=7.0, log_probability=-2.0),
        offer("multiply(2, 3)", answer=6.0, log_probability=-1.0),
    ]
    assert values(wrong_candidates(QUESTION, offered)) == [6.0, 7.0, 4.0, 3.0, 5.0]
    best = wrong_candidates(QUESTION, offered)[0]
    assert best == Candidate(program="multiply(2, 3)", answer=6.0, origin="sampled"), "no model, no log-probability"


def test_right_ones_and_those_without_a_value_are_not_taken() -> None:
    question = make_question(question="what is the percentage change ?")
    offered = [
        offer("divide(94, 5735)", answer=0.01639),
        offer(answer=0.016, stated="1.6 %"),
        offer(answer=0.02, stated="2%"),
        offer("divide(1, 0)", error="division by zero"),
        offer(error="nothing could be read"),
        offer("add(1, 2)", answer=3.0, origin="gold"),
        offer(answer=0.017, stated="1.7 %"),
    ]
    (wrong,) = wrong_candidates(question, offered)
    assert (wrong.program, wrong.answer, wrong.stated, wrong.model) == (None, 0.017, "1.7 %", None)


def test_values_are_those_of_the_programs_and_programs_are_written_as_gold_is() -> None:
    offered = [
        offer("subtract( 5829,5735 ),  add(1, 2", answer=1.0, error="its last step is cut off"),
        offer("subtract(5829,  5735)", answer=94.0, stated="about 95"),
        offer(answer=2.0, stated="half a dozen"),  # is not an answer, whatever the record holds
        offer("divide(7", answer=8.0, stated="8"),
    ]
    first, second = wrong_candidates(QUESTION, offered)
    assert first == Candidate(program="subtract(5829, 5735)", answer=94.0, origin="sampled")
    assert (second.answer, second.stated) == (8.0, "8")


def test_a_stated_value_near_a_taken_one_is_the_same() -> None:
    offered = [offer("divide(1, 3)", answer=0.33333), offer(answer=0.33, stated="33 %"), offer(answer=0.3)]
    assert values(wrong_candidates(QUESTION, offered)) == [0.33333, 0.3]
    assert values(wrong_candidates(QUESTION, offered[::-1])) == [0.33, 0.3]


def numbered(*numbers: int) -> list[Candidate]:
    return [offer(f"add({number}, 0)", answer=float(number)) for number in numbers]


def test_further_pools_take_the_next_ones_and_begin_again() -> None:
    wrong = {"sampled": numbered(1, 2, 3, 4, 5)}
    taken = [values(take(QUESTION, wrong, {"sampled": 2}, number)["sampled"]) for number in (1, 2, 3, 4)]
    assert taken == [[1.0, 2.0], [3.0, 4.0], [5.0, 1.0], [2.0, 3.0]]
    few = [values(take(QUESTION, wrong, {"sampled": 9}, number)["sampled"]) for number in (1, 2)]
    assert [len(candidates) for candidates in few] == [5, 5]
    assert take(QUESTION, {"sampled": []}, {"sampled": 2}, 3) == {"sampled": []}


def test_a_value_of_two_sources_is_taken_once() -> None:
    wrong = {"proposed": numbered(1, 2), "sampled": [offer(answer=1.0), *numbered(3, 2, 4)]}
    taken = take(QUESTION, wrong, {"proposed": 1, "sampled": 2})
    assert {source: values(candidates) for source, candidates in taken.items()} == {
        "proposed": [1.0],
        "sampled": [3.0, 2.0],
    }
    assert take(QUESTION, wrong, {"proposed": 0, "sampled": 0}) == {"proposed": [], "sampled": []}


@pytest.mark.parametrize("count", [0, 3, 7])
def test_corruption_makes_the_rest_with_other_values(count: int) -> None:
    for number in range(20):
        question = make_question(f"q{number}")
        plain = build_pool(question, PoolSettings(8, failing_share=0.0))
        # values that corruption would have made, one of them stated
        likely = [one.model_copy(update={"edits": [], "origin": "sampled"}) for one in plain.candidates if one.edits]
        stated = [one for one in likely if isinstance(one.answer, float)][:1]
        others = [offer(answer=one.answer, stated=str(one.answer), model=None) for one in stated]
        others = [*others, *(one for one in likely if one not in stated)][:count]
        pool = build_pool(question, PoolSettings(8, failing_share=0.0), others=others)
        origins = Counter(one.origin for one in pool.candidates)
        assert origins == +Counter(gold=1, sampled=count, corrupted=7 - count)
        assert len(set(equal_answers(pool.candidates, question.question))) == 8
        assert sum(is_right(one, pool.answer, question.question) for one in pool.candidates) == 1
        assert (pool == plain) == (count == 0)


def test_without_a_corruption_the_pool_has_the_others() -> None:
    question = make_question(program="table_max(a, none)", table=[["a", "+0"]], text=[], answer=0.0)
    pool = build_pool(question, PoolSettings(3, corruption_rate=0.0), others=numbered(1))
    assert sorted(one.origin for one in pool.candidates) == ["gold", "sampled"]


def gold_neighbours(question: Question, corrupted: int) -> int:
    """The wrong candidates that are one edit from gold, in a pool with so many corrupted ones of eight."""
    others = numbered(*range(1001, 1008 - corrupted))
    pool = build_pool(question, PoolSettings(8, corruption_rate=0.0, failing_share=0.0), others=others)
    return sum(len(one.edits) == 1 for one in pool.candidates)


def test_gold_is_an_ordinary_node_among_the_corrupted_ones() -> None:
    """At rate 0 the candidates with one edit are gold's neighbours: in a tree of 4 nodes 2 * 3 / 4 on average."""
    counts = [gold_neighbours(make_question(f"q{number}"), corrupted=3) for number in range(150)]
    assert sum(counts) / len(counts) == pytest.approx(1.5, abs=0.25)
