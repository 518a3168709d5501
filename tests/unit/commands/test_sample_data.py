"""Writing the embedded data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finrank.commands.sample_data import sample_data
from finrank.errors import UserError


def _bytes(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_files_are_the_same_bytes_each_time_and_may_be_written_again(tmp_path: Path) -> None:
    for name in ("one", "two", "one"):
        sample_data(tmp_path / name, train=12, dev=4, test=4)
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")
    assert sorted(_bytes(tmp_path / "one")) == ["dev.json", "manifest.json", "test.json", "train.json"]
    assert len(json.loads((tmp_path / "one" / "train.json").read_text(encoding="utf-8"))) == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    sample_data(tmp_path / "one", train=12, dev=4, test=4, seed=1)
    assert _bytes(tmp_path / "one")["train.json"] != _bytes(tmp_path / "two")["train.json"]


@pytest.mark.parametrize("name", ["train.json", "notes.txt", "manifest.json"])
def test_files_of_the_user_are_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[]")
    with pytest.raises(UserError, match=f"holds {name}"):
        sample_data(tmp_path, train=3, dev=0, test=0)
    assert _bytes(tmp_path) == {name: b"[]"}


@pytest.mark.parametrize("name", ["dev.json", "more.json"])
def test_changed_data_are_not_replaced(tmp_path: Path, name: str) -> None:
    sample_data(tmp_path, train=3, dev=1, test=1)
    (tmp_path / name).write_text("[]")
    with pytest.raises(UserError, match=f"holds {name}"):
        sample_data(tmp_path, train=3, dev=1, test=1)


@pytest.mark.parametrize("size", [-1, 50_001])
def test_sizes_below_0_or_beyond_the_pages_are_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(UserError, match=f"--dev is {size}: .* 0 to 50000"):
        sample_data(tmp_path / "raw", dev=size)
