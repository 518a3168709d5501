"""`finrank propose` and `finrank solve`: pools and answers from questions alone, resumable, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finrank.commands import propose as propose_command
from finrank.commands.import_predictions import import_predictions
from finrank.commands.propose import propose
from finrank.commands.solve import solve
from finrank.errors import UserError
from finrank.pools.corruption.fit_likeness import fold_of
from finrank.records import Pool
from finrank.store import load_records
from tests.helpers.pools import make_pool, write_splits
from tests.helpers.saved_ranker import save_tiny_ranker
from tests.helpers.tiny_proposer import QUESTION, save_tiny_proposer
from tests.helpers.training_runs import printed


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A ranker and a proposer."""
    folder = tmp_path_factory.mktemp("models")
    return str(save_tiny_ranker(folder / "ranker")), str(save_tiny_proposer(folder / "proposer"))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finrank.store.result_files._LINES_PER_BLOCK", 4)


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


PLAIN = {"id": 7, "question": QUESTION.question, "table": [["", 2009, 2008], ["revenue", 5829, 5735]]}


def test_a_pool_is_proposed_for_every_question(models: tuple[str, str], tmp_path: Path) -> None:
    pools = [make_pool(number).model_dump(mode="json") for number in range(5)]
    source = write(tmp_path / "dev.jsonl", QUESTION.model_dump(mode="json"), PLAIN, *pools)
    output = tmp_path / "proposed" / "dev.jsonl"
    counts = propose(source, output, [models[1]], num_candidates=6)
    written = load_records(output, Pool)
    assert [pool.id for pool in written] == [QUESTION.id, "7", *(pool["id"] for pool in pools)]
    assert counts["proposed"] == 7
    assert counts["candidates"] == sum(len(pool.candidates) for pool in written)
    assert {candidate.origin for pool in written for candidate in pool.candidates} == {"proposed"}
    assert all(candidate.log_probability is not None for pool in written for candidate in pool.candidates)
    assert (written[0].program, written[0].answer, written[0].page) == (QUESTION.program, QUESTION.answer, "A")
    assert (written[1].program, written[1].answer) == (None, None)
    assert counts["with_gold"] == 6


def test_proposals_are_added_to_the_candidates_of_pools(models: tuple[str, str], tmp_path: Path) -> None:
    said = {"answer": "94", "model": "a", "origin": "imported"}
    asked = {**QUESTION.model_dump(mode="json"), "candidates": [said, "subtract(5829, 5735)"]}
    source = write(tmp_path / "dev.jsonl", asked, PLAIN)
    counts = propose(source, tmp_path / "both.jsonl", [models[1]], num_candidates=4, add=True)
    (pool,) = load_records(tmp_path / "both.jsonl", Pool)
    assert [(one.origin, one.model, one.answer) for one in pool.candidates[:2]] == [
        ("imported", "a", 94.0),
        ("imported", None, 94.0),
    ]
    assert [one.origin for one in pool.candidates[2:]] == ["proposed"] * counts["candidates"]
    assert (pool.program, pool.answer) == (QUESTION.program, QUESTION.answer)
    assert counts["rejected"] == 1  # the question without candidates


def test_a_cut_off_run_is_continued_to_the_same_bytes(
    models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "q.jsonl", *({**PLAIN, "id": number} for number in range(10)))
    propose(source, tmp_path / "whole.jsonl", [models[1]], num_candidates=3)
    block, blocks = propose_command._propose_block, []

    def dies(*arguments: Any, **options: Any) -> Any:
        blocks.append(1)
        if len(blocks) == 2:
            raise KeyboardInterrupt
        return block(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(propose_command, "_propose_block", dies)
        with pytest.raises(KeyboardInterrupt):
            propose(source, tmp_path / "cut.jsonl", [models[1]], num_candidates=3)
    assert len(read(tmp_path / "cut.jsonl")) == 4
    counts = propose(source, tmp_path / "cut.jsonl", [models[1]], num_candidates=3)
    assert counts["proposed"] == 10
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    with pytest.raises(UserError, match="candidates: 3, now 4"):
        propose(source, tmp_path / "cut.jsonl", [models[1]], num_candidates=4)


def test_a_bad_line_is_rejected_alone(models: tuple[str, str], tmp_path: Path) -> None:
    long = {**PLAIN, "id": "long", "question": "what is it ? " * 200}
    source = write(tmp_path / "q.jsonl", "{broken\n", PLAIN, {"id": "none"}, long, "[1]\n")
    for command, result in ((propose, "proposed"), (solve, "solved")):
        output = tmp_path / f"{result}.jsonl"
        model = {"models": [models[1]]} if command is propose else {"model": models[0], "proposer": models[1]}
        counts = command(source, output, **model)  # type: ignore[operator]
        assert (counts[result], counts["rejected"]) == (1, 4)
        rejects = read(tmp_path / f"{result}.rejects.jsonl")
        assert [reject["line"] for reject in rejects] == [1, 3, 4, 5]
        assert "no question" in rejects[1]["reason"]
        assert "shorten it" in rejects[2]["reason"]


def test_of_two_halves_each_question_gets_the_one_that_never_saw_its_page(tmp_path: Path) -> None:
    halves = [save_tiny_proposer(tmp_path / str(half), seed=half, left_out_half=half) for half in (0, 1)]
    data = write_splits(tmp_path / "data", {"train": [make_pool(number) for number in range(12)]})
    outputs = []
    for number, models in enumerate([halves[:1], halves[1:], halves]):
        outputs.append(tmp_path / f"{number}.jsonl")
        propose(data / "train.jsonl", outputs[-1], list(map(str, models)), num_candidates=3)
    first, second, both = (load_records(output, Pool) for output in outputs)
    folds = [fold_of(pool.page) for pool in both]
    assert set(folds) == {0, 1}
    assert both == [(first, second)[fold][index] for index, fold in enumerate(folds)]
    assert first != second


def test_questions_that_were_seen_in_training_are_warned_of(
    models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, warned in (("train", True), ("dev", False)):
        propose(write(tmp_path / f"{name}.jsonl", PLAIN), tmp_path / f"out_{name}.jsonl", [models[1]], 3)
        assert ("may have been seen in training" in printed(capsys)) is warned


def test_solved_answers_are_ranked_proposals_and_a_prediction_file(models: tuple[str, str], tmp_path: Path) -> None:
    data = write_splits(tmp_path / "data", {"dev": [make_pool(number) for number in range(6)]})
    counts = solve(data / "dev.jsonl", tmp_path / "solved.jsonl", *models, num_candidates=8)
    assert counts["solved"] == 6
    for line in read(tmp_path / "solved.jsonl"):
        assert list(line) == ["id", "program", "answer", "probability", "abstain", "answers"]
        assert 1 <= len(line["answers"]) <= 5
        assert line["answer"] == line["answers"][0]["answer"]
        assert line["program"] == line["answers"][0]["programs"][0]
    right = [line["answer"] == make_pool(number).answer for number, line in enumerate(read(tmp_path / "solved.jsonl"))]
    assert (counts["with_gold"], counts["right"]) == (6, sum(right))
    imported = import_predictions([tmp_path / "solved.jsonl"], tmp_path / "imported", data=data, split="dev")
    assert imported["pools"] == 6


@pytest.mark.parametrize("command", [propose, solve])
def test_wrong_options_say_what_to_do(models: tuple[str, str], tmp_path: Path, command: Any) -> None:
    source = write(tmp_path / "q.jsonl", PLAIN)
    with pytest.raises(UserError, match="propose 1 at least"):
        command(source, tmp_path / "out.jsonl", num_candidates=0)
    with pytest.raises(UserError, match="no such file"):
        command(tmp_path / "none.jsonl", tmp_path / "out.jsonl")
    other = {"models": [str(tmp_path)]} if command is propose else {"model": models[0], "proposer": str(tmp_path)}
    with pytest.raises(UserError, match="No proposer in"):
        command(source, tmp_path / "out.jsonl", **other)
