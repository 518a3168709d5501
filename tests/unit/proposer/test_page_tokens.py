"""What the first stage reads: pointers lie on their numbers, and question and page fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finrank.errors import UserError
from finrank.proposer.grammar import tokens_that_write
from finrank.proposer.page_tokens import PageTokens, tokenize_page
from finrank.ranker.tokenizer import load_tokenizer
from finrank.records import Question
from tests.helpers.questions import Questions
from tests.helpers.tiny_models import save_tiny_base
from tests.helpers.tiny_proposer import QUESTION


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tokenizer(str(save_tiny_base(tmp_path_factory.mktemp("base"), "bert")))


def under(page: PageTokens, tokenizer: Any) -> list[str]:
    """The texts under the pointers."""
    return [joined(tokenizer.decode(page.ids[start:end])) for start, end in page.spans]


def joined(text: str) -> str:
    """A decoded text without the blanks and their marks."""
    return text.replace(" ", "").replace("Ġ", "")


def test_pointers_lie_on_their_numbers_and_labels(tokenizer: Any) -> None:
    page = tokenize_page(QUESTION, tokenizer, 256)
    assert page.pointed_at[: page.n_numbers] == ["2008", "2009", "5829", "5735", "-32", "32", "22%", "1637"]
    assert page.pointed_at[page.n_numbers :] == ["revenue", "costs"]
    numbers = ["2008", "2009", "5829", "5735", "-32", "-32", "22%", "1,637"]
    assert under(page, tokenizer) == [*numbers, "revenue:", "costs:"]
    text = joined(tokenizer.decode(page.ids))
    assert text.index("2009") < text.index("revenue:") < text.index("wepaid")


def test_a_cell_is_written_behind_the_name_of_its_column(tokenizer: Any) -> None:
    text = joined(tokenizer.decode(tokenize_page(QUESTION, tokenizer, 256).ids))
    assert "revenue:20095829;20085735;" in text


def test_a_page_that_is_too_long_loses_its_least_relevant_parts(tokenizer: Any) -> None:
    text = [f"unrelated words number {number} stand here ." for number in range(60)]
    long = QUESTION.model_copy(update={"text": text})
    page = tokenize_page(long, tokenizer, 128)
    assert len(page.ids) <= 128
    assert tokens_that_write(str(QUESTION.program), page.pointed_at, page.n_numbers) is not None
    assert len(tokenize_page(long, tokenizer, 1024).ids) > 512


def test_a_question_that_is_too_long_says_so(tokenizer: Any) -> None:
    long = QUESTION.model_copy(update={"question": "what is it ? " * 100})
    with pytest.raises(UserError, match="more than max_length 128: shorten it"):
        tokenize_page(long, tokenizer, 128)


@pytest.mark.parametrize(
    "table", [[], [[]], [["", ""]], [["alone", "5"]], [["", "a"], []], [["x"], ["revenue", "7", "8"]]]
)
def test_a_strange_table_is_read(tokenizer: Any, table: list[list[str]]) -> None:
    page = tokenize_page(Question(id="1", page="1", question="how many ?", table=table, text=[]), tokenizer, 64)
    assert len(page.spans) == len(page.pointed_at) >= page.n_numbers


def test_nearly_all_gold_programs_can_be_written(tokenizer: Any, sample: Questions) -> None:
    questions = sample.dev
    pages = [tokenize_page(question, tokenizer, 1024) for question in questions]
    ways = [
        tokens_that_write(str(question.program), page.pointed_at, page.n_numbers)
        for question, page in zip(questions, pages, strict=True)
    ]
    assert sum(way is not None for way in ways) > 0.9 * len(questions)


def test_the_tokens_do_not_depend_on_gold(tokenizer: Any, tmp_path: Path) -> None:
    without = QUESTION.model_copy(update={"program": None, "answer": None})
    assert tokenize_page(without, tokenizer, 100) == tokenize_page(QUESTION, tokenizer, 100)
