"""Question, page and candidates as text for the model. No other room knows this format.

    prefix     what is the change in revenue ? [SEP] table : 2009 | 2008 ; revenue : 5829 | 5735 ; [SEP]
    candidate  percent change : ( revenue 2009 5829 - revenue 2008 5735 ) / 5735 = 0.01639 ( 1.6 % )

A program is an expression, `#0` replaced by its step, after the common name of such a calculation. The first time a
number occurs, it follows its label from the page (`labels.py`). With `candidate_only`, the control that measures how
much pools reveal, the prefix is empty and the candidate is its program and value without labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from finrank.page.labels import PageLabels, number_key
from finrank.page.relevance import Evidence, page_evidence, select_evidence
from finrank.programs import TABLE_OPERATIONS, Program, ProgramError, is_constant, is_reference, parse, referenced_step
from finrank.programs.shape import shape_of
from finrank.records import Answer, Candidate, Question

# Raised whenever the same pool would be written as other text; a saved model refuses to run under another version.
PROMPT_VERSION = 2

_SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "exp": "^", "greater": ">"}
# Common names of calculations: a question asks for a "percentage change", never for a quotient of a difference.
_CALLED = {
    "subtract(a, b), divide(#0, b)": "percent change",
    "divide(a, b), subtract(#0, const_1)": "percent change",
    "subtract(a, b), divide(#0, b), multiply(#1, const_100)": "percent change",
    "subtract(a, const_100), divide(#0, const_100)": "percent return",
    "subtract(a, b)": "change difference",
    "divide(a, b)": "percent share ratio",
    "divide(a, b), multiply(#0, const_100)": "percent share ratio",
    "add(a, b)": "total sum",
    "add(a, b), add(#0, c)": "total sum",
    "add(a, b), add(#0, c), add(#1, d)": "total sum",
    "add(a, b), divide(#0, const_2)": "average",
    "add(a, b), add(#0, c), divide(#1, const_3)": "average",
    "multiply(a, b)": "product",
    "greater(a, b)": "greater",
}
# Numbers of an expression, past which a program is written step by step: add(#0, #0) doubles them at every step.
_MAX_EXPRESSION = 24


class PromptSettings(BaseModel):
    """Settings of the text, stored with the model, so that ranking writes as training did."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_length: int = Field(default=384, ge=16, description="tokens of prefix and longest candidate together")
    context_tokens: int | None = Field(
        default=None, ge=0, description="at most this many tokens of page in the prefix (null: all that fit)"
    )
    labels: bool = Field(default=True, description="write each operand with its row and column, or the words before it")
    program_style: Literal["described", "expression", "steps"] = Field(
        default="described", description="an expression with its common name before it, without it, or step by step"
    )
    candidate_only: bool = Field(
        default=False,
        description="hide question, page and labels: measures what the pools reveal by themselves",
    )

    def page_budget(self, question: int, candidate: int, separators: int) -> int:
        """Tokens of `max_length` that are left for the page by these tokens of the other parts."""
        return self.max_length - question - candidate - separators


def write_candidates(question: Question, candidates: Sequence[Candidate], settings: PromptSettings) -> list[str]:
    """One text per candidate."""
    labelled = settings.labels and not settings.candidate_only
    page = PageLabels(question.table, question.text) if labelled else None
    return [_write_candidate(candidate, _labeller(page, question.question), settings) for candidate in candidates]


def _labeller(page: PageLabels | None, question: str) -> Callable[[str], str | None]:
    """A function that returns a number's label the first time only."""
    written: set[str] = set()

    def label(operand: str) -> str | None:
        if page is None or operand in written:
            return None
        written.add(operand)
        return page.of(operand, question)

    return label


def _write_candidate(candidate: Candidate, label: Callable[[str], str | None], settings: PromptSettings) -> str:
    value = write_value(candidate.answer)
    if candidate.program is None:
        named = label(value) if isinstance(candidate.answer, float) else None
        return f"= {value} {named or ''}".strip()
    try:
        return f"{_write_program(parse(candidate.program), label, settings)} = {value}"
    except ProgramError:
        return f"{candidate.program} = {value}"


def _write_program(program: Program, label: Callable[[str], str | None], settings: PromptSettings) -> str:
    in_steps = settings.program_style == "steps" or _expression_length(program) > _MAX_EXPRESSION
    written: list[str] = []
    for step in program.steps:
        name = step.operation
        if name in TABLE_OPERATIONS:
            row = "row" if settings.candidate_only else step.arguments[0]
            written.append(f"{name} ( {row} )" if in_steps else f"{name.removeprefix('table_')} of {row}")
        else:
            left, right = (_write_argument(each, label, [] if in_steps else written) for each in step.arguments)
            written.append(f"{name} ( {left} , {right} )" if in_steps else f"{left} {_SYMBOLS[name]} {right}")
    if in_steps:
        return " , ".join(written)
    called = _CALLED.get(shape_of(program)) if settings.program_style == "described" else None
    return f"{called} : {written[-1]}" if called else written[-1]


def _expression_length(program: Program) -> int:
    """Numbers in the expression once its references are written out."""
    counts: list[int] = []
    for step in program.steps:
        counts.append(sum(counts[referenced_step(a)] if _looks_back(a, counts) else 1 for a in step.arguments))
    return max(counts)


def _looks_back(argument: str, earlier: Sequence[object]) -> bool:
    return is_reference(argument) and 0 <= referenced_step(argument) < len(earlier)


def _write_argument(argument: str, label: Callable[[str], str | None], earlier: Sequence[str]) -> str:
    """A number after its label, a constant's value, or the earlier expression that a reference names."""
    if earlier and _looks_back(argument, earlier):
        return f"( {earlier[referenced_step(argument)]} )"
    if is_constant(argument):
        return argument.removeprefix("const_").replace("m1", "-1")
    named = None if is_reference(argument) or number_key(argument) is None else label(argument)
    return f"{named} {argument}" if named else argument


def write_value(answer: Answer | None) -> str:
    """A value with at most five significant digits, a fraction also as a percentage.

    >>> write_value(127.4), write_value(0.01639), write_value("yes"), write_value(None)
    ('127.4', '0.01639 ( 1.6 % )', 'yes', 'none')
    """
    if answer is None:
        return "none"
    if isinstance(answer, str):
        return answer
    text = f"{answer:.5g}" if abs(answer) < 1e5 else f"{answer:.0f}"
    return f"{text} ( {100 * answer:.1f} % )" if 0 < abs(answer) < 2 else text


def choose_context(
    question: Question, budget: int, settings: PromptSettings, count_tokens: Callable[[Sequence[str]], list[int]]
) -> list[Evidence]:
    """The rows and sentences of the page for the prefix, within `budget` tokens and the settings' own cap."""
    cap = budget if settings.context_tokens is None else min(budget, settings.context_tokens)
    if settings.candidate_only or cap <= 0:
        return []
    page = page_evidence(question.table, question.text)
    return select_evidence(question.question, page, cap, count_tokens)
