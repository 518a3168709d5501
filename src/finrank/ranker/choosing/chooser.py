"""The chooser: which answer comes first, by what the ranker, the votes and the systems say of each.

The score of an answer, in the ranker's logits, is

    log-probability that the ranker gives it
    + votes    * log(number of candidates that say it)
    + near     * log(1 + number of candidates that say another number within 0.5 % of it, unless programs compute both)
    + program  * (1 if a program computes it, else 0)
    + proposed * log-probability that a first stage gives it, -6 at least
    + sum over the candidates that say it of the weight of their system

Candidates of a first stage (origin `proposed`, with their log-probability) are not votes: it has an opinion of every
answer, which the fourth term holds. An answer that nobody else says counts as half a vote.

A number within 0.5 % is mostly the same calculation with a slip. Where every answer has one candidate, with a program,
and nothing is proposed, the chooser is the ranker. The weights were chosen on outputs of 17 systems to FinQA's dev
questions (docs/experiments.md); `finrank fit` fits them, and a weight per system, to other labelled pools.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finrank.errors import UserError
from finrank.records import Answer, Candidate
from finrank.store import describe, read_json, write_json

CHOOSER = "chooser.json"
FEATURES = ("votes", "near", "program", "proposed")
_LEAST_PROPOSED = -6.0  # of a log-probability, also that of answers which are not proposed
_NEAR = 0.005  # of the larger of two numbers
Weight = Annotated[float, Field(ge=-1e6, le=1e6)]  # sums stay finite


class Chooser(BaseModel):
    """The weights of the chooser, in the ranker's logits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    votes: Weight = Field(default=20.0, description="of the log of the number of candidates that say an answer")
    near: Weight = Field(default=8.0, description="of the log of 1 + the candidates that nearly say it")
    program: Weight = Field(default=8.0, description="of an answer that a program computes")
    proposed: Weight = Field(default=5.0, description="of the log-probability that a first stage gives an answer")
    systems: dict[str, Weight] = Field(default_factory=dict, description="system -> its weight; others have 0")
    fitted_on: dict[str, str] = Field(default_factory=dict, description="file of the pools -> sha256")

    def adjust(
        self,
        log_probabilities: NDArray[np.float64],
        features: NDArray[np.float64],
        systems: Sequence[Sequence[str]],
    ) -> NDArray[np.float64]:
        """The log-probabilities [answers] that the chooser gives answers, from those of the ranker.

        `features` [answers, 4] are those of `answer_features`, `systems` who says each answer. An answer that the
        ranker did not score keeps its minus infinity.
        """
        said_by = np.array([sum(self.systems.get(name, 0.0) for name in names) for names in systems])
        weights = np.array([self.votes, self.near, self.program, self.proposed])
        scores = log_probabilities + features @ weights + said_by
        total = np.logaddexp.reduce(scores)
        return scores - total if total > -np.inf else scores


DEFAULT_CHOOSER = Chooser()
VOTE = Chooser(votes=1000.0, near=0.0, program=0.0, proposed=0.0)
"""The vote, whose ties the ranker breaks."""


def answer_features(
    candidates: Sequence[Candidate], members: Sequence[Sequence[int]], answers: Sequence[Answer | None]
) -> NDArray[np.float64]:
    """The features [answers, 4] of answers, of which the candidates with the indices `members` say each.

    For 94.0 from two candidates, one of them with a program, and 94.3 from one without: [[log 2, log 2, 1, 0],
    [0, log 3, 0, 0]]. Where 94.0 is also proposed with probability 0.5, the last column is [log 0.5, -6].
    """
    said = [[candidates[index] for index in indices if not is_proposal(candidates[index])] for indices in members]
    counts = np.array([len(sayers) for sayers in said], dtype=np.float64)
    has_program = np.array([any(map(_computes, sayers)) for sayers in said], np.float64)
    computed = np.array([any(_computes(candidates[index]) for index in indices) for indices in members], np.float64)
    near = _counts_near(answers, counts, computed)
    votes = np.log(np.maximum(counts, 0.5))
    return np.stack([votes, np.log1p(near), has_program, _proposed(candidates, members)], axis=1)


def is_proposal(candidate: Candidate) -> bool:
    """True for a candidate of a first stage, which comes with its log-probability."""
    return candidate.origin == "proposed" and candidate.log_probability is not None


def who_says(candidates: Sequence[Candidate], indices: Sequence[int]) -> list[str]:
    """The systems of these candidates, "" for those that name none; proposals are left out."""
    return [candidates[index].model or "" for index in indices if not is_proposal(candidates[index])]


def _proposed(candidates: Sequence[Candidate], members: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """The log-probability [answers] of each answer's proposals; all 0 where nothing is proposed."""
    of_answers = [
        [candidates[index].log_probability or 0.0 for index in indices if is_proposal(candidates[index])]
        for indices in members
    ]
    if not any(of_answers):
        return np.zeros(len(members))
    return np.array([max([*values, _LEAST_PROPOSED]) for values in of_answers])


def _computes(candidate: Candidate) -> bool:
    return candidate.program is not None and candidate.answer is not None and candidate.stated is None


def _counts_near(
    answers: Sequence[Answer | None], counts: NDArray[np.float64], has_program: NDArray[np.float64]
) -> NDArray[np.float64]:
    """For each answer, how many candidates say another number within 0.5 % of it, one of the two being stated."""
    near = np.zeros(len(answers))
    numbers = [index for index, answer in enumerate(answers) if isinstance(answer, float)]
    values = np.array([answers[index] for index in numbers], dtype=np.float64)
    with np.errstate(over="ignore"):  # nothing is beyond infinity
        ends = np.sort([values * (1 - _NEAR), values / (1 - _NEAR)], axis=0)
    order = np.argsort(values)
    first, behind = np.searchsorted(values[order], ends[0], "left"), np.searchsorted(values[order], ends[1], "right")
    stated = counts * (1 - has_program)
    of_all, of_stated = (np.concatenate([[0.0], np.cumsum(said[numbers][order])]) for said in (counts, stated))
    # Two programs of different values do not slip: each is exact.
    computed = has_program[numbers] > 0
    near[numbers] = np.where(
        computed, of_stated[behind] - of_stated[first], of_all[behind] - of_all[first] - counts[numbers]
    )
    return near


def save_chooser(model_dir: Path, chooser: Chooser) -> Path:
    """Write a chooser into a model folder; returns the path of the file."""
    write_json(model_dir / CHOOSER, chooser.model_dump(mode="json"))
    return model_dir / CHOOSER


def load_chooser(model_dir: Path) -> Chooser:
    """The chooser in a model folder, the default one where none was fitted; UserError for a damaged file."""
    path = model_dir / CHOOSER
    if not path.exists():
        return DEFAULT_CHOOSER
    try:
        return Chooser.model_validate(read_json(path))
    except (OSError, ValueError) as error:
        reason = describe(error) if isinstance(error, ValidationError) else error
        raise UserError(
            f"{path} is damaged ({reason}): fit it again with finrank fit, or delete it with confidence.json"
        ) from error
