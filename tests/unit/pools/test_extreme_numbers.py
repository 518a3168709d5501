"""Numbers at the ends of what a float holds, as answers, cells and constants: a value or a reason, and strict JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from finrank.pools.candidate import read_candidate
from finrank.pools.equal_answers import equal_answers
from finrank.pools.rewards import reward_pool
from finrank.ranker.choosing.answers import rank_answers
from finrank.records import Pool
from finrank.store.json_lines import encode

TABLE = [["", "a", "b"], ["huge", "1e308", "1e308"], ["tiny", "-0", "5e-324"], ["beyond", "1e400", "9" * 5000]]
ZEROS = ["0", "-0", 0, -0.0, "-0.0", "multiply(0, -1)", "subtract(0, 0)", 5e-324, "add(5e-324, 0)", "0.000001"]
ZEROS += ["table_average(tiny, none)", f"0.{'0' * 80}1"]
HUGE = [1e308, "1e308", "table_max(huge, none)", "exp(10, 308)", 10**308]
NEGATIVE = [-1e308, "multiply(1e308, const_m1)"]
WITHOUT = ["1e400", "9" * 400, f"add({'9' * 400}, 1)", "table_sum(huge, none)", "table_sum(beyond, none)", 10**400]
WITHOUT += ["divide(1, 5e-324)", "exp(0, -1)", "exp(-8, 0.5)", "exp(2, 1e308)", float("nan"), float("-inf")]
ITEMS: list[Any] = [*ZEROS, *HUGE, *NEGATIVE, *WITHOUT]
CANDIDATES = [read_candidate(item, TABLE) for item in ITEMS]
GROUPS = [[*range(12)], [*range(12, 17)], [17, 18]]


def test_zeros_are_one_answer_and_what_overflows_has_a_reason() -> None:
    groups = equal_answers(CANDIDATES, "what is it ?")
    assert [[at for at, name in enumerate(groups) if name == first] for first in (0, 12, 17)] == GROUPS
    assert groups[19:] == [None] * len(WITHOUT)
    assert all(candidate.error for candidate in CANDIDATES[19:])


@pytest.mark.parametrize(("gold", "right"), [(0.0, 0), (-0.0, 0), (1e308, 1), (-1e308, 2)])
def test_rewards_of_extreme_numbers_are_numbers(gold: float, right: int) -> None:
    pool = Pool(id="a", page="p", question="what is it ?", table=TABLE, text=[], answer=gold, candidates=CANDIDATES)
    rewarded = reward_pool(pool)
    assert rewarded.correct == GROUPS[right]
    assert all(0.0 <= reward <= 1.0 for reward in rewarded.rewards)
    assert not {b"NaN", b"Infinity"} & set(encode(rewarded).replace(b":", b",").replace(b"[", b",").split(b","))


@pytest.mark.parametrize("scores", [np.zeros(31), np.full(31, 3e38), np.linspace(-1e300, 1e300, 31)])
def test_a_ranking_of_extreme_numbers_is_strict_json(scores: np.ndarray) -> None:
    scores = np.where([candidate.answer is None for candidate in CANDIDATES], -np.inf, scores)
    ranking = rank_answers(CANDIDATES, scores, "what is it ?")
    text = json.dumps(ranking.as_json(), allow_nan=False)
    assert [answer["answer"] is None for answer in json.loads(text)["answers"]][:4] == [False, False, False, True]
    assert sum(answer.probability for answer in ranking) == pytest.approx(1.0)
