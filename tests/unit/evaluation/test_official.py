"""The official prediction file: tokens there and back, picks written to a file, and files scored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finrank.errors import UserError
from finrank.evaluation import official
from finrank.evaluation.official import outcome, program_of_tokens, read_predictions, score_predictions
from finrank.programs import OPERATIONS, ProgramError, parse
from finrank.records import Candidate, Pool, Question

TABLE = [["", "2009", "2008"], ["net sales", "$ 10", "4"]]


def question(identifier: str, program: str | None, answer: float | None, page: str = "page") -> Question:
    return Question(id=identifier, page=page, question="?", table=TABLE, text=[], program=program, answer=answer)


def tokens(program: str) -> list[str]:
    return official.program_tokens(parse(program))


@pytest.mark.parametrize(
    "program", ["add(1, 2)", "subtract(5829, 5735), divide(#0, 5735)", "table_max( , none)", "table_max(net sales,  )"]
)
def test_tokens_there_and_back(program: str) -> None:
    assert program_of_tokens(tokens(program)) == parse(program)


def official_steps(given: Sequence[str]) -> list[tuple[str, str, str]] | None:
    """The steps that the official evaluator reads, tokens joined by "|" and cut at brackets; None: no program."""
    given = given[:-1]
    bad_names = any(token.strip("(") not in OPERATIONS for token in given[::4])
    if bad_names or any(token != ")" for token in given[3::4]):
        return None
    if any(token.endswith(")") and token != ")" for token in given):
        return None  # the one departure: in an unfinished last step the evaluator would read "3)" as 3
    steps = []
    for text in "|".join(given).split(")")[:-1]:
        parts = text.strip().split("(")
        arguments = parts[1].strip("|").strip().split("|") if len(parts) == 2 else []
        operation = parts[0].strip("|").strip()
        if len(arguments) < 2 or operation not in OPERATIONS:
            return None
        steps.append((operation, arguments[0].strip(), arguments[1].strip()))
    return steps or None


PIECES = ["add(", "divide(", "table_max(", "1", "#0", "net sales", "a, b", ")", "EOF"]
ODD_PIECES = ["add", "add((", " add(", "(", "1)", "(2", "", " ", "))"]
ARGUMENTS = ["1", "#0", "net sales", " ", " x ", "a, b", "", "(2", "3)"]
STEP = st.tuples(st.sampled_from(PIECES[:3]), *[st.sampled_from(ARGUMENTS)] * 2, st.just(")"))


@given(st.lists(STEP, max_size=3), st.lists(st.sampled_from(PIECES + ODD_PIECES), max_size=6), st.booleans())
@example([("add(", "1", "2", ")")], ["divide(", "#0"], True)
@example([], ["", "1", "1", ")"], True)
@settings(max_examples=300, deadline=None)
def test_tokens_are_read_as_the_official_evaluator_does(
    whole: list[tuple[str, ...]], more: list[str], ended: bool
) -> None:
    given = [token for step in whole for token in step] + more + ["EOF"] * ended
    expected = official_steps(given)
    if expected is None:
        with pytest.raises(ProgramError):
            program_of_tokens(given)
    else:
        read = [(step.operation, *step.arguments) for step in program_of_tokens(given).steps]
        assert read == expected


def test_outcomes() -> None:
    gold = question("q", "divide(10, 4)", 2.5)
    assert outcome(parse("divide(10, 4)"), gold) == (True, True, True)
    assert outcome(parse("divide(10.0, 4)"), gold) == (True, False, True)
    assert outcome(parse("divide(4, 10)"), gold) == (False, False, True)
    assert outcome(parse("multiply(nan, 4)"), gold) == outcome(None, gold) == (False, False, False)
    assert outcome(parse("divide(10, 4)"), question("q", None, None)) == (False, False, True)
    assert outcome(parse("divide(10, 4)"), question("q", "divide(10, 4)", None)) == (False, True, True)


QUESTIONS = [
    question("right", "divide(10, 4)", 2.5, "one"),
    question("other way", "add(1, 2)", 3.0, "one"),
    question("wrong", "add(1, 2)", 3.0, "two"),
    question("failing", "add(1, 2)", 3.0, "two"),
    question("missing", "add(1, 2)", 3.0, "three"),
    question("no gold program", None, 3.0, "three"),
]
PREDICTED = {
    "right": tokens("divide(10, 4)"),
    "other way": tokens("subtract(4, 1)"),
    "wrong": tokens("add(1, 3)"),
    "failing": ["EOF"],
    "no gold program": tokens("add(1, 2)"),
    "unknown": tokens("add(1, 2)"),
}


def test_figures_of_a_small_file() -> None:
    result = score_predictions(PREDICTED, QUESTIONS, seed=0)
    assert result.execution_accuracy == pytest.approx(3 / 6)
    assert result.program_accuracy == pytest.approx(1 / 5)
    assert result.of_predicted == {"execution_accuracy": 0.6, "program_accuracy": 0.25}
    assert (result.n, result.gold_answers, result.gold_programs, result.predicted, result.missing) == (6, 6, 5, 5, 1)
    assert (result.unknown_ids, result.invalid) == (1, 1)
    interval = result.intervals["execution_accuracy"]
    assert interval is not None
    assert interval[0] < 0.5 < interval[1]
    result = score_predictions(PREDICTED, [QUESTIONS[5]], seed=0)
    assert (result.program_accuracy, result.intervals["program_accuracy"]) == (None, None)
    assert result.execution_accuracy == 1.0


def test_figures_need_questions_and_predictions_for_them() -> None:
    with pytest.raises(UserError, match="the split is empty"):
        score_predictions(PREDICTED, [], seed=0)
    with pytest.raises(UserError, match="ids such as 'x', questions such as 'right'"):
        score_predictions({"x": ["EOF"]}, QUESTIONS, seed=0)


def pool_of(*programs: str | None) -> Pool:
    candidates = [Candidate(program=program, answer=1.0, origin="imported") for program in programs]
    return Pool(**dict(question("q", "add(1, 2)", 3.0)), candidates=candidates)


def written(path: Path, pool: Pool, scores: Sequence[float]) -> list[str]:
    official.write_predictions(path, [pool], [scores])
    (element,) = json.loads(path.read_text())
    assert element["id"] == pool.id
    return list(element["predicted"])


def test_the_best_candidate_is_written(tmp_path: Path) -> None:
    pool = pool_of("add(1, 2)", "add(1, 3)", None, "add(1", "add(1, 4)")
    path = tmp_path / "new" / "predictions.json"
    assert written(path, pool, [0, 2, 1, 0, 0]) == ["add(", "1", "3", ")", "EOF"]
    assert written(path, pool, [0, 2, 1, 0, 2]) == ["add(", "1", "3", ")", "EOF"], "the first of equals"
    assert written(path, pool, [0, 0, 1, 0, 0]) == ["EOF"], "a candidate without a program"
    assert written(path, pool, [0, 0, 0, 1, 0]) == ["EOF"], "a program that does not parse"
    with pytest.raises(ValueError, match="candidate 1 is nan"):
        official.write_predictions(path, [pool], [[0, np.nan, 0, 0, 0]])
    assert [file.name for file in path.parent.iterdir()] == ["predictions.json"]


def test_picks_that_the_file_cannot_hold_are_counted_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pools, path = [pool_of("add(1, 2)", None)] * 3, tmp_path / "picks.json"
    assert official.write_predictions(path, pools, [[1, 0]] * 3) == 0
    assert capsys.readouterr().err == ""
    assert official.write_predictions(path, pools, [[0, 1], [1, 0], [0, 1]]) == 2
    assert "picks.json: 2 of 3 picks have an answer but no program" in capsys.readouterr().err
    assert [element["predicted"] for element in json.loads(path.read_text())].count(["EOF"]) == 2
    failed = Candidate(program="add(1", error="unfinished", origin="imported")
    assert official.write_predictions(path, [pools[0].model_copy(update={"candidates": [failed]})], [[0.0]]) == 0


def test_faults_of_a_file_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    elements: list[dict[str, Any]] = [
        {"id": "a", "predicted": ["add(", "1", "2", ")", "EOF"]},
        {"id": "a", "predicted": ["EOF"]},
        {"id": "b", "predicted": ["add(", "1", "2", ")"]},
        {"id": "c", "program": "add(1, 2)"},
        {"id": "d", "predicted": [1]},
        {"id": "e", "predicted": []},
    ]
    path.write_text(json.dumps(elements))
    found = read_predictions(path)
    assert found.tokens == {"a": elements[0]["predicted"], "b": elements[2]["predicted"], "e": []}
    assert (found.duplicates, found.without_end) == (1, 2)
    assert [(bad.line, bad.id) for bad in found.bad] == [(3, "c"), (4, "d")]
    path.write_text('[{"id": "c", "program": "add(1, 2)"}]')
    with pytest.raises(UserError, match=r"holds no prediction.*at 0: predicted: the tokens of a program are missing"):
        read_predictions(path)


def test_the_official_evaluators_cases(finqa_dir: Path) -> None:
    """Every tenth program that it was asked about: the same value, validity and equality with gold."""
    examples = json.loads((finqa_dir / "dev.json").read_text(encoding="utf-8"))
    by_id = {element["id"]: element for element in examples}
    wrong = []
    cases = json.loads((finqa_dir / "evaluator_cases.json").read_text(encoding="utf-8"))
    for case in cases[::10]:
        raw = by_id[case["id"]]
        gold = question("q", raw["qa"]["program"], raw["qa"]["exe_ans"]).model_copy(update={"table": raw["table"]})
        try:
            program = program_of_tokens(tokens(case["program"]))
        except ProgramError:
            program = None
        judged = outcome(program, gold)
        expected = not case["invalid"] and case["result"] == raw["qa"]["exe_ans"]
        if judged[:2] != (expected, case["equals_gold"]):
            wrong.append((case, judged))
    assert len(cases) > 4000
    assert wrong == []


def test_a_pool_without_a_scored_candidate_has_no_prediction(tmp_path: Path) -> None:
    candidates = [Candidate(program="add(1, 2)", answer=3.0, origin="imported")]
    pools = [Pool.of(question(name, None, None), candidates=candidates) for name in ("a", "b")]
    assert official.write_predictions(tmp_path / "p.json", pools, [[-np.inf], [0.5]]) == 0
    predicted = {one["id"]: one["predicted"] for one in json.loads((tmp_path / "p.json").read_text())}
    assert predicted == {"a": ["EOF"], "b": tokens("add(1, 2)")}
