"""Pools: values of their own, the gold at any position, the same pool for the same seed and question."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from finrank.candidates.pool import NoPool, Value, build_pool, choose, evaluate
from finrank.programs import execute, parse
from finrank.records import Candidate, Pool, Question, answer_key

TABLE = [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["costs", "$ 310", "$ 290"], ["none yet", "0", "n/a"]]
# The 0.1 % quantile of chi-square with 7 degrees of freedom lies at 24.3.
CHI_SQUARE_7 = 24.3


def _question(
    name: str = "q", program: str | None = "subtract(5829, 5735), divide(#0, 5735)", **fields: object
) -> Question:
    given = {"answer": 0.01639, "table": TABLE, "text": ["we paid 40 of 50 ."], **fields}
    return Question.model_validate({"id": name, "page": "p", "question": "?", "program": program, **given})


def _pool(question: Question, num_candidates: int = 8, rate: float = 0.5, seed: int = 0) -> Pool:
    return build_pool(question, num_candidates=num_candidates, corruption_rate=rate, seed=seed)


def _check(pool: Pool) -> None:
    """All that a pool promises."""
    gold = [candidate for candidate in pool.candidates if candidate.origin == "gold"]
    assert len(gold) == 1
    assert gold[0].edits == []
    assert gold[0].answer == pool.answer
    values = [answer_key(candidate.answer) for candidate in pool.candidates if candidate.answer is not None]
    assert len(set(values)) == len(values) >= len(pool.candidates) - 1
    for candidate in pool.candidates:
        assert candidate.program is not None
        assert bool(candidate.edits) == (candidate.origin == "corrupted")
        assert (candidate.answer is None) == (candidate.error is not None)
        if candidate.answer is not None:
            assert execute(parse(candidate.program), pool.table) == candidate.answer


@pytest.mark.parametrize("num_candidates", [2, 5, 8, 16])
def test_a_pool_holds_what_it_promises(num_candidates: int) -> None:
    pool = _pool(_question(), num_candidates)
    assert len(pool.candidates) == num_candidates
    _check(pool)


def test_real_pools_hold_what_they_promise(finqa_dir: Path) -> None:
    for example in json.loads((finqa_dir / "dev.json").read_text())[::10]:
        qa = example["qa"]
        text = example["pre_text"] + example["post_text"]
        question = _question(example["id"], qa["program"], answer=qa["exe_ans"], table=example["table"], text=text)
        pool = _pool(question)
        _check(pool)
        assert len(pool.candidates) == 8


def test_the_position_of_the_gold_is_uniform() -> None:
    pools = (_pool(_question(f"question {number}")) for number in range(400))
    places = Counter([candidate.origin for candidate in pool.candidates].index("gold") for pool in pools)
    assert sum((places[place] - 50) ** 2 / 50 for place in range(8)) < CHI_SQUARE_7


def test_a_gold_left_in_its_place_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random.Random, "shuffle", lambda self, items: None)
    pools = (_pool(_question(f"question {number}")) for number in range(80))
    places = Counter([candidate.origin for candidate in pool.candidates].index("gold") for pool in pools)
    assert sum((places[place] - 10) ** 2 / 10 for place in range(8)) > CHI_SQUARE_7


def test_same_seed_same_pool_other_seed_another() -> None:
    assert _pool(_question()) == _pool(_question())
    assert _pool(_question()) != _pool(_question(), seed=1)
    assert _pool(_question()).candidates != _pool(_question("another id")).candidates


def test_the_gold_text_is_written_like_the_others() -> None:
    pool = _pool(_question(program="subtract( 5829,  5735), divide(#0, 5735)"))
    assert "subtract(5829, 5735), divide(#0, 5735)" in [candidate.program for candidate in pool.candidates]
    assert pool.program == "subtract( 5829,  5735), divide(#0, 5735)"


def test_an_unknown_answer_is_what_the_program_gives() -> None:
    assert _pool(_question(answer=None)).answer == 0.01639


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        (_question(program=None), "no program"),
        (_question(program="5829 - 5735"), "the gold program does not parse"),
        (_question(program="divide(1, 0)"), "the gold program does not execute"),
        (_question(program="multiply(1e300, 1e300)"), "the gold program does not execute"),
        (_question(answer=0.5), "the gold program does not give the answer"),
        (_question(answer="yes"), "the gold program does not give the answer"),
        (_question(program="table_max(a, none)", table=[["a", "0"]], text=[], answer=0.0), "no wrong candidate"),
    ],
)
def test_no_pool_says_why(question: Question, kind: str) -> None:
    with pytest.raises(NoPool) as caught:
        _pool(question, rate=0.0)
    assert caught.value.kind.startswith(kind)


def test_a_smaller_pool_where_no_more_is_possible() -> None:
    question = _question(program="greater(5, 4)", answer="yes", table=[], text=[])
    pool = _pool(question, num_candidates=40, rate=0.0)
    assert 2 <= len(pool.candidates) < 40
    _check(pool)


def _candidate(answer: float | str | None) -> Candidate:
    error = "it fails" if answer is None else None
    return Candidate(program="add(1, 2)", answer=answer, error=error, origin="corrupted", edits=["operand"])


def test_chosen_are_distinct_values_and_at_most_one_failure() -> None:
    offered = [_candidate(value) for value in (3.0, 2.0, 2.000001, None, None, 3.000004, "no", 4.0, 5.0)]
    chosen = choose(3.0, iter(offered), 4)
    assert [candidate.answer for candidate in chosen] == [2.0, None, "no", 4.0]
    assert choose(3.0, iter(offered[:1]), 4) == []


def test_choosing_ends_when_nothing_new_comes() -> None:
    def always_the_same() -> object:
        while True:
            yield _candidate(3.0)

    assert choose(3.0, always_the_same(), 7) == []  # type: ignore[arg-type]


def test_a_value_or_why_there_is_none() -> None:
    assert evaluate(parse("divide(1, 8)"), []) == Value(0.125)
    assert evaluate(parse("greater(1, 8)"), []) == Value("no")
    assert evaluate(parse("multiply(1e300, 1e300)"), []) == Value(None, "the value is inf")
    failed = evaluate(parse("divide(1, 0)"), [])
    assert failed.answer is None
    assert "division by zero" in str(failed.error)
