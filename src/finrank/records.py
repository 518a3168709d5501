"""The three records that flow through the pipeline, each a superset of the one before.

`Question` is made by the prepare stage, `Pool` by the candidates stage, `RewardedPool` by the rewards stage. On disk
each is one JSON object per line; reading validates it and ignores unknown keys. In code an unknown field is an error.

>>> pool = Pool(id="V/2008/page_17.pdf-1", page="V/2008/page_17.pdf", question="what is ... ?",
...             table=[["", "2008"], ["revenue", "$ 637"]], text=["a sentence ."],
...             program="divide(637, const_5)", answer=127.4,
...             candidates=[Candidate(program="divide(637, const_5)", answer=127.4, origin="gold")])
>>> pool.candidates[0].answer
127.4
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Origin = Literal["gold", "corrupted", "proposed", "sampled", "imported"]


def _finite(value: float | str) -> float | str:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("an answer must be a finite number, 'yes' or 'no' (a non-finite value is a failed execution)")
    return value


def _is_none(value: object) -> bool:
    return value is None


# Strict, so that a number is never read from the string "12" nor "yes" from True.
Number = Annotated[float, Field(strict=True)]
Answer = Annotated[Number | Literal["yes", "no"], AfterValidator(_finite)]


class Record(BaseModel):
    """Shared settings of all records: immutable, no unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def of(cls, record: Record, **fields: Any) -> Self:
        """A wider or narrower record: the fields that `record` has in common with this type, and the given ones.

        Pool.of(question, candidates=[...]) adds candidates, Question.of(pool) leaves them out.
        """
        shared = {name: getattr(record, name) for name in cls.model_fields if name in type(record).model_fields}
        return cls(**{**shared, **fields})


class Question(Record):
    """A question about one report page, with its gold program and answer where they are known."""

    id: str = Field(min_length=1)
    page: str = Field(min_length=1, description="the report page; splits and bootstraps never cut through a page")
    question: str = Field(min_length=1)
    table: list[list[str]] = Field(description="rows of cells; the first row is the header, the first cell the label")
    text: list[str] = Field(description="the page's sentences in reading order, before and after the table")
    program: str | None = None
    answer: Answer | None = None


class Candidate(Record):
    """One possible answer: a program, the value it computes (or why it computes none), and where it came from."""

    program: str | None = None
    answer: Answer | None = None
    stated: str | None = Field(
        default=None,
        description="the text that states the answer, where no program computes it: it says how far it is rounded",
        exclude_if=_is_none,
    )
    error: str | None = Field(default=None, description="why it has no value, or what is wrong with its program")
    origin: Origin
    edits: list[str] = Field(default_factory=list, description="names of the corruptions applied, in order")
    model: str | None = Field(default=None, description="the system that said it", exclude_if=_is_none)
    log_probability: Number | None = Field(
        default=None, description="what the system that said it gives it, as a natural logarithm", exclude_if=_is_none
    )


class Pool(Question):
    """A question and its candidates, in the order in which they are stored (shuffled by a seeded hash)."""

    candidates: list[Candidate] = Field(min_length=1)


class RewardedPool(Pool):
    """A pool with one reward in [0, 1] per candidate, the parts it is the sum of, and the indices of the correct."""

    rewards: list[Annotated[float, Field(ge=0.0, le=1.0)]]
    components: list[dict[str, Annotated[float, Field(allow_inf_nan=False)]]]
    correct: list[int] = Field(description="ascending indices of candidates that execute to the gold answer")

    @model_validator(mode="after")
    def _check_lengths(self) -> RewardedPool:
        n = len(self.candidates)
        if len(self.rewards) != n or len(self.components) != n:
            raise ValueError(f"{n} candidates but {len(self.rewards)} rewards and {len(self.components)} components")
        if any(not 0 <= index < n for index in self.correct) or sorted(set(self.correct)) != self.correct:
            raise ValueError(f"correct must be ascending indices below {n}, got {self.correct}")
        return self
