"""Files and folders of another kind than asked for: one error that names them, and an earlier result stays."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finrank.commands.candidates import candidates
from finrank.commands.evaluate import evaluate
from finrank.commands.import_predictions import import_predictions
from finrank.commands.prepare import prepare
from finrank.commands.rank import rank
from finrank.commands.rewards import rewards
from finrank.commands.sft import sft
from finrank.errors import UserError
from finrank.store.json_lines import encode
from tests.helpers.pools import make_pool, write_pools
from tests.helpers.questions import make_question
from tests.helpers.saved_ranker import save_tiny_ranker
from tests.helpers.training_runs import CONFIGS

LINES = encode(make_pool(1)) * 50


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("dev.jsonl", LINES)
    return content.getvalue()


FILES = {
    "gzip": (gzip.compress(LINES), "compressed by gzip"),
    "half of a gzip file": (gzip.compress(LINES)[:60], "compressed by gzip"),
    "zip": (zipped(), "zip archive"),
    "Parquet": (b"PAR1\x15\x04\x15\x0c" + bytes(range(256)) + b"PAR1", "Parquet"),
    "web page": (b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n", "HTML"),
    "error of a store": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "HTML or XML"),
    "UTF-16": (LINES.decode().encode("utf-16"), "UTF-16"),
    "weights": ((2**20).to_bytes(8, "little") + bytes(range(256)) * 20, ""),
    "nothing": (b"", ""),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", ""),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ranker(tmp_path_factory.mktemp("exchanged"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", FILES)
def test_another_kind_of_file_as_data(kind: str, tmp_path: Path, model: Path) -> None:
    content, said = FILES[kind]
    good, bad, out = tmp_path / "good", tmp_path / "bad", tmp_path / "out"
    for folder in (good, bad):
        folder.mkdir()
    (good / "dev.jsonl").write_bytes(encode(make_question()))
    for name in ("dev.jsonl", "dev.json", "train.jsonl", "selection.jsonl"):
        (bad / name).write_bytes(content)
    candidates(good, out, num_candidates=3)
    before = contents(out)
    runs: list[Callable[[], Any]] = [
        lambda: prepare(bad, out),
        lambda: candidates(bad, out),
        lambda: rewards(bad, out),
        lambda: import_predictions([bad / "dev.jsonl"], out, data=good),
        lambda: import_predictions([good / "dev.jsonl"], out, data=bad),
        lambda: evaluate(model, bad, split="dev", json_path=out / "dev.json"),
        lambda: sft(CONFIGS / "minilm.yaml", bad, out, base_model=str(model.parent / "base")),
    ]
    for number, run in enumerate(runs):
        with pytest.raises(UserError) as error:
            run()
        assert "bad" in str(error.value) or "no prediction" in str(error.value), error.value
        assert said in str(error.value) or number in (0, 3), error.value
        assert contents(out) == before
    if kind != "nothing":  # which has no line to be wrong
        with pytest.raises(UserError, match=r"dev\.jsonl"):
            rank(str(model), bad / "dev.jsonl", tmp_path / "ranked.jsonl")


def test_folders_and_files_in_each_others_place(tmp_path: Path, model: Path) -> None:
    data = write_pools(tmp_path / "data")
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: sft(data / "train.jsonl", data, tmp_path), r"train\.jsonl"),
        (lambda: sft(model / "adapter_model.safetensors", data, tmp_path), r"adapter_model\.safetensors"),
        (lambda: sft(data, data, tmp_path), "No config"),
        (lambda: sft(CONFIGS / "minilm.yaml", model, tmp_path), r"Data not found in .*model"),
        (lambda: candidates(model, tmp_path / "out"), r"Data not found in .*model"),
        (lambda: prepare(model, tmp_path / "out"), r"Data not found in .*model"),
        (lambda: rank(str(data), data / "dev.jsonl", tmp_path / "out.jsonl"), "No model in"),
        (lambda: rank(str(model), model, tmp_path / "out.jsonl"), "no such file"),
        (lambda: rewards(data, tmp_path / "out", config=data / "dev.jsonl"), r"dev\.jsonl"),
        (lambda: rewards(data, tmp_path / "out", config=model), "model"),
        (lambda: evaluate(data, data, split="dev", json_path=tmp_path / "x.json"), "No model in"),
    ]
    for run, message in wrong:
        with pytest.raises(UserError, match=message):
            run()
    assert not (tmp_path / "out").exists()
