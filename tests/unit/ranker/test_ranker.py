"""`Ranker`: the forms of a request, its rankings, its messages about malformed input, and saving again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import finrank
from finrank import Ranker
from finrank.errors import UserError
from tests.helpers.pools import make_pool
from tests.helpers.saved_ranker import ASKED, POOL, save_tiny_ranker
from tests.helpers.valueless import LOOPED


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    return Ranker.from_pretrained(save_tiny_ranker(tmp_path_factory.mktemp("ranker")), device="cpu")


def test_the_public_names_are_there() -> None:
    assert [getattr(finrank, name).__name__ for name in finrank.__all__] == finrank.__all__
    with pytest.raises(AttributeError, match="'Rankr'"):
        finrank.Rankr  # noqa: B018


def test_answers_come_best_first_and_equal_values_are_one(ranker: Ranker) -> None:
    answers = ranker.rank(**POOL)
    assert {answer.answer: sorted(answer.indices) for answer in answers} == {94.0: [0, 2], -94.0: [1], 11564.0: [3]}
    assert sum(answer.probability for answer in answers) == pytest.approx(1)
    assert [answer.probability for answer in answers] == sorted((a.probability for a in answers), reverse=True)
    together = next(answer for answer in answers if answer.answer == 94.0)
    assert together.programs == ["subtract(5829, 5735)"]
    assert together.index in together.indices
    assert "error" not in together.as_json()
    again = [answer.answer for answer in ranker.rank(**ASKED, candidates=POOL["candidates"][::-1])]
    assert again == [answer.answer for answer in answers]  # whatever the order of the candidates


def test_many_questions_give_what_each_gives_alone(ranker: Ranker) -> None:
    requests = [
        {**ASKED, "candidates": ["add(1, 2)", "add(5829, 5735)"]},
        {**ASKED, "question": "and the total ?", "candidates": ["table_sum(revenue, none)", "add(1, 2)", "yes(1, 2)"]},
    ]
    for request, together in zip(requests, ranker.rank_many(requests), strict=True):
        alone = ranker.rank(**request)
        assert [answer.index for answer in alone] == [answer.index for answer in together]
        assert [a.score for a in alone] == pytest.approx([t.score for t in together], abs=1e-5)


def test_a_page_may_be_left_out(ranker: Ranker) -> None:
    request = {"question": "what is 1 plus 2 ?", "candidates": ["add(1, 2)", "subtract(1, 2)"]}
    assert ranker.rank(**request) == ranker.rank(**request, table=[], text=[])
    assert ranker.rank_many([request]) == [ranker.rank(**request)]


def test_a_candidate_without_a_value_or_too_long_is_last_and_says_why(ranker: Ranker) -> None:
    answers = ranker.rank(**ASKED, candidates=["divide(1, 0)", LOOPED, "what ?", "add(1, 2)"])
    assert [answer.index for answer in answers] == [3, 0, 1, 2]
    assert (answers[0].probability, answers[0].error) == (pytest.approx(1.0), None)
    for answer in answers[1:]:
        assert (answer.answer, answer.score, answer.probability) == (None, None, 0.0)
        assert answer.error
        assert answer.as_json()["error"] == answer.error
    assert "tokens, at most" in (answers[2].error or "")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(added=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["divide(1, 0)", "what ?", LOOPED])), max_size=3))
def test_candidates_without_a_value_change_nothing_for_the_others(ranker: Ranker, added: list[tuple[int, str]]) -> None:
    candidates = list(POOL["candidates"])
    for place, candidate in added:
        candidates.insert(place, candidate)
    place_of = [candidates.index(candidate) for candidate in POOL["candidates"]]
    expected = ranker.rank(**POOL)
    ranking = ranker.rank(**ASKED, candidates=candidates)
    for answer, before in zip(ranking, expected, strict=False):
        moved = [place_of[index] for index in before.indices]
        assert answer == replace(before, index=place_of[before.index], indices=moved)
    assert all(answer.score is None for answer in ranking[len(expected) :])


def test_where_no_candidate_has_a_value_the_ranking_abstains(ranker: Ranker) -> None:
    requests = [{**ASKED, "candidates": ["what ?", "divide(1, 0)"]}, POOL]
    nothing, other = ranker.rank_many(requests)
    assert [(answer.index, answer.score) for answer in nothing] == [(0, None), (1, None)]
    assert (nothing.abstain, other.abstain) == (True, False)
    assert other == ranker.rank(**POOL)
    assert ranker.prepare(requests[0]).tokens == 0


def test_a_question_that_does_not_fit_is_named(ranker: Ranker) -> None:
    with pytest.raises(UserError, match=r"^request 0: the question \(\d+ tokens\) alone does not fit max_length 384"):
        ranker.rank(**{**POOL, "question": "what is revenue ? " * 400})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": []}, "request 0: no candidates"),
        ({"table": [["a", "\udc00"]], "candidates": ["add(1, 2)"]}, "table or text holds half a surrogate pair"),
        ({"question": "\ud800", "candidates": ["add(1, 2)"]}, "question: .* unicode"),
        ({"table": [[True, 2]], "candidates": ["add(1, 2)"]}, "table.0.0"),
        ({"table": [[1, 10**400]], "candidates": ["add(1, 2)"]}, "table.0.1"),
        ({"table": [[1, float("inf")]], "candidates": ["add(1, 2)"]}, "table.0.1"),
        ({"table": [[1, [2]]], "candidates": ["add(1, 2)"]}, "table.0.1"),
        ({"table": "revenue 5829", "candidates": ["add(1, 2)"]}, "table must be a list, not str"),
        ({"candidates": "add(1, 2)"}, "candidates must be a list, not str"),
        ({"table": [["a"], "bc"], "candidates": ["add(1, 2)"]}, "row 1 of the table must be a list, not str"),
        ({"text": None, "candidates": ["add(1, 2)"]}, "text must be a list, not NoneType"),
        ({"question": "", "candidates": ["add(1, 2)"]}, "question"),
    ],
)
def test_malformed_input_is_named(ranker: Ranker, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ranker.rank(**{**ASKED, **change})


@pytest.mark.parametrize(
    ("candidate", "value"),
    [
        ("94.0", 94.0),
        (94, 94.0),
        ("12.5%", 0.125),
        (" Yes ", "yes"),
        ({"answer": "no"}, "no"),
        ({"answer": "12.5%"}, 0.125),
        ({"program": "divide(1, 0)", "answer": 5}, 5.0),  # the answer counts where the program fails
        ({"program": "add(1, 2)", "answer": 5}, 3.0),  # and never against a program that does not
        ({"program": "94.0"}, 94.0),
        ("const_100", None),
        ("about 94", 94.0),
    ],
)
def test_a_value_is_read_in_any_of_its_forms(ranker: Ranker, candidate: Any, value: Any) -> None:
    (answer,) = ranker.rank(**ASKED, candidates=[candidate])
    assert answer.answer == value
    assert (answer.error is None) == (value is not None and value != 5.0)


def test_cells_may_be_numbers_or_missing(ranker: Ranker) -> None:
    numbers = [[None, 2009, np.int64(2008)], ["revenue", 5829, np.float64(0.5)], ["tax", 1200.0, float("nan")]]
    texts = [["", "2009", "2008"], ["revenue", "5829", "0.5"], ["tax", "1200.0", ""]]
    asked = {"question": "how much ?", "candidates": ["table_sum(revenue, none)", "add(1200.0, 1)", "2008"]}
    assert ranker.rank(**asked, table=numbers) == ranker.rank(**asked, table=texts)
    assert ranker.prepare({**asked, "table": numbers}).candidates[0].answer == 5829.5


def test_a_pool_of_our_own_files_is_a_request(ranker: Ranker) -> None:
    line = make_pool(3).model_dump(mode="json")
    ranking = ranker.rank_many([line])[0]
    programs = [candidate["program"] for candidate in line["candidates"]]
    assert sorted(answer.programs[0] for answer in ranking) == sorted(programs)
    # What the file knows of gold changes nothing.
    blind = {key: line[key] for key in ("question", "table", "text")}
    assert ranker.rank(**blind, candidates=programs) == ranking


def test_a_stream_is_taken_in_pieces(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finrank.ranker.ranker._REQUESTS_AT_A_TIME", 4)
    taken: list[int] = []

    def requests() -> Iterator[dict[str, Any]]:
        for number in range(10):
            taken.append(number)
            yield {**ASKED, "candidates": [f"add({number}, 2)", "add(1, 2)"]}

    stream = ranker.rank_stream(requests())
    assert next(stream)[0].programs
    assert len(taken) == 4
    assert len(list(stream)) == 9
    assert len(taken) == 10
    with pytest.raises(UserError, match="request 9: no candidates"):
        ranker.rank_many([*list(requests())[:9], {**ASKED, "candidates": []}])


def test_the_steps_of_ranking_give_what_ranking_gives(ranker: Ranker) -> None:
    request = {**ASKED, "candidates": ["subtract(5829, 5735)", 94, "divide(1, 0)"]}
    prepared = ranker.prepare(request, "mine")
    assert prepared.candidates[0].answer == 94.0
    assert prepared.tokens == len(prepared.pool.prefix) + sum(map(len, prepared.pool.candidates))
    assert ranker.ranking(prepared, ranker.score([prepared])[0]) == ranker.rank(**request)
    assert ranker.unlike_fitted(prepared) == []  # nothing was fitted
    with pytest.raises(UserError, match=r"^mine: no candidates"):
        ranker.prepare({**ASKED, "candidates": []}, "mine")


_TEXTS = st.one_of(
    st.text(max_size=20),
    st.text("add(12, )#_ctble5%$|", max_size=30),
    st.sampled_from(["\ud800", "add(#0, 1)", "exp(9999, 9999)", "add(1, 2), add(#0, #0)", "table_sum(revenue, none)"]),
)
_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**400) | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["program", "answer", "x"]), inner),
    max_leaves=6,
)
_REQUESTS = st.fixed_dictionaries(
    {
        "question": _TEXTS | _JUNK,
        "table": st.lists(st.lists(_TEXTS, max_size=3), max_size=3) | _JUNK,
        "text": st.lists(_TEXTS, max_size=3) | _JUNK,
        "candidates": st.lists(_TEXTS | st.fixed_dictionaries({"program": _TEXTS}) | _JUNK, max_size=3) | _JUNK,
    }
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=_REQUESTS)
def test_whatever_is_asked_gives_a_ranking_or_a_user_error(ranker: Ranker, request: dict[str, Any]) -> None:
    with contextlib.suppress(UserError):
        prepared = ranker.prepare(request)
        ranking = ranker.ranking(prepared, ranker.score([prepared])[0])
        some_value = any(answer.answer is not None for answer in ranking)
        assert sum(answer.probability for answer in ranking) == pytest.approx(float(some_value))


def test_saving_keeps_a_card_that_is_there_and_leaves_none_of_pefts(ranker: Ranker, tmp_path: Path) -> None:
    ranker.save_pretrained(tmp_path)
    assert not (tmp_path / "README.md").exists()
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    mine = b"---\nlicense: [never closed\n---\nmy own words\r\n"  # not a card that a library could read
    (tmp_path / "README.md").write_bytes(mine)
    ranker.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == mine


def test_merged_adapters_change_rounding_alone_and_can_be_saved(ranker: Ranker, tmp_path: Path) -> None:
    def scores_of(ranker: Ranker) -> dict[int, float]:
        return {answer.index: answer.score for answer in ranker.rank(**POOL)}

    expected = scores_of(ranker)
    ranker.save_pretrained(tmp_path / "plain")
    assert scores_of(Ranker.from_pretrained(tmp_path / "plain", device="cpu")) == expected
    merged = Ranker.from_pretrained(tmp_path / "plain", device="cpu", merge=True)
    assert scores_of(merged) == pytest.approx(expected, abs=1e-4)
    assert scores_of(merged) != expected
    merged.save_pretrained(tmp_path / "saved")
    assert scores_of(Ranker.from_pretrained(tmp_path / "saved", device="cpu")) == expected
    assert (merged.device.type, merged.route) == ("cpu", ranker.route)
