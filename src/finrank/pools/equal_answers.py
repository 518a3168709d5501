"""Which candidates of a pool are one answer, and which are right: by exact values, and by stated ones as rounded."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence

from finrank.programs.stated import Stated, agrees, asks_for_percentage, bounds, read_stated
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
    stated = [stated_answer(candidate) for candidate in candidates]
    pairs = zip(candidates, stated, strict=True)
    keys: list[object] = [answer_key(candidate.answer) if said is None else said for candidate, said in pairs]
    leaders: dict[object, int] = {}  # the most precise member of each key's answer
    if any(said is not None for said in stated):
        leaders = _leaders(candidates, stated, keys, percentage=asks_for_percentage(question))
    first: dict[object, int] = {None: -1}
    named = [first.setdefault(leaders.get(key, key), index) for index, key in enumerate(keys)]
    return [None if key is None else name for key, name in zip(keys, named, strict=True)]


def _leaders(
    candidates: Sequence[Candidate], stated: Sequence[Stated | None], keys: Sequence[object], *, percentage: bool
) -> dict[object, int]:
    """The index of the candidate that leads each key's answer; n log n, since 10,000 candidates may all differ."""
    leaders: dict[object, int] = {None: -1}
    of_programs, of_texts = _Leaders(), _Leaders()
    # Whatever the order of the candidates: equally precise ones are ordered by what they say.
    for index in sorted(range(len(keys)), key=lambda index: (*_imprecision(stated[index]), str(keys[index]))):
        key, said = keys[index], stated[index]
        if key in leaders:
            continue
        joined: list[int] = []
        if said is not None:
            exact, less_exact = (kind.agreeing(said, percentage=percentage) for kind in (of_programs, of_texts))
            joined = exact if len(exact) == 1 else less_exact
        leaders[key] = joined[0] if len(joined) == 1 else index
        if leaders[key] == index and (answer := candidates[index].answer) is not None:
            (of_programs if said is None else of_texts).add(answer, index)
    return leaders


class _Leaders:
    """Candidates that lead an answer, those of numbers by size: to find where a stated answer belongs."""

    def __init__(self) -> None:
        self._numbers: list[tuple[float, int]] = []
        self._words: list[tuple[Answer, int]] = []  # yes and no

    def add(self, answer: Answer, index: int) -> None:
        if isinstance(answer, str):
            self._words.append((answer, index))
        else:
            insort(self._numbers, (answer, index))

    def agreeing(self, said: Stated, *, percentage: bool) -> list[int]:
        """The indices of those that agree, two at most: it only counts whether there is one."""
        found: list[int] = []
        for answer, index in self._near(said, percentage=percentage):
            if index not in found and agrees(said, answer, percentage=percentage):
                found.append(index)
            if len(found) == 2:
                break
        return found

    def _near(self, said: Stated, *, percentage: bool) -> Iterator[tuple[Answer, int]]:
        yield from self._words
        for low, high in bounds(said, percentage=percentage):
            first = bisect_left(self._numbers, (low, -1))
            last = bisect_right(self._numbers, (high, math.inf), first)
            yield from (self._numbers[place] for place in range(first, last))


def most_precise(candidates: Sequence[Candidate], indices: Sequence[int]) -> int:
    """Of the indices of one answer's candidates, that of the first exact one, else of the most precisely stated."""
    if len(indices) == 1:
        return indices[0]
    return min(indices, key=lambda index: _imprecision(stated_answer(candidates[index])))


def _imprecision(stated: Stated | None) -> tuple[float, bool]:
    """A sort key: exact values first, then stated answers from the most precise on, those with a sign in words last."""
    if stated is None:
        return -math.inf, False
    return -float(stated.decimals + 2 * stated.percent), stated.signed_by_word
