"""The model's text: labels, values, evidence within its budget, nothing of the gold."""

from __future__ import annotations

from collections import Counter

import pytest

from finrank.errors import UserError
from finrank.evaluation.survival import GoldOperand, gold_operands
from finrank.page.labels import PageLabels, number_key
from finrank.page.relevance import page_evidence, shorten
from finrank.programs import parse
from finrank.ranker.encoding import encode
from finrank.ranker.prompt import PromptSettings, write_candidates
from finrank.records import Candidate, Question
from tests.helpers.pools import make_pool
from tests.helpers.tiny_models import tiny_tokenizer

TABLE = [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["cost", "-32 ( 32 )", "22% ( 22 % )"]]
CHANGE = "subtract(5829, 5735), divide(#0, 5735)"
QUESTION = Question(
    id="q", page="p", question="what is the change in revenue ?", table=TABLE, text=["tax was 40 million .", "."],
    program=CHANGE, answer=0.01639,
)  # fmt: skip
BARE = PromptSettings(labels=False)


def write(program: str | None, answer: float | str | None = None, **settings: object) -> str:
    candidate = Candidate(program=program, answer=answer, origin="imported")
    return write_candidates(QUESTION, [candidate], PromptSettings(**settings))[0]


@pytest.mark.parametrize(
    ("program", "answer", "settings", "expected"),
    [
        (
            CHANGE, 0.01639, {},
            "percent change : ( revenue 2009 5829 - revenue 2008 5735 ) / 5735 = 0.01639 ( 1.6 % )",
        ),
        ("multiply(40, const_m1)", -40.0, {}, "tax was million . 40 * -1 = -40"),
        ("table_max(revenue, none)", 5829.0, {}, "max of revenue = 5829"),
        ("greater(5829, 7)", "yes", {}, "greater : revenue 2009 5829 > 7 = yes"),
        ("divide(22%, const_100)", 0.0022, {}, "cost 2008 22% / 100 = 0.0022 ( 0.2 % )"),
        ("no program at all", None, {}, "no program at all = none"),
        ("add(#-1, 5)", 5.0, {}, "#-1 + 5 = 5"),
        ("add(1, 2), add(#-1, 5)", 5.0, {}, "#-1 + 5 = 5"),
        ("none", 123456789.0, {}, "none = 123456789"),
        ("none", 0.0, {}, "none = 0"),
        (None, 5829.0, {}, "= 5829 revenue 2009"),
        (None, "yes", {}, "= yes"),
        (
            CHANGE, 0.5, {"program_style": "expression"},
            "( revenue 2009 5829 - revenue 2008 5735 ) / 5735 = 0.5 ( 50.0 % )",
        ),
        (
            CHANGE, 0.5, {"program_style": "steps", "labels": False},
            "subtract ( 5829 , 5735 ) , divide ( #0 , 5735 ) = 0.5 ( 50.0 % )",
        ),
        # The control sees no label.
        (CHANGE, 0.01639, {"candidate_only": True}, "percent change : ( 5829 - 5735 ) / 5735 = 0.01639 ( 1.6 % )"),
        ("table_max(revenue, none)", 5829.0, {"candidate_only": True}, "max of row = 5829"),
        (
            "table_max(revenue, none)", 5829.0, {"candidate_only": True, "program_style": "steps"},
            "table_max ( row ) = 5829",
        ),
    ],
)  # fmt: skip
def test_how_a_candidate_is_written(
    program: str | None, answer: float | str | None, settings: dict[str, object], expected: str
) -> None:
    assert write(program, answer, **settings) == expected


def test_references_that_double_do_not_explode() -> None:
    doubling = ", ".join(["add(1, 1)", *(f"add(#{step}, #{step})" for step in range(40))])
    assert len(write(doubling, 2.0)) < 3000
    many = ", ".join(["add(5829, 5735)", *(f"add(#{step}, {step})" for step in range(40))])
    assert write(many, 2.0).startswith("add ( revenue 2009 5829 , revenue 2008 5735 ) , add ( #0 , 0 )")


def test_of_several_places_the_question_chooses_one_which_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counter[str]()
    monkeypatch.setattr("finrank.page.labels.words", lambda text: counted.update([text]) or text.split())
    page = PageLabels([["", "2009"], ["cost", "1"], ["net revenue", "1"]], ["paid 1 for " * 300])
    for _ in range(40):
        assert page.of("1", "what was net revenue ?") == "net revenue 2009"
    assert page.of("1", "how high was the cost ?") == "cost 2009"
    assert counted["what was net revenue ?"] == 1
    assert counted["net revenue 2009"] == 2
    assert len(counted) < 10  # a label in many places is read once per question
    assert max(counted.values()) == 2


def test_number_keys_ignore_writing() -> None:
    keys = {number_key(text) for text in ["$ 1,637.50", "1637.5", "-1637.5 ( 1637.5 )", "1637.50%"]}
    assert keys == {"1637.5"}
    assert shorten("22% ( 22 % ) of $ -32 ( 32 )") == "22% of $ -32"


def test_gold_numbers_are_in_the_prefix_named_by_a_label_or_lost() -> None:
    program = "add(40, 17), table_sum(revenue, none), divide(#0, 99), multiply(#2, const_100)"
    table, text = [*TABLE, ["tax", "40"]], ["tax was 40 million .", "17 people left ."]
    question = QUESTION.model_copy(update={"table": table, "text": text, "program": program})
    page = page_evidence(table, text)
    assert gold_operands(question, page, PromptSettings(candidate_only=True)) == []
    assert gold_operands(question.model_copy(update={"program": None}), page, BARE) == []
    in_text = [item for item in page if item.kind == "sentence"]
    assert gold_operands(question, in_text, BARE) == [
        GoldOperand("40", "table", in_prefix=True, reached=True),  # on both: counts as table
        GoldOperand("17", "text", in_prefix=True, reached=True),
        GoldOperand("99", "nowhere", in_prefix=False, reached=False),
        GoldOperand("revenue", "table", in_prefix=False, reached=False),
    ]
    named = gold_operands(question, [], PromptSettings())
    assert [(operand.in_prefix, operand.reached) for operand in named] == [
        (False, True), (False, True), (False, False), (False, True)
    ]  # fmt: skip
    assert gold_operands(question, page, PromptSettings())[3].in_prefix


def test_truncation_takes_the_page_and_never_a_candidate() -> None:
    pool = make_pool(5)
    tokenizer = tiny_tokenizer([pool.question, *pool.text], "bert")
    whole = encode(pool, pool.candidates, tokenizer, PromptSettings(max_length=512))
    tight = PromptSettings(max_length=max(map(len, whole.candidates)) + 30)
    short = encode(pool, pool.candidates, tokenizer, tight)
    assert short.candidates == whole.candidates
    assert len(short.prefix) < len(whole.prefix)
    blind = pool.model_copy(update={"program": None, "answer": None})
    assert encode(blind, pool.candidates, tokenizer, tight) == short  # nothing depends on the gold
    assert len(short.prefix) + max(map(len, short.candidates)) <= tight.max_length


def test_an_over_long_question_is_named_and_no_candidate_is_blamed() -> None:
    pool = make_pool(5).model_copy(update={"question": "why ? " * 100})
    tokenizer = tiny_tokenizer([pool.question], "bert")
    with pytest.raises(UserError, match=r"pdf-5: the question \(202 tokens\) alone does not fit max_length 204"):
        encode(pool, [Candidate(answer=5.0, origin="imported")], tokenizer, PromptSettings(max_length=204))
    pool = encode(pool, [Candidate(answer=5.0, origin="imported")], tokenizer, PromptSettings(max_length=205))
    assert pool.left_out[0].endswith("at most 1 fit beside the question")


def test_the_control_hides_question_and_page() -> None:
    pool = make_pool(5)
    tokenizer = tiny_tokenizer([pool.question], "bert")
    control = PromptSettings(candidate_only=True)
    other = pool.model_copy(update={"question": "something else ?", "table": [["", "x"], ["y", "7"]], "text": []})
    assert encode(pool, pool.candidates, tokenizer, control) == encode(other, pool.candidates, tokenizer, control)
    assert encode(pool, pool.candidates, tokenizer, control).prefix == [tokenizer.cls_token_id]


def test_every_gold_program_of_real_data_can_be_written(finqa_dev: list[Question]) -> None:
    for question in finqa_dev[:300]:
        candidate = Candidate(program=question.program, answer=question.answer, origin="gold")
        (text,) = write_candidates(question, [candidate], PromptSettings())
        assert "#" not in text
        assert len(text) > len(str(parse(question.program or ""))) // 3
