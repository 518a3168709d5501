"""Stage 02: pools, rejects, the manifest, and the same bytes for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from finrank.commands import candidates as stage
from finrank.commands.candidates import candidates
from finrank.commands.rewards import rewards
from finrank.errors import UserError
from finrank.pools.corruption.fit_likeness import fold_of
from finrank.records import Pool, RewardedPool
from finrank.store import MANIFEST, REJECTS, load_records
from finrank.store.json_lines import encode
from tests.helpers.questions import CHANGE, make_question

UNKNOWN = make_question("unknown", None, answer=3.0)
QUESTIONS = [
    make_question("change", CHANGE),
    make_question("ratio", "divide(310, 290)", answer=1.06897),
    UNKNOWN,
    make_question("wrong", "divide(310, 290", answer=1.06897),
    make_question("greater", "greater(310, 290)", answer="yes"),
]


@pytest.fixture
def processed(tmp_path: Path) -> Path:
    directory = tmp_path / "finqa_processed"
    directory.mkdir()
    (directory / "train.jsonl").write_bytes(b"".join(map(encode, QUESTIONS)) + b'{"id": "broken"}\n')
    (directory / "dev.jsonl").write_bytes(encode(QUESTIONS[0]))
    return directory


def _rejects(directory: Path) -> dict[str, tuple[int, str]]:
    rows = [json.loads(line) for line in (directory / REJECTS).read_text().splitlines()]
    return {row["id"]: (row["line"], row["reason"]) for row in rows}


def _facts(directory: Path, split: str) -> dict[str, Any]:
    """The counts of a split in the manifest."""
    return json.loads((directory / MANIFEST).read_text())["candidates"][split]


def test_pools_and_rejects(processed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pools"
    candidates(processed, out)
    pools = load_records(out / "train.jsonl", Pool)
    assert [(pool.id, len(pool.candidates)) for pool in pools] == [("change", 8), ("ratio", 8), ("greater", 8)]
    rejects = _rejects(out)
    assert rejects["unknown"] == (3, "no program")
    assert rejects["wrong"][0] == 4
    assert rejects["wrong"][1].startswith("the gold program does not parse: step 0")
    assert rejects["broken"][0] == 6
    assert "unreadable line: page: Field required" in rejects["broken"][1]
    printed = capsys.readouterr().out
    assert "train: 3 pools, left out: 1 no program, 1 the gold program does not parse" in printed
    assert "dev: 1 pools, left out: none" in printed


def test_an_answer_that_the_program_does_not_compute_is_refused_with_the_rewards(tmp_path: Path) -> None:
    (tmp_path / "dev.jsonl").write_bytes(encode(QUESTIONS[0]) + encode(make_question("false", CHANGE, answer=5.0)))
    candidates(tmp_path, tmp_path / "pools", failing_share=0.0)
    rewards(tmp_path / "pools", tmp_path / "rewarded")
    assert [pool.id for pool in load_records(tmp_path / "rewarded" / "dev.jsonl", RewardedPool)] == ["change"]
    line, reason = _rejects(tmp_path / "rewarded")["false"]
    assert line == 2
    assert f"stored answer 5.0 but {CHANGE} executes to 0.01639" in reason


def test_the_manifest_counts(processed: Path, tmp_path: Path) -> None:
    out = tmp_path / "pools"
    candidates(processed, out, num_candidates=4, corruption_rate=0.0, failing_share=0.5, seed=3)
    pools = load_records(out / "train.jsonl", Pool)
    wrong = [candidate for pool in pools for candidate in pool.candidates if candidate.origin != "gold"]
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["seed"] == 3
    assert list(manifest["arguments"])[2:] == ["num_candidates", "corruption_rate", "failing_share", "train_pools"]
    assert manifest["likeness_fitted_on"] == {"split": "train", "questions_per_fold": [0, 0]}
    facts = _facts(out, "train")
    assert facts["pools"] == sum(facts["gold_positions"]) == 3
    assert facts["mean_edits"] == round(sum(len(candidate.edits) for candidate in wrong) / len(wrong), 4)
    assert facts["failing_share"] == round(sum(candidate.answer is None for candidate in wrong) / len(wrong), 4) > 0
    assert facts["rejects"]["no program"] == 1


def test_the_fit_holds_a_bounded_number_of_questions_of_each_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "MOST_QUESTIONS", 5)
    monkeypatch.setattr(stage, "_LINES_TO_LEARN_FROM", 100)
    questions = [make_question(f"q{number}", page=f"page {number}") for number in range(200)]
    (tmp_path / "train.jsonl").write_bytes(b"".join(map(encode, questions)))
    assert Counter(fold_of(question.page) for question in stage._sound_questions(tmp_path / "train.jsonl")) == {
        0: 5,
        1: 5,
    }
    monkeypatch.setattr(stage, "MOST_QUESTIONS", 200)  # none read behind the first 100 lines
    assert [question.id for question in stage._sound_questions(tmp_path / "train.jsonl")] == [
        f"q{n}" for n in range(100)
    ]


def test_no_pool_depends_on_its_neighbours_but_on_the_seed(processed: Path, tmp_path: Path) -> None:
    made = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        candidates(processed, tmp_path / name, seed=seed)
        made.append(load_records(tmp_path / name / "train.jsonl", Pool))
        lines = (processed / "train.jsonl").read_text().splitlines()
        (processed / "train.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    assert made[0] == made[1][::-1]
    assert made[0] != made[2]


def test_smaller_pools_are_counted_in_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = make_question("bare", "greater(5, 4)", answer="yes", table=[], text=[])
    (tmp_path / "dev.jsonl").write_text(bare.model_dump_json() + "\n")
    candidates(tmp_path, tmp_path / "pools", num_candidates=40, corruption_rate=0.0)
    assert "1 pools have fewer than 40 candidates" in capsys.readouterr().err
    assert _facts(tmp_path / "pools", "dev")["smaller_pools"] == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_candidates", 1),
        ("corruption_rate", 1.0),
        ("corruption_rate", -0.1),
        ("corruption_rate", float("nan")),
        ("failing_share", 1.0),
        ("train_pools", 0),
        ("workers", -1),
    ],
)
def test_settings_out_of_range(processed: Path, tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{name} is {value}"):
        candidates(processed, tmp_path / "pools", **{name: value})
    assert not (tmp_path / "pools").exists()


def test_missing_input_names_the_steps(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)step 01.*01_prepare_dataset\.py"):
        candidates(tmp_path / "nothing", tmp_path / "pools")


def test_further_train_pools_have_other_wrong_candidates_and_leave_the_first_as_it_was(
    processed: Path, tmp_path: Path
) -> None:
    candidates(processed, tmp_path / "one")
    candidates(processed, tmp_path / "three", train_pools=3)
    first = load_records(tmp_path / "one" / "train.jsonl", Pool)
    more = {pool.id: pool for pool in load_records(tmp_path / "three" / "train.jsonl", Pool)}
    assert list(more) == [f"{name}{end}" for name in ("change", "ratio", "greater") for end in ("", "#2", "#3")]
    assert [more[pool.id] for pool in first] == first
    programs = [{candidate.program for candidate in more[name].candidates} for name in ("change", "change#2")]
    assert programs[0] != programs[1]
    assert CHANGE in programs[0] & programs[1]
    assert len(load_records(tmp_path / "three" / "dev.jsonl", Pool)) == 1
    assert _rejects(tmp_path / "three") == _rejects(tmp_path / "one")


def test_a_folder_without_a_pool_is_refused(processed: Path, tmp_path: Path) -> None:
    (processed / "train.jsonl").write_text("")
    (processed / "dev.jsonl").write_text(UNKNOWN.model_dump_json() + "\n")
    with pytest.raises(UserError, match=r"no pool could be made .*1 no program"):
        candidates(processed, tmp_path / "pools")
    assert not (tmp_path / "pools").exists()
