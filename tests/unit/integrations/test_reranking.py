"""Candidates of a query as rerankers return them: the order, the relevance, and where the page comes from."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from finrank import Ranker, UserError
from finrank.integrations.reranking import PAGE_KEY, rerank
from tests.helpers.serving_model import ASKED, CANDIDATES, DOCUMENTS, QUERY

QUESTION, PAGE = QUERY.removeprefix("question: ").split("\n", 1)
NOTHING: list[dict[str, Any]] = [{}] * len(DOCUMENTS)


def test_relevance_is_that_of_the_answers(ranker: Ranker) -> None:
    found = rerank(ranker, QUERY, DOCUMENTS, NOTHING)
    expected = ranker.rank(**ASKED, candidates=[*DOCUMENTS[:3], CANDIDATES[3]])
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    answers = {index: (answer.probability, answer.answer) for answer in expected for index in answer.indices}
    assert {one.position: (one.score, one.answer) for one in found} == {
        index: (pytest.approx(probability), answer) for index, (probability, answer) in answers.items()
    }
    assert found[0].position == expected[0].index
    assert rerank(ranker, QUERY, DOCUMENTS, NOTHING, top_n=2) == found[:2]
    assert rerank(ranker, QUERY, [], []) == []


def test_the_page_may_be_in_the_metadata(ranker: Ranker, capsys: pytest.CaptureFixture[str]) -> None:
    in_query = rerank(ranker, QUERY, DOCUMENTS, NOTHING)
    markdown = "| | 2009 | 2008 |\n|---|---|---|\n| revenue | $ 5829 | $ 5735 |\n| costs | 11 | 12 |"
    for page in (PAGE, f"revenue grew to 5829 .\n{markdown}\nnothing else ."):
        metadata = [{PAGE_KEY: page}, {}, {PAGE_KEY: page}, {"page": 7}]
        assert rerank(ranker, QUESTION, DOCUMENTS, metadata) == in_query
    assert capsys.readouterr().err == ""
    assert rerank(ranker, QUESTION, DOCUMENTS, NOTHING) != in_query, "the page matters"


def test_what_has_no_value_is_last(ranker: Ranker) -> None:
    found = rerank(ranker, QUERY, ["divide(1, 0)", *DOCUMENTS], [{}, *NOTHING])
    assert found[-1] == (0, 0.0, None)


def test_what_is_unclear_is_said(ranker: Ranker, capsys: pytest.CaptureFixture[str]) -> None:
    rerank(ranker, f"{QUESTION}\nrevenue grew .", DOCUMENTS, NOTHING)
    assert "line 2" in capsys.readouterr().err


def test_one_request_is_scored_at_a_time(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    score, inside, most = ranker.score, Counter[str](), []

    def counted(prepared: Any) -> Any:
        inside["threads"] += 1
        most.append(inside["threads"])
        time.sleep(0.05)
        inside["threads"] -= 1
        return score(prepared)

    expected = rerank(ranker, QUERY, DOCUMENTS, NOTHING)
    monkeypatch.setattr(ranker, "score", counted)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: rerank(ranker, QUERY, DOCUMENTS, NOTHING), range(4)))
    assert found == [expected] * 4
    assert most == [1] * 4


@pytest.mark.parametrize(
    ("query", "pages", "reason"),
    [(PAGE, [None, None], "no question"), (QUESTION, ["a .", "b ."], "different pages"), (QUESTION, [7, 7], PAGE_KEY)],
)
def test_what_cannot_be_reranked_is_an_error(ranker: Ranker, query: str, pages: list[Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        rerank(ranker, query, DOCUMENTS[:2], [{PAGE_KEY: page} for page in pages])
