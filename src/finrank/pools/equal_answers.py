"""Which candidates of a pool are one answer, and which are right: by exact values, and by stated ones as rounded."""

from __future__ import annotations

import math
from collections.abc import Sequence

from finrank.programs.stated import Stated, agrees, asks_for_percentage, read_stated
from finrank.programs.value import answer_key, same_answer
from finrank.records import Answer, Candidate


def stated_answer(candidate: Candidate) -> Stated | None:
    """The candidate's answer as it was stated; None for a value that its program computes, and without an answer."""
    if candidate.stated is not None:
        return read_stated(candidate.stated)
    if candidate.program is not None or candidate.answer is None:
        return None
    return read_stated(candidate.answer)


def is_right(candidate: Candidate, gold: Answer | None, question: str) -> bool:
    """True if a candidate has the gold answer: exactly by its program, or as precisely as it states it.

    >>> stated = Candidate(answer=0.2496, stated="24.96 %", origin="imported")
    >>> is_right(stated, 0.24958, "what is the share ?"), is_right(stated, 0.24912, "what is the share ?")
    (True, False)
    """
    if candidate.answer is None or gold is None:
        return False
    stated = stated_answer(candidate)
    if stated is None:
        return same_answer(candidate.answer, gold)
    return agrees(stated, gold, percentage=asks_for_percentage(question))


def equal_answers(candidates: Sequence[Candidate], question: str) -> list[int | None]:
    """For each candidate the index of the first one with the same answer; None for candidates without an answer.

    Exact values are equal at 5 decimals. A stated answer belongs to the one exact value, or else the one more precise
    stated answer, with which it agrees; near several exact values it joins none of them.

    >>> pool = [Candidate(program="divide(15000, 60100)", answer=0.24958, origin="imported"),
    ...         Candidate(answer=0.2496, stated="24.96 %", origin="imported"), Candidate(origin="imported")]
    >>> equal_answers(pool, "what is the share ?")
    [0, 0, None]
    """
    percentage = asks_for_percentage(question)
    stated = [stated_answer(candidate) for candidate in candidates]
    keys = [
        answer_key(candidate.answer) if said is None else said
        for candidate, said in zip(candidates, stated, strict=True)
    ]
    leaders: dict[object, int] = {}  # the most precise member of each key's group
    # Whatever the order of the candidates: equally precise ones are ordered by what they say.
    for index in sorted(range(len(candidates)), key=lambda index: (*_precision(stated[index]), str(keys[index]))):
        key, said = keys[index], stated[index]
        if key is None or key in leaders:
            continue
        agreeing: set[int] = set()
        if said is not None:
            agreeing = {
                leader
                for leader in set(leaders.values())
                if (answer := candidates[leader].answer) is not None and agrees(said, answer, percentage=percentage)
            }
        exact = {leader for leader in agreeing if stated[leader] is None}
        joined = exact if len(exact) == 1 else agreeing - exact
        leaders[key] = joined.pop() if len(joined) == 1 else index
    groups = [None if key is None else leaders[key] for key in keys]
    first = {group: groups.index(group) for group in set(groups)}
    return [None if group is None else first[group] for group in groups]


def _precision(stated: Stated | None) -> tuple[float, bool]:
    """A sort key: exact values first, then stated answers from the most precise on, those with a sign in words last."""
    if stated is None:
        return -math.inf, False
    return -float(stated.decimals + (2 if stated.percent else 0)), stated.signed_by_word
