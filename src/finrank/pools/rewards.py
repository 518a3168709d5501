"""Rewards of candidates: 1.0 for a correct one, at most 0.5 for a wrong one, 0.0 for one without a value.

A candidate is correct when its program executes to the gold answer, whatever the program looks like, or when it states
the gold answer, as rounded as it may be. A wrong one earns half of the weighted mean of three components in [0, 1]:

    execution   1 if it has a value
    closeness   1 / (1 + |value - gold| / max(|gold|, 0.00001)); 0 between "yes", "no" and a number
    operations  overlap of its operation names with those of the gold program (Dice: 2 * shared / (its + gold))

For gold `divide(637, const_5)` = 127.4, the wrong `divide(637, const_10)` = 63.7 has closeness 1 / (1 + 0.5) = 0.667,
operations 1.0 and execution 1.0: with the weights 0.5, 0.3 and 0.2 its reward is 0.5 * 0.833333 = 0.416667.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from finrank.errors import UserError
from finrank.pools.equal_answers import is_right
from finrank.programs import Program, parse_or_none
from finrank.programs.value import answer_key, same_answer, value_of
from finrank.records import Answer, Candidate, Pool, RewardedPool
from finrank.store.json_lines import describe
from finrank.store.yaml_text import parse_yaml

_HIGHEST_WRONG = 0.5
_SMALLEST_GOLD = 0.00001  # in a relative difference: the resolution of an answer
_DECIMALS = 6  # rewards and components are rounded, so that files are the same on every machine


class Unrewardable(ValueError):
    """A pool without rewards; the text is the reason, fit for `rejects.jsonl`."""


class RewardWeights(BaseModel):
    """How much each component counts in the reward of a wrong candidate; only the proportions matter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    closeness: float = Field(default=0.5, ge=0.0, allow_inf_nan=False)
    operations: float = Field(default=0.3, ge=0.0, allow_inf_nan=False)
    execution: float = Field(default=0.2, ge=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_total(self) -> RewardWeights:
        total = self.closeness + self.operations + self.execution
        if not 0.0 < total < math.inf:
            raise ValueError(f"the reward weights must have a positive, finite sum, got {total}: raise one above 0")
        return self


def load_reward_weights(path: Path) -> RewardWeights:
    """Read the weights from a YAML file; UserError with the file's name where it is missing or wrong."""
    try:
        return RewardWeights.model_validate(parse_yaml(path.read_bytes()))
    except ValidationError as error:
        raise UserError(f"{path}: {describe(error)}; known keys: closeness, operations, execution") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error


def reward_pool(pool: Pool, weights: RewardWeights | None = None) -> RewardedPool:
    """The pool with rewards, components and correct indices; default weights where None.

    Every program is executed again on the pool's table, so that no stored answer is trusted; stated answers stay.
    Raises Unrewardable where the gold answer is unknown, or where a stored answer is not the program's value.
    """
    weights = weights or RewardWeights()
    if pool.answer is None:
        raise Unrewardable("gold answer unknown: rewards are computed against it")
    gold_operations = _operations(parse_or_none(pool.program))
    weight_of = weights.model_dump()
    rewards, components, correct = [], [], []
    for index, candidate in enumerate(pool.candidates):
        program = parse_or_none(candidate.program)
        value = _checked_value(candidate, program, pool.table, index)
        right = is_right(candidate.model_copy(update={"answer": value}), pool.answer, pool.question)
        parts = {
            "execution": 0.0 if value is None else 1.0,
            "closeness": 1.0 if right else round(closeness(value, pool.answer), _DECIMALS),
            "operations": round(_dice(_operations(program), gold_operations), _DECIMALS),
        }
        components.append(parts)
        if right:
            correct.append(index)
            rewards.append(1.0)
        else:
            rewards.append(_reward_of_wrong(parts, weight_of))
    return RewardedPool.of(pool, rewards=rewards, components=components, correct=correct)


def _operations(program: Program | None) -> Counter[str]:
    """How often each operation occurs in a program; empty for None."""
    return Counter() if program is None else Counter([step.operation for step in program.steps])


def closeness(value: Answer | None, gold: Answer) -> float:
    """How near a value is to gold, in [0, 1]: 1 when they are the same, 0.5 at a relative difference of 1.

    >>> closeness(63.7, 127.4), closeness(-127.4, 127.4), closeness("yes", 1.0)
    (0.6666666666666666, 0.3333333333333333, 0.0)
    """
    if same_answer(value, gold):
        return 1.0
    if value is None or isinstance(value, str) or isinstance(gold, str):
        return 0.0
    return 1.0 / (1.0 + abs(value - gold) / max(abs(gold), _SMALLEST_GOLD))


def _checked_value(candidate: Candidate, program: Program | None, table: list[list[str]], index: int) -> Answer | None:
    """The candidate's value; Unrewardable when the stored one is not the value of its program."""
    stored = candidate.answer
    if candidate.program is None:
        return stored
    executed = None if program is None else value_of(program, table).answer
    if executed is None and candidate.stated is not None:
        return stored
    if answer_key(stored) != answer_key(executed):
        raise Unrewardable(
            f"candidate {index}: stored answer {stored!r} but {candidate.program} executes to {executed!r}"
        )
    return executed


def _dice(first: Counter[str], second: Counter[str]) -> float:
    """Sørensen-Dice coefficient of two multisets; 0 where one of them is empty."""
    if not first or not second:
        return 0.0
    shared = sum(min(count, second[name]) for name, count in first.items())
    return 2.0 * shared / (first.total() + second.total())


def _reward_of_wrong(parts: dict[str, float], weight_of: dict[str, float]) -> float:
    if parts["execution"] == 0.0:
        return 0.0
    mean = sum(weight_of[name] * part for name, part in parts.items()) / sum(weight_of.values())
    return round(_HIGHEST_WRONG * min(mean, 1.0), _DECIMALS)
