"""Completions are read whatever surrounds them; one that cannot be read says why."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finrank.pools.completion import INSTRUCTIONS, as_candidate, write_completion, write_messages
from finrank.programs import CONSTANTS, OPERATIONS, operands, parse
from finrank.programs.reading.candidate_text import Unreadable
from finrank.programs.reading.json_answers import answering_object
from finrank.records import Answer, Candidate, Pool, Question
from finrank.store.json_lines import encode
from tests.helpers.questions import CHANGE, finqa_questions

TABLE = [["", "2008"], ["revenue", "$ 637"]]
WRITTEN = '{"answer": 0.01639, "program": "subtract(5829, 5735), divide(#0, 5735)"}'


def test_completions_are_read_back_as_written() -> None:
    completions = [(CHANGE, 0.01639), ("greater(2, 1)", "yes"), ("table_sum(revenue, none)", 637.0)]
    for program, answer in completions:
        made = as_candidate(write_completion(program), TABLE)
        assert made == Candidate(program=program, answer=answer, origin="sampled")


@pytest.mark.parametrize(
    "text",
    [
        f"Sure! The growth is {{#0}}:\n```json\n{WRITTEN}\n```\nHope {{this}} helps.",
        f"{WRITTEN} {{}} {WRITTEN[:-5]}",
        f'<think>the cell {{"row": 1}} and {{"row": 2, "column": {{}}}} and {{"answer": </think>{WRITTEN}',
        WRITTEN.replace('", "', '",\n\t"').replace("{", "{ "),
        '{"steps": ["subtract"], "program": " subtract(5829, 5735), divide(#0, 5735)\\n", "answer": "0.01639"}',
    ],
)
def test_prose_around_the_json_does_not_matter(text: str) -> None:
    expected = Candidate(program=CHANGE, answer=0.01639, origin="sampled")
    assert as_candidate(text, []) == expected
    assert as_candidate('{"answer": 1}' + text, []) == expected  # the last object that answers counts
    assert as_candidate(text + '{"answer": null}', []) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the text is empty"),
        ("I am not sure.", "no program, number, yes or no in 'I am not sure.'"),
        ('{"answer": null, "program": ""}', "no program, number, yes or no in"),
        ('{"answer": NaN}', "no program, number, yes or no in 'nan'"),
        ('{"answer": [94, 95]}', "2 numbers, and none is marked"),
        ("x" * 100_001, "a text of 100001 characters: at most 100000 are read"),
        ('{"a":' * 15_000, "no program, number, yes or no in"),
        ("{" * 100_000, "no program, number, yes or no in"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(reason)) as raised:
        as_candidate(text, [])
    assert len(str(raised.value)) < 200
    str(raised.value).encode()


@pytest.mark.parametrize("key", ["program", "answer"])
def test_whatever_the_depth_of_nesting_there_is_a_reason(key: str) -> None:
    for depth in range(800, 1010):
        with pytest.raises(Unreadable):
            as_candidate(f'{{"{key}": ' + "[" * depth + "]" * depth + "}", [])


@pytest.mark.parametrize(
    ("program", "answer", "error"),
    [
        ("table_sum(revenue, none)", 637.0, "None"),
        ("greater(2, 1)", "yes", "None"),
        ("divide(5, 0)", 94.0, "step 0: divide: float division by zero"),
        ("multiply(1e308, 1e308)", 94.0, "the value is inf"),
    ],
)
def test_the_models_answer_counts_only_where_its_program_has_no_value(
    program: str, answer: Answer | None, error: str
) -> None:
    made = as_candidate(json.dumps({"answer": 94, "program": program}), TABLE)
    assert (made.program, made.answer, made.origin) == (program, answer, "sampled")
    assert str(made.error).startswith(error)


def test_the_example_of_the_instructions_is_right() -> None:
    example = as_candidate(INSTRUCTIONS, [])
    assert example.program == "subtract(83617, 79254), divide(#0, 79254)"
    assert example.answer == answering_object(INSTRUCTIONS)["answer"]  # type: ignore[index]
    assert all(name in INSTRUCTIONS for name in (*OPERATIONS, *CONSTANTS))


def test_the_example_of_the_instructions_is_not_a_gold_program(finqa_dir: Path) -> None:
    questions = [question for split in ("train", "dev") for question in finqa_questions(finqa_dir / f"{split}.json")]
    assert len(questions) > 1000
    numbers = [set(operands(parse(question.program or ""))) for question in questions]
    assert not any({"83617", "79254"} <= of_question for of_question in numbers)


def test_messages_hold_page_and_question_and_nothing_of_the_gold() -> None:
    question = Question(id="a", page="p", question="what was revenue ?", table=TABLE, text=["one .", "two ."])
    messages = write_messages(question)
    assert [message["role"] for message in messages] == ["system", "user"]
    page = "Table:\n | 2008\nrevenue | $ 637\n\nText:\none .\ntwo ."
    assert messages[1]["content"] == f"{page}\n\nQuestion: what was revenue ?"
    gold = question.model_copy(update={"program": "table_sum(revenue, none)", "answer": 637.0})
    assert write_messages(gold) == messages


@given(st.text() | st.text(alphabet='{}[]":,\\ud8progamnsweradd(12)#0NaN ').map(lambda text: '{"program": "' + text))
def test_any_text_has_a_candidate_that_can_be_stored_or_a_reason(text: str) -> None:
    try:
        made = as_candidate(text, TABLE)
    except Unreadable:
        return
    pool = Pool(id="a", page="p", question="q", table=[], text=[], candidates=[made])
    assert Pool.model_validate_json(encode(pool)) == pool
