"""What the model reads: labels, values, evidence within its budget, nothing of the gold, nothing in the control."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from finrank.errors import UserError
from finrank.evaluation.survival import GoldOperand, gold_operands
from finrank.page.labels import PageLabels, number_key
from finrank.page.relevance import Evidence, page_evidence, shorten
from finrank.programs import parse
from finrank.ranker.encoding import encode
from finrank.ranker.prompt import (
    PromptSettings,
    choose_context,
    write_candidates,
    write_value,
)
from finrank.records import Candidate, Question
from tests.helpers.pools import make_pool
from tests.helpers.tiny_models import tiny_tokenizer

TABLE = [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["cost", "-32 ( 32 )", "22% ( 22 % )"]]
QUESTION = Question(
    id="q", page="p", question="what is the change in revenue ?", table=TABLE, text=["tax was 40 million .", "."],
    program="subtract(5829, 5735), divide(#0, 5735)", answer=0.01639,
)  # fmt: skip


def write(program: str | None, answer: float | str | None = None, **settings: object) -> str:
    candidate = Candidate(program=program, answer=answer, origin="imported")
    return write_candidates(QUESTION, [candidate], PromptSettings(**settings))[0]


@pytest.mark.parametrize(
    ("program", "answer", "expected"),
    [
        (
            "subtract(5829, 5735), divide(#0, 5735)",
            0.01639,
            "percent change : ( revenue 2009 5829 - revenue 2008 5735 ) / 5735 = 0.01639 ( 1.6 % )",
        ),
        ("multiply(40, const_m1)", -40.0, "tax was million . 40 * -1 = -40"),
        ("table_max(revenue, none)", 5829.0, "max of revenue = 5829"),
        ("greater(5829, 7)", "yes", "greater : revenue 2009 5829 > 7 = yes"),
        ("divide(22%, const_100)", 0.0022, "cost 2008 22% / 100 = 0.0022 ( 0.2 % )"),
        ("no program at all", None, "no program at all = none"),
        (None, 5829.0, "= 5829 revenue 2009"),
        (None, "yes", "= yes"),
    ],
)
def test_how_a_candidate_is_written(program: str | None, answer: float | str | None, expected: str) -> None:
    assert write(program, answer) == expected


def test_other_styles() -> None:
    program = "subtract(5829, 5735), divide(#0, 5735)"
    expression = write(program, 0.5, program_style="expression")
    assert expression == "( revenue 2009 5829 - revenue 2008 5735 ) / 5735 = 0.5 ( 50.0 % )"
    steps = write(program, 0.5, program_style="steps", labels=False)
    assert steps == "subtract ( 5829 , 5735 ) , divide ( #0 , 5735 ) = 0.5 ( 50.0 % )"


def test_the_control_sees_no_label() -> None:
    written = write("subtract(5829, 5735), divide(#0, 5735)", 0.01639, candidate_only=True)
    assert written == "percent change : ( 5829 - 5735 ) / 5735 = 0.01639 ( 1.6 % )"
    assert write("table_max(revenue, none)", 5829.0, candidate_only=True) == "max of row = 5829"
    assert write("table_max(revenue, none)", 5829.0, candidate_only=True, program_style="steps") == (
        "table_max ( row ) = 5829"
    )


def test_references_that_double_do_not_explode() -> None:
    doubling = ", ".join(["add(1, 1)", *(f"add(#{step}, #{step})" for step in range(40))])
    assert len(write(doubling, 2.0)) < 3000
    many = ", ".join(["add(5829, 5735)", *(f"add(#{step}, {step})" for step in range(40))])
    assert write(many, 2.0).startswith("add ( revenue 2009 5829 , revenue 2008 5735 ) , add ( #0 , 0 )")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (127.4, "127.4"),
        (0.01639, "0.01639 ( 1.6 % )"),
        (123456789.0, "123456789"),
        (0.0, "0"),
        ("no", "no"),
        (None, "none"),
    ],
)
def test_values(value: float | str | None, expected: str) -> None:
    assert write_value(value) == expected


def test_of_several_places_the_one_the_question_speaks_of_gives_the_label() -> None:
    labels = PageLabels([["", "2009"], ["cost of sales", "7"], ["net revenue", "7"]], [])
    assert labels.of("7", "how much was net revenue ?") == "net revenue 2009"
    assert labels.of("7", "how high was the cost of sales ?") == "cost of sales 2009"


def test_a_number_that_stands_everywhere_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counter[str]()
    monkeypatch.setattr("finrank.page.labels.words", lambda text: counted.update([text]) or text.split())
    page = PageLabels([["", "2009"], ["net revenue", "1"]], ["paid 1 for " * 300])
    for _ in range(40):
        assert page.of("1", "what was net revenue ?") == "net revenue 2009"
    assert page.of("1", "what was paid ?") != "net revenue 2009"  # another question, another label
    assert counted["what was net revenue ?"] == 1
    assert counted["net revenue 2009"] == 2
    assert len(counted) < 10  # a label that stands in many places is read once per question
    assert max(counted.values()) == 2


def test_number_keys_ignore_writing() -> None:
    keys = {number_key(text) for text in ["$ 1,637.50", "1637.5", "-1637.5 ( 1637.5 )", "1637.50%"]}
    assert keys == {"1637.5"}
    assert shorten("22% ( 22 % ) of $ -32 ( 32 )") == "22% of $ -32"


def words_of(texts: object) -> list[int]:
    return [len(str(text).split()) for text in texts]  # type: ignore[attr-defined]


def test_context_never_depends_on_the_gold() -> None:
    pool = make_pool(3)
    blind = pool.model_copy(update={"program": None, "answer": None})
    settings = PromptSettings(max_length=64)
    assert choose_context(pool, 20, settings, words_of) == choose_context(blind, 20, settings, words_of)


def test_gold_numbers_are_in_the_prefix_named_by_a_label_or_lost() -> None:
    evidence = page_evidence(TABLE, [])
    bare = PromptSettings(labels=False)
    without_revenue = [item for item in evidence if item.label != "revenue"]

    def fates(kept: list[Evidence], settings: PromptSettings) -> list[tuple[bool, bool]]:
        return [(operand.in_prefix, operand.reached) for operand in gold_operands(QUESTION, kept, settings)]

    assert fates(evidence, bare) == [(True, True)] * 2
    assert fates(without_revenue, bare) == [(False, False)] * 2
    assert fates([], PromptSettings()) == [(False, True)] * 2
    assert fates(evidence, PromptSettings(candidate_only=True)) == []
    assert gold_operands(QUESTION.model_copy(update={"program": None}), evidence, bare) == []


def test_operands_by_origin() -> None:
    question = QUESTION.model_copy(
        update={
            "table": [*TABLE, ["tax", "40"]],
            "text": ["tax was 40 million .", "17 people left ."],
            "program": "add(40, 17), table_sum(revenue, none), divide(#0, 99), multiply(#2, const_100)",
        }
    )
    page = page_evidence(question.table, question.text)
    in_text = [item for item in page if item.kind == "sentence"]
    assert gold_operands(question, in_text, PromptSettings(labels=False)) == [
        GoldOperand("40", "table", in_prefix=True, reached=True),  # on both: counts as table
        GoldOperand("17", "text", in_prefix=True, reached=True),
        GoldOperand("99", "nowhere", in_prefix=False, reached=False),
        GoldOperand("revenue", "table", in_prefix=False, reached=False),
    ]
    named = gold_operands(question, [], PromptSettings())
    assert [(one.in_prefix, one.reached) for one in named] == [
        (False, True),
        (False, True),
        (False, False),
        (False, True),
    ]
    assert gold_operands(question, page, PromptSettings())[3].in_prefix


def test_truncation_takes_the_page_and_never_a_candidate() -> None:
    pool = make_pool(5)
    tokenizer = tiny_tokenizer([pool.question, *pool.text], "bert")
    whole = encode(pool, pool.candidates, tokenizer, PromptSettings(max_length=512))
    tight = PromptSettings(max_length=max(map(len, whole.candidates)) + 30)
    short = encode(pool, pool.candidates, tokenizer, tight)
    assert short.candidates == whole.candidates
    assert len(short.prefix) < len(whole.prefix)
    assert len(short.prefix) + max(map(len, short.candidates)) <= tight.max_length


def test_a_candidate_that_cannot_fit_is_named() -> None:
    pool = make_pool(5)
    tokenizer = tiny_tokenizer([pool.question], "llama")
    steps = ["add(1, 2)", *(f"add(#{step}, {step})" for step in range(200))]
    long = Candidate(program=", ".join(steps), origin="imported")
    with pytest.raises(UserError, match=r"page_2\.pdf-5: the question .* its candidate 4 .* max_length 128"):
        encode(pool, [*pool.candidates, long], tokenizer, PromptSettings(max_length=128))


def test_the_control_hides_question_and_page() -> None:
    pool = make_pool(5)
    tokenizer = tiny_tokenizer([pool.question], "bert")
    control = PromptSettings(candidate_only=True)
    other = pool.model_copy(update={"question": "something else ?", "table": [["", "x"], ["y", "7"]], "text": []})
    assert encode(pool, pool.candidates, tokenizer, control) == encode(other, pool.candidates, tokenizer, control)
    assert encode(pool, pool.candidates, tokenizer, control).prefix == [tokenizer.cls_token_id]


def test_every_gold_program_of_real_data_can_be_written(finqa_dir: Path) -> None:
    for example in json.loads((finqa_dir / "dev.json").read_text(encoding="utf-8"))[:300]:
        question = Question(
            id=example["id"], page=example["filename"], question=example["qa"]["question"], table=example["table"],
            text=example["pre_text"] + example["post_text"], program=example["qa"]["program"],
        )  # fmt: skip
        candidate = Candidate(program=question.program, answer=example["qa"]["exe_ans"], origin="gold")
        (text,) = write_candidates(question, [candidate], PromptSettings())
        assert "#" not in text
        assert len(text) > len(str(parse(question.program or ""))) // 3
