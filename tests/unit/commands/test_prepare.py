"""Stage 01: raw files to questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finrank.commands.prepare import prepare
from finrank.errors import UserError
from finrank.records import Question
from finrank.sources.made_up import generate
from finrank.store import load_records
from tests.helpers.raw_files import raw_example, rejects_of, write_raw


def _example(identifier: str, page: str, **changes: Any) -> dict[str, Any]:
    return raw_example(**{"id": identifier, "filename": page, "program": "add(1, 2)", "exe_ans": 3.0, **changes})


def _questions(directory: Path, split: str) -> list[Question]:
    path = directory / f"{split}.jsonl"
    return load_records(path, Question) if path.is_file() else []


def test_selection_takes_whole_train_pages_and_keeps_them_when_questions_are_added(tmp_path: Path) -> None:
    embedded = generate(train=300, dev=20, test=20)
    prepare(write_raw(tmp_path / "all", **embedded), tmp_path / "out", selection_share=0.3)
    pages = {split: {q.page for q in _questions(tmp_path / "out", split)} for split in ("train", "selection")}
    assert not pages["train"] & pages["selection"]
    assert 0.2 < len(pages["selection"]) / len(pages["train"] | pages["selection"]) < 0.4
    assert len(_questions(tmp_path / "out", "train")) + len(_questions(tmp_path / "out", "selection")) == 300

    fewer = write_raw(tmp_path / "fewer", **{**embedded, "train": embedded["train"][::2]})
    prepare(fewer, tmp_path / "out2", selection_share=0.3)
    assert {q.page for q in _questions(tmp_path / "out2", "selection")} <= pages["selection"]
    assert {q.page for q in _questions(tmp_path / "out2", "train")} <= pages["train"]


def test_seed_and_share_decide_the_selection_and_the_bytes(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", **generate(train=200, dev=10, test=10))
    folders = [tmp_path / f"out{number}" for number in range(4)]
    for folder, (share, seed) in zip(folders, [(0.2, 0), (0.2, 0), (0.2, 1), (0.0, 0)], strict=True):
        prepare(raw, folder, selection_share=share, seed=seed)
    first, _, other_seed, no_share = ({q.page for q in _questions(folder, "selection")} for folder in folders)
    assert first != other_seed
    assert no_share == set()
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()
    with pytest.raises(UserError, match="selection_share"):
        prepare(raw, tmp_path / "out", selection_share=1.0)


def test_what_is_left_out_is_in_rejects_with_file_index_and_reason(tmp_path: Path) -> None:
    splits = {
        "train": [
            _example("a-1", "a"),
            _example("a-1", "a", question="another ?"),
            _example("b-1", "b"),
            _example("c-1", "c"),
            _example("d-1", "d", exe_ans=4),
            _example("e-1", "e", program="nonsense"),
            {"id": "f-1"},
        ],
        "dev": [_example("b-2", "b"), _example("c-2", "c")],
        "test": [_example("c-3", "c", program=None, exe_ans="12")],
    }
    prepare(write_raw(tmp_path / "raw", **splits), tmp_path / "out", selection_share=0)
    kept = {split: [(q.id, q.answer) for q in _questions(tmp_path / "out", split)] for split in splits}
    assert kept == {"train": [("a-1", 3.0)], "dev": [("b-2", 3.0)], "test": [("c-3", 12.0)]}
    assert not (tmp_path / "out" / "selection.jsonl").exists()
    reasons = {tuple(place): reason for *place, reason in rejects_of(tmp_path / "out")}
    expected = {
        ("train.json", 1, "a-1"): "used before, in train.json",
        ("train.json", 2, "b-1"): "leak: page b is in dev too",
        ("train.json", 3, "c-1"): "leak: page c is in test too",
        ("dev.json", 1, "c-2"): "leak: page c is in test too",
        ("train.json", 4, "d-1"): "program executes to 3.0 but exe_ans is 4.0",
        ("train.json", 5, "e-1"): "does not parse",
        ("train.json", 6, "f-1"): "filename: Field required",
    }
    assert reasons.keys() == expected.keys()
    for place, reason in expected.items():
        assert reason in reasons[place]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"] == {"train": 1, "dev": 1, "test": 1}
    assert manifest["rejected"] == sum(manifest["left_out"].values()) == 7


def test_nothing_to_read_and_nothing_usable_are_clear_errors_that_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finrank sample-data"):
        prepare(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(UserError, match="no usable question"):
        prepare(write_raw(tmp_path / "raw", dev=[{"id": "x"}]), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_real_finqa_is_prepared_whole(tmp_path: Path, finqa_dir: Path) -> None:
    prepare(finqa_dir, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rejected"] == 0
    assert manifest["counts"]["dev"] == 883
    assert manifest["counts"]["selection"] / manifest["counts"]["train"] == pytest.approx(0.1, abs=0.04)
    assert {path.stem for path in (tmp_path / "out").glob("*.jsonl")} >= {"train", "selection", "dev"}
