"""Wrong candidates from several sources: how many of each a pool has, and which ones.

One source is corruption of gold. The others are pools of the same questions in other folders: what a first stage
proposed, or a language model wrote. Of their candidates only wrong ones with a value are taken, each value once, the
most plausible first; corruption makes what a source lacks.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from finrank.errors import UserError
from finrank.pools.candidate import read_candidate
from finrank.pools.equal_answers import equal_answers, is_right
from finrank.programs import parse_or_none
from finrank.records import Candidate, Question

CORRUPTED = "corrupted"
SOURCES = (CORRUPTED, "proposed", "sampled")


@dataclass(frozen=True)
class Mix:
    """The sources of the wrong candidates, and the share of each; shares sum to 1."""

    sources: tuple[str, ...] = (CORRUPTED,)
    shares: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, sources: str, shares: str | None = None) -> Mix:
        """The mix in two lists with commas; only the proportions of the shares count, and None are equal ones.

        Raises UserError for unknown or repeated sources, and for shares that are not a positive number per source.

        >>> Mix.of("corrupted,sampled", "3,1")
        Mix(sources=('corrupted', 'sampled'), shares=(0.75, 0.25))
        """
        names = tuple(name.strip() for name in sources.split(","))
        for name in names:
            if name not in SOURCES:
                raise UserError(f"--sources {sources}: unknown source {name!r}; known: {', '.join(SOURCES)}")
            if names.count(name) > 1:
                raise UserError(f"--sources {sources}: {name} is there twice")
        expected = f"expected {len(names)} positive numbers with commas, one for each of {', '.join(names)}"
        try:
            weights = [1.0] * len(names) if shares is None else [float(share) for share in shares.split(",")]
        except ValueError:
            raise UserError(f"--shares {shares}: {expected}") from None
        if len(weights) != len(names) or not all(0.0 < weight < math.inf for weight in weights):
            raise UserError(f"--shares {shares}: {expected}")
        return cls(names, tuple(weight / sum(weights) for weight in weights))

    @property
    def others(self) -> list[str]:
        """The sources but corruption."""
        return [source for source in self.sources if source != CORRUPTED]

    def places(self, wrong: int, seed: int, identifier: str) -> dict[str, int]:
        """How many of a question's wrong candidates are each source's.

        Shares that are not whole are rounded up or down by a draw for this question, so that they hold on average.
        """
        if len(self.sources) == 1:
            return {self.sources[0]: wrong}
        # A generator for nothing else, so that candidates do not depend on it.
        start = random.Random(f"sources:{seed}:{identifier}").random()
        ends = [math.floor(wrong * reached + start) for reached in accumulate(self.shares)]
        ends[-1] = wrong  # whatever the rounding of sums
        return {source: end - begin for source, (begin, end) in zip(self.sources, pairwise([0, *ends]), strict=True)}


def wrong_candidates(question: Question, offered: Sequence[Candidate]) -> list[Candidate]:
    """The wrong ones of the offered candidates of a question with a known answer, the most plausible first.

    First those with a log-probability, from the highest; then those whose value more candidates have; then in the
    order given. Each value is there once. Gold has neither model nor log-probability, so both are left out, and
    programs are written as gold is. Values are computed on the question's table.
    """
    candidates = [_read_anew(candidate, question) for candidate in offered]
    answers = equal_answers(candidates, question.question)
    votes = Counter(answers)

    def plausibility(index: int) -> tuple[bool, float, int, int]:
        known = offered[index].log_probability
        return known is None, -(known or 0.0), -votes[answers[index]], index

    wrong: list[Candidate] = []
    for index in sorted(range(len(candidates)), key=plausibility):
        candidate = candidates[index]
        # What another pool calls gold is not a wrong candidate, even if the two golds differ.
        if candidate.answer is None or candidate.origin == "gold":
            continue
        if not is_right(candidate, question.answer, question.question) and _is_new(candidate, wrong, question):
            wrong.append(candidate)
    return wrong


def take(
    question: Question, wrong: Mapping[str, Sequence[Candidate]], places: Mapping[str, int], number: int = 1
) -> dict[str, list[Candidate]]:
    """The candidates that pool `number` of a question takes, by source: at most as many as it has places.

    The first pool takes the most plausible of each source's `wrong` candidates, the second the next ones, and so on,
    from the beginning again behind the last. A value that another source gave is passed over.
    """
    taken: dict[str, list[Candidate]] = {}
    for source, candidates in wrong.items():
        start = (number - 1) * places[source] % max(len(candidates), 1)
        taken[source] = []
        for candidate in [*candidates[start:], *candidates[:start]]:
            if len(taken[source]) == places[source]:
                break
            chosen = [other for of_source in taken.values() for other in of_source]
            if _is_new(candidate, chosen, question):
                taken[source].append(candidate)
    return taken


def _read_anew(candidate: Candidate, question: Question) -> Candidate:
    """The candidate as it is read from outside, without its system."""
    said = {"program": candidate.program, "answer": candidate.answer, "stated": candidate.stated}
    anew = read_candidate(said, question.table, candidate.origin)
    program = parse_or_none(anew.program)
    if program is None or anew.stated is not None:
        return anew
    # Only what was executed is written, so that nothing is left to complain of.
    return anew.model_copy(update={"program": str(program), "error": None})


def _is_new(candidate: Candidate, others: Sequence[Candidate], question: Question) -> bool:
    """True if a candidate has another value than all others, each as precise as it is stated."""
    return not any(
        is_right(candidate, other.answer, question.question) or is_right(other, candidate.answer, question.question)
        for other in others
    )
