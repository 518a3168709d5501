"""Properties of reading candidates: wrapping changes nothing, what was read is read as itself, nothing raises."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finrank.pools.candidate import read_candidate
from finrank.programs import ARITHMETIC_OPERATIONS, OPERATIONS, Program, Step
from finrank.programs.reading.candidate_text import Unreadable, read_text
from finrank.programs.stated import read_stated
from finrank.records import Pool
from finrank.store.json_lines import encode

TABLE = [
    ["", "2009", "2008"],
    ["net sales", "$ 5829", "$ 5735"],
    ["a 'b' & c", "12", "10"],
    ["gaps,net 5%", "1", "2"],
]
NUMBERS = ["1", "2", "3.5", "-4", "12%", "1,234", "5,829,000.5", "const_100", "const_m1", "5829", "0.07"]
LABELS = [row[0] for row in TABLE[1:]]
reproducible = settings(derandomize=True, deadline=None, max_examples=400)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Programs of one to four steps over all operations, whose references all name earlier steps."""
    steps: list[Step] = []
    for index in range(draw(st.integers(1, 4))):
        operation = draw(st.sampled_from(OPERATIONS))
        if operation in ARITHMETIC_OPERATIONS:
            argument = st.sampled_from(NUMBERS + [f"#{earlier}" for earlier in range(index)])
            steps.append(Step(operation, (draw(argument), draw(argument))))
        else:
            steps.append(Step(operation, (draw(st.sampled_from(LABELS)), "none")))
    return Program(tuple(steps))


# Of a program and of a stated answer alike; in any order, one around the other.
WRAPPINGS: dict[str, Callable[[str], str]] = {
    "fence": lambda text: f"```\n{text}\n```",
    "named fence": lambda text: f"```python\n{text}\n```",
    "backticks": lambda text: f"`{text}`",
    "label": lambda text: f"Answer: {text}",
    "bold label": lambda text: f"**Final answer:** {text}",
    "sentence": lambda text: f"The answer is {text}",
    "list number": lambda text: f"1. {text}",
    "brackets": lambda text: f"(2) {text}",
    "quotes": lambda text: f'"{text}"',
    "curly quotes": lambda text: f"“{text}”",
    "bold": lambda text: f"**{text}**",
    "tag": lambda text: f"<answer>{text}</answer>",
    "end of text": lambda text: f"{text}</s>",
    "end of turn": lambda text: f"{text}<|im_end|>",
    "end of tokens": lambda text: f"{text} EOF",
    "semicolon": lambda text: f"{text};",
    "blanks": lambda text: f" \t{text} \n",
    "invisible": lambda text: f"\ufeff\u200b{text}\u200b",
}
# Around all others: what is inside JSON is a text again.
IN_JSON: dict[str, Callable[[str, str], str]] = {
    "plain": lambda key, text: text,
    "JSON": lambda key, text: json.dumps({key: text}),
    "Python": lambda key, text: repr({key: text}),
    "trailing comma": lambda key, text: json.dumps({key: text})[:-1] + ",}",
    "in prose": lambda key, text: (
        f"Here {{it}} is:\n```json\n{json.dumps({key: text}, indent=1)}\n```\nHope this helps!"
    ),
    "raw line breaks": lambda key, text: json.dumps({key: text}).replace("\\n", "\n"),
    "thoughts": lambda key, text: f"<think>perhaps {{'answer': 5}} or add(7, 7)</think>\n{text}",
}
# One of these inside another is no Markdown.
FENCES = {"fence": "`", "named fence": "`", "backticks": "`", "bold label": "*", "bold": "*"}
wrappings = st.lists(st.sampled_from(sorted(WRAPPINGS)), max_size=4, unique_by=lambda name: FENCES.get(name, name))


def wrap(text: str, names: list[str]) -> str:
    for name in names:
        text = WRAPPINGS[name](text)
    return text


@reproducible
@given(programs(), wrappings, st.sampled_from(sorted(IN_JSON)))
def test_wrapping_changes_no_program(program: Program, names: list[str], json_form: str) -> None:
    text = IN_JSON[json_form]("program", wrap(str(program), names))
    plain, wrapped = (read_candidate(given, TABLE) for given in (str(program), text))
    assert wrapped.program == plain.program == str(program)
    assert (wrapped.answer, wrapped.error) == (plain.answer, plain.error)


@reproducible
@given(programs())
def test_other_ways_of_writing_a_program(program: Program) -> None:
    expected = read_candidate(str(program), TABLE)
    tokens = [part for step in program.steps for part in (f"{step.operation}(", *step.arguments, ")")] + ["EOF"]
    ways: list[Any] = [tokens, str(tokens), str(program).upper() if "table_" not in str(program) else tokens]
    if all("#" in "".join(step.arguments) for step in program.steps[1:]):
        ways.append("\n".join(map(str, program.steps)))
        ways += [" ".join(tokens)] if "table_" not in str(program) else []
    if expected.answer is not None:
        ways.append(f"{program} = {expected.answer}")
    for way in ways:
        made = read_candidate(way, TABLE)
        assert (made.program or "").lower() == str(program).lower(), way
        assert made.answer == expected.answer, way


NUMBERS_STATED = st.one_of(
    st.integers(-(10**9), 10**9).map(str),
    st.integers(0, 10**9).map(lambda number: f"{number:,}"),
    st.decimals(-(10**6), 10**6, places=2).map(lambda number: f"{number}%"),
    st.decimals(0, 10**6, places=1).map(lambda number: f"$ {number} million"),
    st.decimals(0, 100, places=2).map(lambda number: f"about {number}"),
    st.integers(1, 10**6).map(lambda number: f"({number:,})"),
    st.sampled_from(["yes", "no", "5 percent decrease", "minus 7", "94 USD", "€ 94", "1.2e3"]),
)


@reproducible
@given(NUMBERS_STATED, wrappings, st.sampled_from(sorted(IN_JSON)))
def test_wrapping_changes_no_stated_answer(stated: str, names: list[str], json_form: str) -> None:
    made = read_candidate(IN_JSON[json_form]("answer", wrap(stated, names)), TABLE)
    assert made.program is None
    assert made.answer == read_stated(stated).answer


PIECES = st.lists(
    st.sampled_from(
        ["94", "5%", "1,2", "add(1, 2)", "add(", "-", "=", " ", "\n", "Answer: ", "{", "}", '"answer": ', "\\boxed{",
         "or", "not", "fell by", "2009", "page", "$", "(", ")", "#0", "```", "<think>", "</think>", ", ", ".", "/"]
    ),
    max_size=9,
).map("".join)  # fmt: skip


@reproducible
@given(st.text(max_size=40) | PIECES)
def test_reading_what_was_read_gives_the_same(text: str) -> None:
    try:
        said = read_text(text)
    except Unreadable as reason:
        str(reason).encode()
        return
    assert (said.program, said.stated) != (None, None)
    for number, part in enumerate(said):
        if part is not None:
            assert read_text(part)[number] == part


KEYS = st.sampled_from(["program", "answer", "text", "stated", "model", "origin", "x"])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**400) | st.floats() | st.text(max_size=20) | PIECES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["program", "answer", "text", "stated", "model", "origin", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@reproducible
@given(JSON_VALUES)
def test_whatever_is_given_there_is_a_candidate_that_can_be_stored(value: Any) -> None:
    made = read_candidate(value, TABLE)
    assert (made.answer is None) <= (made.error is not None)
    pool = Pool(id="a", page="p", question="q", table=[], text=[], candidates=[made])
    assert Pool.model_validate_json(encode(pool)) == pool


@pytest.mark.parametrize("name", WRAPPINGS)
def test_a_wrapping_is_no_empty_one(name: str) -> None:
    assert WRAPPINGS[name]("add(1, 2)") != "add(1, 2)"
