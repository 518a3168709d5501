"""Import: outputs of several systems become pools that stage 03 takes; everything left out is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from finrank.commands.import_predictions import import_predictions
from finrank.commands.rewards import rewards
from finrank.errors import UserError
from finrank.records import Candidate, Pool, Question, RewardedPool
from finrank.store import load_records
from finrank.store.json_lines import LONGEST_LINE
from tests.conftest import REPOSITORY
from tests.helpers.pools import write_pools
from tests.helpers.questions import make_question
from tests.helpers.raw_files import rejects_of
from tests.helpers.scripts import run_command


def question(identifier: str, program: str | None = "subtract(5829, 5735)", answer: float | None = 94.0) -> Question:
    return make_question(identifier, program, page=f"page {identifier}", answer=answer)


def write(path: Path, records: list[Any]) -> Path:
    lines = [record.model_dump_json() if isinstance(record, Question) else json.dumps(record) for record in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Questions a and b in dev, c without known gold in dev, t in train."""
    write(tmp_path / "data" / "dev.jsonl", [question("a"), question("b"), question("c", program=None, answer=None)])
    write(tmp_path / "data" / "train.jsonl", [question("t")])
    return tmp_path / "data"


def pools(directory: Path) -> dict[str, Pool]:
    return {pool.id: pool for pool in load_records(directory / "dev.jsonl", Pool)}


def test_files_and_runs_merge_by_id(tmp_path: Path, data: Path) -> None:
    right, wrong = "subtract(5829, 5735)", "add(5829, 5735)"
    by_model = [
        {"id": "a", "program": right, "model": "m"},
        {"id": "b", "program": wrong, "model": "m"},
        {"id": "a", "program": right, "model": "m"},
        {"id": "a", "answer": "$ 94", "model": "n"},
    ]
    first = write(tmp_path / "first.jsonl", by_model)
    second = tmp_path / "second.json"
    second.write_text(json.dumps([{"id": "a", "predicted": ["divide(", "1", "0", ")", "EOF"]}]))
    result = import_predictions([first, second], tmp_path / "out", data=data, split="dev")
    made = pools(tmp_path / "out")
    assert list(made) == ["a", "b"]
    by_program = sorted((row.program or "", row.answer, row.error) for row in made["a"].candidates)
    failure = "step 0: divide: float division by zero"
    assert by_program == [("", 94.0, None), ("divide(1, 0)", None, failure), *[(right, 94.0, None)] * 2]
    assert {candidate.origin for pool in made.values() for candidate in pool.candidates} == {"imported"}
    expected = {"pools": 2, "candidates": 5, "duplicates": 1, "failed": 1, "answers_only": 1, "unanswerable": 1}
    expected |= {"without_gold": 0, "without_prediction": 1, "unmatched": 0}
    assert {name: result[name] for name in expected} == expected
    assert result["pool_sizes"] == {"1": 1, "4": 1}
    assert result["models"] == {
        "m": {"candidates": 3, "failed": 0, "correct": 2},
        "n": {"candidates": 1, "failed": 0, "correct": 1},
        "second.json": {"candidates": 1, "failed": 1, "correct": 0},
    }
    counts = [(file["file"], file["predictions"], file["rejected"]) for file in result["files"]]
    assert counts == [("first.jsonl", 4, 0), ("second.json", 1, 0)]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["import"] == result
    assert rejects_of(tmp_path / "out") == [("dev.jsonl", 3, "c", "no prediction for this question: it has no pool")]


def test_stage_03_takes_the_pools(tmp_path: Path, data: Path) -> None:
    programs = ["subtract(5829, 5735)", "divide(5829, 0)", "add(1", "exp(5829, 0.5)", "multiply(nan, 1)", "add(yes, 1)"]
    outputs: list[Any] = [{"id": "a", "program": program} for program in programs]
    outputs += [{"id": "a", "answer": 94.000001}, {"id": "a", "answer": "no"}, {"id": "b", "answer": 1}]
    outputs += [{"id": "c", "answer": 1}]
    import_predictions([write(tmp_path / "p", outputs)], tmp_path / "out", data=data)
    by_program = {candidate.program: candidate for candidate in pools(tmp_path / "out")["a"].candidates}
    assert by_program["multiply(nan, 1)"].error == "the value is nan"
    assert by_program["add(1"].error is not None
    rewards(tmp_path / "out", tmp_path / "rewarded")
    rewarded = {pool.id: pool for pool in load_records(tmp_path / "rewarded" / "dev.jsonl", RewardedPool)}
    reward_of = {
        (candidate.program, candidate.answer): reward
        for candidate, reward in zip(rewarded["a"].candidates, rewarded["a"].rewards, strict=True)
    }
    best = {key for key, reward in reward_of.items() if reward == 1.0}
    assert best == {("subtract(5829, 5735)", 94.0), (None, 94.000001)}
    assert all(reward_of[(program, None)] == 0.0 for program in (programs[1], programs[2], programs[4], programs[5]))
    assert rewarded["b"].correct == []
    ((*_, identifier, reason),) = rejects_of(tmp_path / "rewarded")
    assert identifier == "c"
    assert "gold answer unknown" in reason


def test_everything_left_out_is_named(tmp_path: Path, data: Path) -> None:
    outputs: list[Any] = [
        {"id": "a", "program": "add(1, 2)"},
        {"id": "a", "answer": "a lot"},
        {"id": "a", "program": "  "},
        {"id": "a", "predicted": ["EOF"]},
        {"id": "nobody", "program": "add(1, 2)"},
        {"id": "t", "program": "add(1, 2)"},
        17,
        {"id": "nobody", "answer": 2},
    ]
    result = import_predictions([write(tmp_path / "p.jsonl", outputs)], tmp_path / "out", data=data, split="dev")
    rejects = rejects_of(tmp_path / "out")
    assert [row[:3] for row in rejects] == [
        ("p.jsonl", 7, None), ("dev.jsonl", 2, "b"), ("dev.jsonl", 3, "c"),
        ("p.jsonl", 5, "nobody"), ("p.jsonl", 8, "nobody"), ("p.jsonl", 6, "t"),
    ]  # fmt: skip
    candidates = pools(tmp_path / "out")["a"].candidates
    reasons = sorted(str(candidate.error) for candidate in candidates if candidate.answer is None)
    assert [reason[:17] for reason in reasons] == ["no program, numbe", "the text is empty", "the text is empty"]
    assert (result["candidates"], result["failed"]) == (4, 3)
    assert rejects[-1][3] == "no question of dev has this id"
    assert (result["unmatched"], result["without_prediction"]) == (3, 2)
    assert result["files"][0]["rejected"] == 1


def test_systems_keep_their_names_and_stated_answers_are_right_as_rounded(tmp_path: Path, data: Path) -> None:
    outputs: list[Any] = [
        {"id": "a", "answer": "about 94", "model": "m"},
        {"id": "a", "program": "subtract(5829, 0)", "answer": 94, "model": "n"},
        {"id": "a", "program": "divide(1, 0)", "answer": "about 94"},
        {"id": "a", "text": "It rose by 94.0 in 2009."},
    ]
    result = import_predictions([write(tmp_path / "p.jsonl", outputs)], tmp_path / "out", data=data)
    by_model: dict[str | None, list[Candidate]] = {}
    for candidate in pools(tmp_path / "out")["a"].candidates:
        by_model.setdefault(candidate.model, []).append(candidate)
    assert by_model["m"] == [Candidate(answer=94.0, stated="about 94", origin="imported", model="m")]
    assert [candidate.answer for candidate in by_model["n"]] == [5829.0]
    assert sorted(str(candidate.stated) for candidate in by_model["p.jsonl"]) == ["94.0", "about 94"]
    assert {name: counts["correct"] for name, counts in result["models"].items()} == {"m": 1, "n": 0, "p.jsonl": 2}
    rewards(tmp_path / "out", tmp_path / "rewarded")
    (rewarded,) = load_records(tmp_path / "rewarded" / "dev.jsonl", RewardedPool)
    assert [candidate.model for candidate in rewarded.candidates].count("n") == 1
    assert [rewarded.candidates[index].model == "n" for index in range(4) if index not in rewarded.correct] == [True]
    assert sorted(rewarded.rewards)[1:] == [1.0, 1.0, 1.0]
    import_predictions([write(tmp_path / "again.jsonl", outputs)], tmp_path / "again", data=tmp_path / "out")


def test_all_splits_are_looked_through_and_those_without_predictions_passed_over(tmp_path: Path, data: Path) -> None:
    both = write(tmp_path / "both", [{"id": "t", "answer": 1}, {"id": "a", "answer": 1}])
    import_predictions([both], tmp_path / "out", data=data)
    assert {path.stem for path in (tmp_path / "out").glob("*.jsonl")} == {"dev", "rejects", "train"}
    only_dev = write(tmp_path / "dev", [{"id": "a", "answer": 1}])
    import_predictions([only_dev], tmp_path / "out", data=data)
    assert not (tmp_path / "out" / "train.jsonl").exists()
    assert {row[0] for row in rejects_of(tmp_path / "out")} == {"dev.jsonl"}


def test_pools_serve_as_questions(tmp_path: Path) -> None:
    rewarded = load_records(write_pools(tmp_path / "rewarded") / "dev.jsonl", RewardedPool)
    plain = write(tmp_path / "pools" / "dev.jsonl", [Pool.of(pool) for pool in rewarded])
    outputs = write(tmp_path / "p", [{"id": pool.id, "answer": 1} for pool in rewarded])
    for folder in (tmp_path / "rewarded", plain.parent):
        import_predictions([outputs], tmp_path / "out", data=folder, split="dev")
        made = pools(tmp_path / "out")
        assert list(made) == [pool.id for pool in rewarded]
        assert all(pool.candidates == [Candidate(answer=1.0, origin="imported", model="p")] for pool in made.values())


def test_the_seed_decides_the_bytes_and_the_order_reveals_nothing(tmp_path: Path) -> None:
    folder = write_pools(tmp_path / "data", dev=200)
    ids = [pool.id for pool in load_records(folder / "dev.jsonl", RewardedPool)]
    files = [write(tmp_path / str(value), [{"id": id_, "answer": value} for id_ in ids]) for value in (1, 2)]
    contents = []
    for out, seed in (("x", 0), ("y", 0), ("z", 1)):
        import_predictions(files, tmp_path / out, data=folder, split="dev", seed=seed)
        contents.append((tmp_path / out / "dev.jsonl").read_bytes())
    assert contents[0] == contents[1] != contents[2]
    first = sum(pool.candidates[0].answer == 1.0 for pool in pools(tmp_path / "x").values())
    assert 60 < first < 140


def test_files_of_one_name_go_by_their_paths(tmp_path: Path, data: Path) -> None:
    paths = [write(tmp_path / run / "p.jsonl", [{"id": "a", "answer": 1}, 7]) for run in ("x", "y")]
    result = import_predictions(paths, tmp_path / "out", data=data)
    assert [file["file"] for file in result["files"]] == [str(path) for path in paths]
    assert list(result["models"]) == [str(path) for path in paths]
    with pytest.raises(UserError, match="given twice"):
        import_predictions([paths[0], tmp_path / "y" / ".." / "x" / "p.jsonl"], tmp_path / "out", data=data)


def test_a_pool_too_long_to_be_read_again_is_left_out(tmp_path: Path, data: Path) -> None:
    long = "9" * 19_000
    outputs = [{"id": "a", "program": f"add({long}, {number})"} for number in range(60)] + [{"id": "b", "answer": 1}]
    import_predictions([write(tmp_path / "p", outputs)], tmp_path / "out", data=data)
    assert list(pools(tmp_path / "out")) == ["b"]
    (row,) = [row for row in rejects_of(tmp_path / "out") if row[2] == "a"]
    assert f"more than the {LONGEST_LINE}" in row[3]


def test_faults_of_the_user_leave_nothing_behind(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    good = write(tmp_path / "good", [{"id": "a", "answer": 1}])
    for paths, folder, split, message in (
        ([], data, None, "no prediction file"),
        ([tmp_path / "none"], data, None, "no such file"),
        ([good], tmp_path / "nowhere", None, "01_prepare_dataset.py"),
        ([good], data, "test", "has no test.jsonl; it has: train, dev"),
        ([write(tmp_path / "bad", [7])], data, None, "no prediction in bad.*bad, at 1: record: Input should be"),
        ([write(tmp_path / "other", [{"id": "x", "answer": 1}])], data, None, "ids such as 'x'"),
    ):
        with pytest.raises(UserError, match=message):
            import_predictions(paths, out, data=folder, split=split)
        assert not out.exists()
    kept = write(tmp_path / "kept" / "p", [{"id": "a", "answer": 1}])
    (tmp_path / "kept" / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="would be replaced"):
        import_predictions([kept], tmp_path / "kept", data=data)
    assert kept.exists()


def test_bad_questions_are_rejected(tmp_path: Path, data: Path) -> None:
    lines = (data / "dev.jsonl").read_text().splitlines()
    (data / "dev.jsonl").write_text("\n".join([lines[0], '{"id": "b"}', "no JSON", lines[2]]))
    outputs = [{"id": identifier, "answer": 1} for identifier in "abc"]
    import_predictions([write(tmp_path / "p", outputs)], tmp_path / "out", data=data, split="dev")
    assert list(pools(tmp_path / "out")) == ["a", "c"]
    rejected = [row[:3] for row in rejects_of(tmp_path / "out")]
    assert rejected == [("dev.jsonl", 2, "b"), ("dev.jsonl", 3, None), ("p", 2, "b")]


def test_the_guides_example_prints_what_the_guide_shows(tmp_path: Path) -> None:
    guide = (REPOSITORY / "docs" / "files.md").read_text(encoding="utf-8")
    for name, content in re.findall(r"<!-- file: (\S+) -->\n```json\n(.*?)```", guide, re.DOTALL):
        (tmp_path / name).write_text(content, encoding="utf-8")
    examples = re.findall(r"<!-- example: \w+ -->\n```sh\n(.*?)```\n(?:\n```text\n(.*?)```)?", guide, re.DOTALL)
    assert len(examples) == 3
    for commands, expected in examples:
        done = [run_command(tmp_path, *line.split()[1:]) for line in commands.splitlines()]
        assert all(command.returncode == 0 for command in done)
        printed = "".join(command.stdout for command in done)
        if expected:
            assert "\n".join(map(str.rstrip, printed.splitlines())).strip("\n") == expected.strip("\n")
    left_out = rejects_of(tmp_path / "datasets" / "imported")
    assert sum(row[0] == "dev.jsonl" for row in left_out) == 8
    assert [row[1] for row in left_out if row[0] == "first.jsonl"] == [5]
