"""`Ranker`: what it takes, what it gives, what it says to malformed input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finrank import Ranker
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import save_model
from finrank.ranker.settings import HeadSettings, LoraSettings, RankerSettings
from finrank.ranker.weights import load_tokenizer
from finrank.store import UserError
from tests.tiny import save_tiny_base

ASKED: dict[str, Any] = {
    "question": "what is the change in revenue ?",
    "table": [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"]],
    "text": ["revenue grew ."],
}


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    folder = tmp_path_factory.mktemp("ranker")
    base = save_tiny_base(folder / "base", "bert")
    settings = RankerSettings(base_model=str(base), lora=LoraSettings(rank=4), score_head=HeadSettings(hidden_size=16))
    torch.manual_seed(0)
    save_model(CandidateRankingModel.new(settings), load_tokenizer(str(base)), folder / "model")
    return Ranker.from_pretrained(folder / "model", device="cpu")


def test_answers_come_best_first_and_equal_values_are_one(ranker: Ranker) -> None:
    candidates = ["subtract(5829, 5735)", "subtract(5735, 5829)", {"answer": 94}, {"program": "add(5829, 5735)"}]
    answers = ranker.rank(**ASKED, candidates=candidates)
    assert {answer.answer: sorted(answer.indices) for answer in answers} == {94.0: [0, 2], -94.0: [1], 11564.0: [3]}
    assert sum(answer.probability for answer in answers) == pytest.approx(1)
    assert [answer.probability for answer in answers] == sorted((a.probability for a in answers), reverse=True)
    together = next(answer for answer in answers if answer.answer == 94.0)
    assert together.programs == ["subtract(5829, 5735)"]
    assert together.index in together.indices


def test_saving_keeps_a_card_that_is_there_and_leaves_none_of_pefts(ranker: Ranker, tmp_path: Path) -> None:
    ranker.save_pretrained(tmp_path)
    assert not (tmp_path / "README.md").exists()
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    mine = b"---\nlicense: [never closed\n---\nmy own words\r\n"  # no card that a library could read
    (tmp_path / "README.md").write_bytes(mine)
    ranker.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == mine
    assert Ranker.from_pretrained(tmp_path, device="cpu").rank(**ASKED, candidates=["add(1, 2)"])


def test_many_questions_give_what_each_gives_alone(ranker: Ranker) -> None:
    requests = [
        {**ASKED, "candidates": ["add(1, 2)", "add(5829, 5735)"]},
        {**ASKED, "question": "and the total ?", "candidates": ["table_sum(revenue, none)", "add(1, 2)", "yes(1, 2)"]},
    ]
    for request, together in zip(requests, ranker.rank_many(requests), strict=True):
        alone = ranker.rank(**request)
        assert [answer.index for answer in alone] == [answer.index for answer in together]
        assert [a.score for a in alone] == pytest.approx([t.score for t in together], abs=1e-5)


def test_order_of_the_candidates_does_not_matter(ranker: Ranker) -> None:
    candidates = ["add(1, 2)", "add(5829, 5735)", "subtract(5829, 5735)", "divide(5829, 5735)"]
    answers = [answer.answer for answer in ranker.rank(**ASKED, candidates=candidates)]
    assert answers == [answer.answer for answer in ranker.rank(**ASKED, candidates=candidates[::-1])]


def test_a_program_that_fails_is_ranked_by_its_text_and_says_so(ranker: Ranker) -> None:
    answers = ranker.rank(**ASKED, candidates=["divide(1, 0)", "what ?", "add(1, 2)"])
    failed = {answer.index: answer for answer in answers if answer.answer is None}
    assert set(failed) == {0, 1}
    assert all(answer.error for answer in failed.values())
    assert next(answer for answer in answers if answer.index == 2).error is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": []}, "has no candidates"),
        ({"candidates": [{}]}, "a candidate is a program or holds program, answer or both"),
        ({"candidates": [{"programme": "add(1, 2)"}]}, "a candidate is a program or holds"),
        ({"candidates": [{"answer": float("nan")}]}, "answer"),
        ({"table": [[1, 2]], "candidates": ["add(1, 2)"]}, "table.0.0"),
        ({"table": "revenue 5829", "candidates": ["add(1, 2)"]}, "table must be a list, not a string"),
        ({"candidates": "add(1, 2)"}, "candidates must be a list, not a string"),
        ({"candidates": [{"answer": 10**400}]}, "request 0"),
        ({"question": "", "candidates": ["add(1, 2)"]}, "question"),
    ],
)
def test_malformed_input_is_named(ranker: Ranker, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ranker.rank(**{**ASKED, **change})


def test_saving_again_gives_the_same_scores(ranker: Ranker, tmp_path: Path) -> None:
    candidates = ["add(1, 2)", "add(5829, 5735)"]
    ranker.save_pretrained(tmp_path / "copy")
    again = Ranker.from_pretrained(tmp_path / "copy", device="cpu")
    before, after = (one.rank(**ASKED, candidates=candidates) for one in (ranker, again))
    assert [answer.score for answer in before] == [answer.score for answer in after]


def test_a_window_larger_than_the_models_is_refused(tmp_path: Path) -> None:
    from finrank.prompt import PromptSettings

    base = save_tiny_base(tmp_path / "base", "bert")
    settings = RankerSettings(base_model=str(base), prompt=PromptSettings(max_length=5000))
    with pytest.raises(UserError, match="max_length 5000 is over the 1024 positions"):
        CandidateRankingModel.new(settings)
