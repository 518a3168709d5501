"""Completions are read whatever surrounds them; one that cannot be read says why."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finrank.pools.completion import (
    INSTRUCTIONS,
    Completion,
    Unparsable,
    as_candidate,
    read_completion,
    write_completion,
    write_messages,
)
from finrank.programs import CONSTANTS, OPERATIONS, operands, parse
from finrank.records import Answer, Candidate, Pool, Question
from finrank.store.json_lines import encode
from tests.helpers.questions import CHANGE, finqa_questions

TABLE = [["", "2008"], ["revenue", "$ 637"]]
WRITTEN = '{"answer": 0.01639, "program": "subtract(5829, 5735), divide(#0, 5735)"}'


def test_completions_are_read_back_as_written() -> None:
    assert write_completion(CHANGE, 0.01639) == WRITTEN
    completions = [(CHANGE, 0.01639), ("greater(2, 1)", "yes"), ("table_sum(café \\ “net”, none)", -3.0)]
    for program, answer in completions:
        assert read_completion(write_completion(program, answer)) == Completion(program, answer)
    with pytest.raises(ValueError, match="JSON"):
        write_completion(CHANGE, math.nan)


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
    assert read_completion(text) == Completion(CHANGE, 0.01639)
    assert read_completion('{"answer": 1}' + text) == Completion(None, 1.0)  # the first object counts


@pytest.mark.parametrize(
    ("answer", "value"),
    [("7", 7.0), ("-0.5", -0.5), ('"Yes"', "yes"), ('" no "', "no"), ('"$ 1,200"', 1200.0), ('"12%"', 0.12)],
)
def test_answers_without_a_program(answer: str, value: Answer) -> None:
    for program in ("", ', "program": null', ', "program": "  "'):
        assert read_completion(f'{{"answer": {answer}{program}}}') == Completion(None, value)
    assert as_candidate(f'{{"answer": {answer}}}', []) == Candidate(answer=value, origin="sampled")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the completion is empty"),
        ("subtract(5829, 5735)", "no JSON object in 'subtract"),
        (WRITTEN[:-10], "no JSON object in"),
        ('{"result": 94}', "no program and no answer in the JSON"),
        ('{"answer": null, "program": ""}', "both empty"),
        ('{"program": ["add(1, 2)"]}', r"program: expected a text, got '\[\"add\(1, 2\)\"\]'"),
        ('{"program": 94, "answer": 94}', "program: expected a text"),
        ('{"program": "add(1, \\ud800)"}', "half a surrogate pair"),
        ('{"program": "' + "9" * 20_001 + '"}', "a program of 20001 characters"),
        ('{"answer": NaN}', "finite number, yes or no, got 'NaN'"),
        ('{"answer": 1e999}', "finite number"),
        ('{"answer": ' + "9" * 5000 + "}", "finite number"),
        ('{"answer": true}', "finite number, yes or no, got 'true'"),
        ('{"answer": [94]}', "finite number"),
        ('{"answer": "about a sixth"}', "'about a sixth' is no number"),
        ('{"answer": "nan"}', "'nan' is no number"),
        ("x" * 100_001, "a completion of more than 100000 characters"),
        ('{"a":' * 15_000, "no JSON object in"),
        ("{" * 100_000, "no JSON object in"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, reason: str) -> None:
    with pytest.raises(Unparsable, match=reason) as raised:
        read_completion(text)
    assert len(str(raised.value)) < 200
    str(raised.value).encode()
    with pytest.raises(Unparsable):
        as_candidate(text, [])


@pytest.mark.parametrize("key", ["program", "answer"])
def test_whatever_the_depth_of_nesting_there_is_a_reason(key: str) -> None:
    for depth in range(800, 1010):
        with pytest.raises(Unparsable):
            read_completion(f'{{"{key}": ' + "[" * depth + "]" * depth + "}")


@pytest.mark.parametrize("answer", ["NaN", "Infinity", '"a lot"', "[]", "true", "null"])
def test_with_a_program_a_bad_answer_is_none(answer: str) -> None:
    assert read_completion(f'{{"answer": {answer}, "program": "add(1, 2)"}}') == Completion("add(1, 2)", None)


@pytest.mark.parametrize(
    ("program", "answer", "error"),
    [
        ("table_sum(revenue, none)", 637.0, "None"),
        ("greater(2, 1)", "yes", "None"),
        ("divide(5, 0)", None, "step 0: divide: float division by zero"),
        ("add(1", None, "step 0: expected operation"),
        ("multiply(1e308, 1e308)", None, "the value is inf"),
    ],
)
def test_the_programs_value_counts_never_the_models_answer(program: str, answer: Answer | None, error: str) -> None:
    made = as_candidate(json.dumps({"answer": 94, "program": program}), TABLE)
    assert (made.program, made.answer, made.origin) == (program, answer, "sampled")
    assert str(made.error).startswith(error)


def test_the_example_of_the_instructions_is_right() -> None:
    example = as_candidate(INSTRUCTIONS, [])
    assert example.program == "subtract(83617, 79254), divide(#0, 79254)"
    assert example.answer == read_completion(INSTRUCTIONS).answer
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
    except Unparsable:
        return
    pool = Pool(id="a", page="p", question="q", table=[], text=[], candidates=[made])
    assert Pool.model_validate_json(encode(pool)) == pool
