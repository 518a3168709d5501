"""`finrank rank`: what it writes, what it rejects, and that nothing is lost or repeated however often it is cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from finrank import Ranker
from finrank.commands.rank import rank, ranked_with
from finrank.errors import UserError
from finrank.ranker.choosing.chooser import VOTE, save_chooser
from finrank.ranker.choosing.confidence import save_confidence
from finrank.store.json_lines import encode_reject
from finrank.store.result_files import Block, ResultFiles, open_results
from tests.helpers.pools import make_pool
from tests.helpers.saved_ranker import ASKED, fitted, save_tiny_ranker

REQUEST = {**ASKED, "candidates": ["subtract(5829, 5735)", "94.0", {"program": "divide(1, 0)"}, "yes"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_ranker(tmp_path_factory.mktemp("rank")))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finrank.store.result_files._LINES_PER_BLOCK", 8)


def calibrated(model: str, folder: Path, **figures: Any) -> str:
    """A copy of the model with another calibration."""
    Ranker.from_pretrained(model).save_pretrained(folder)
    save_confidence(folder, fitted(temperature=1.0, **figures))
    return str(folder)


def write_lines(path: Path, *requests: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(request) + "\n\n" for request in requests), encoding="utf-8")
    return path


def write_input(path: Path, count: int, bad_every: int = 0) -> Path:
    lines = [make_pool(number).model_dump_json() for number in range(count)]
    for number in range(0, count, bad_every) if bad_every else ():
        lines[number] = f'{{"id": "bad-{number}", "question": '
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_pool_gets_the_line_that_the_ranker_would_give(model: str, tmp_path: Path) -> None:
    pools = [make_pool(number).model_dump(mode="json") for number in range(20)]
    mine = [{"id": 7, **REQUEST}, {**REQUEST, "note": "other keys are ignored"}]
    source = write_lines(tmp_path / "pools.jsonl", *mine, *pools)
    assert rank(model, source, tmp_path / "ranked.jsonl") == {"ranked": 22, "abstained": 0, "rejected": 0}
    assert not (tmp_path / "ranked.rejects.jsonl").exists()
    written = read(tmp_path / "ranked.jsonl")
    assert [line["id"] for line in written] == ["7", "3", *(pool["id"] for pool in pools)]
    assert {key for line in written for key in line} == {"id", "answers", "abstain"}
    rankings = Ranker.from_pretrained(model).rank_many([*mine, *pools])
    for line, ranking in zip(written, rankings, strict=True):
        assert line["abstain"] is False
        for found, answer in zip(line["answers"], ranking, strict=True):
            assert list(found)[:6] == ["answer", "probability", "score", "index", "indices", "programs"]
            rounded = {name: pytest.approx(vars(answer)[name], abs=1e-5) for name in ("probability", "score")}
            assert {"error": None, "models": [], **found} == {**vars(answer), **rounded}
    failed = [found for found in written[0]["answers"] if "error" in found]
    assert [found["index"] for found in failed] == [2]
    assert [found["indices"] for found in written[0]["answers"] if found["answer"] == 94.0] == [[0, 1]]


def test_a_byte_order_mark_and_cells_that_are_numbers_cost_no_line(model: str, tmp_path: Path) -> None:
    numbers = {**REQUEST, "table": [[None, 2009, 2008], ["revenue", 5829, 5735]]}
    texts = {**REQUEST, "table": [["", "2009", "2008"], ["revenue", "5829", "5735"]]}
    source = write_lines(tmp_path / "pools.jsonl", numbers, texts)
    source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes())
    assert rank(model, source, tmp_path / "ranked.jsonl")["ranked"] == 2
    first, second = read(tmp_path / "ranked.jsonl")
    for found, other in zip(first["answers"], second["answers"], strict=True):
        rounded = {name: pytest.approx(other[name], abs=1e-5) for name in ("probability", "score")}
        assert found == {**other, **rounded}


def test_the_model_abstains_and_judges_pools_by_their_real_origins(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threshold = {"wanted_accuracy": 0.9, "value": 0.999, "coverage": 0.5, "accuracy": 0.95, "lower_bound": 0.91}
    origins = {"gold": 9, "corrupted": 9}
    model = calibrated(model, tmp_path / "model", threshold=threshold, pool_sizes={4: 9}, origins=origins)
    counts = rank(model, write_input(tmp_path / "in.jsonl", 5), tmp_path / "out.jsonl")
    assert counts["abstained"] == 5
    assert all(line["abstain"] for line in read(tmp_path / "out.jsonl"))
    assert "warning" not in capsys.readouterr().err
    rank(model, write_lines(tmp_path / "mine.jsonl", REQUEST, REQUEST), tmp_path / "out2.jsonl")
    assert capsys.readouterr().err.count("here are imported ones") == 1


def test_unlike_pools_are_warned_of_once_per_kind(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = calibrated(model, tmp_path / "model", pool_sizes={60: 9}, origins={"imported": 9})
    lines = [{**REQUEST, "candidates": [f"add({n}, 1)" for n in range(size)]} for size in (2, 3, 4)]
    rank(model, write_lines(tmp_path / "in.jsonl", *lines), tmp_path / "out.jsonl")
    shown = capsys.readouterr().err
    assert shown.count("were fitted on pools of 60 candidates") == 1
    assert "Loading weights" not in shown


def test_bad_lines_are_rejected_with_their_number_and_reason(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {
        b'{"id": "torn", "question': "not JSON",
        b"\xff\xfe{}": "not JSON",
        b"[" * 100_000: "nested too deeply",
        b"[1, 2]": "expected an object",
        b'{"id": "a", "id": "b"}': "the key 'id' occurs twice",
        json.dumps({**REQUEST, "id": 1.5}).encode(): "id: expected a text or a whole number",
        json.dumps({**REQUEST, "id": "\ud800"}).encode(): "id holds half a surrogate pair",
        json.dumps({**REQUEST, "id": "x", "candidates": []}).encode(): "no candidates",
        json.dumps(
            {**REQUEST, "id": "x", "question": "what is revenue ? " * 400}
        ).encode(): "alone does not fit max_length",
        json.dumps({"id": "x", "question": "what ?"}).encode(): "no candidates: expected question",
        b'{"question": "' + b"a" * 1_100_000 + b'"}': "1100017 bytes, more than the 1000000",
    }
    good = json.dumps(REQUEST).encode()
    source = tmp_path / "pools.jsonl"
    source.write_bytes(b"\n".join([good, b"", *bad, good]) + b"\n")
    counts = rank(model, source, tmp_path / "ranked.jsonl")
    assert counts == {"ranked": 2, "abstained": 0, "rejected": len(bad)}
    rejects = read(tmp_path / "ranked.rejects.jsonl")
    assert [reject["line"] for reject in rejects] == list(range(3, 3 + len(bad)))
    for reject, reason in zip(rejects, bad.values(), strict=True):
        assert reason in reject["reason"], reject
        assert set(reject) == {"file", "line", "id", "reason"}
    assert [line["id"] for line in read(tmp_path / "ranked.jsonl")] == ["1", str(3 + len(bad))]
    shown = capsys.readouterr()
    assert f"{len(bad)} lines could not be ranked" in shown.err
    assert f"2 ranked, 0 of them abstain, {len(bad)} rejected" in shown.out
    source.write_bytes(b"\n".join(bad))
    with pytest.raises(UserError, match=f"not one of {len(bad)} lines"):
        rank(model, source, tmp_path / "none.jsonl")


@pytest.mark.slow  # three processes, each of which imports torch
def test_a_killed_run_resumes_to_the_same_bytes(model: str, tmp_path: Path) -> None:
    source = write_input(tmp_path / "pools.jsonl", 250, bad_every=20)
    outputs = {name: tmp_path / name / "ranked.jsonl" for name in ("whole", "again", "killed")}
    command = [sys.executable, "-m", "finrank", "rank", "--model", str(model), "--input", str(source), "--output"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, str(outputs["killed"])], env=environment, stderr=subprocess.DEVNULL)
    manifest = outputs["killed"].with_name("ranked.jsonl.manifest.json")
    while process.poll() is None and not (manifest.exists() and json.loads(manifest.read_text())["lines"]):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert json.loads(manifest.read_text())["complete"] is False
    assert 0 < len(read(outputs["killed"])) < 200
    done = subprocess.run([*command, str(outputs["killed"])], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resuming after line" in done.stdout
    subprocess.run([*command, str(outputs["whole"])], env=environment, capture_output=True, check=True)
    for name in ("ranked.jsonl", "ranked.rejects.jsonl"):
        killed, whole = (outputs[run].with_name(name).read_bytes() for run in ("killed", "whole"))
        assert killed == whole
    assert len(read(outputs["whole"])) == 250 - 13
    assert len(read(outputs["whole"].with_name("ranked.rejects.jsonl"))) == 13


class _Cut(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("after", [0, 16])
@pytest.mark.parametrize("left", ["before the block", "a torn line", "the block, not yet counted"])
def test_whatever_a_run_leaves_behind_is_mended(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str, after: int
) -> None:
    source = write_input(tmp_path / "pools.jsonl", 40, bad_every=5)
    rank(model, source, tmp_path / "whole.jsonl")
    cut_off = tmp_path / "cut.jsonl"
    append = ResultFiles._append

    def killed(files: ResultFiles, made: Block, **done: int) -> None:
        if files.lines < after:
            return append(files, made, **done)
        if left != "before the block":
            torn = {"a torn line": -20, "the block, not yet counted": None}[left]
            for path, rows in (
                (files.output.path, made.lines),
                (files.rejects.path, list(map(encode_reject, made.rejects))),
            ):
                with path.open("ab") as stream:
                    stream.write(b"".join(rows)[:torn])
        raise _Cut

    with monkeypatch.context() as patch:
        patch.setattr(ResultFiles, "_append", killed)
        with pytest.raises(_Cut):
            rank(model, source, cut_off)
    assert cut_off.read_bytes() != (tmp_path / "whole.jsonl").read_bytes()
    rank(model, source, cut_off)
    assert cut_off.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    rejects = [(tmp_path / f"{name}.rejects.jsonl").read_bytes() for name in ("cut", "whole")]
    assert rejects[0] == rejects[1] != b""


def test_a_complete_output_is_left_alone_and_a_longer_input_is_continued(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = write_input(tmp_path / "pools.jsonl", 10), tmp_path / "ranked.jsonl"
    first = rank(model, source, output)
    before = output.stat().st_mtime_ns, output.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("finrank.commands.rank._BlockRanker", None)
        assert rank(model, source, output) == first
    assert (output.stat().st_mtime_ns, output.read_bytes()) == before
    assert "is complete (10 ranked" in capsys.readouterr().out
    write_input(source, 13)
    assert rank(model, source, output)["ranked"] == 13
    assert output.read_bytes().startswith(before[1])
    assert [line["id"] for line in read(output)] == [make_pool(number).id for number in range(13)]


class Ranked(NamedTuple):
    """The files of a finished run."""

    source: Path
    output: Path
    manifest: Path
    model: str


def replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def drop_last_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def lengthen_last_line(run: Ranked) -> None:
    run.source.write_text(run.source.read_text().removesuffix("\n"))
    rank(run.model, run.source, run.output, overwrite=True)
    run.source.write_text(run.source.read_text() + " ")


def remove_all_but_the_rejects(run: Ranked) -> None:
    run.output.write_bytes(b"")
    run.manifest.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: replace(run.source, "item 2", "item x"), "pools.jsonl is not the input"),
        (lambda run: drop_last_line(run.source), "pools.jsonl is not the input"),
        (lengthen_last_line, "pools.jsonl is not the input"),
        (lambda run: replace(run.output, '"abstain": false', '"abstain": true '), "ranked.jsonl was changed since"),
        (lambda run: run.output.write_text(run.output.read_text() + "{}\n"), "ranked.jsonl was changed since"),
        (lambda run: drop_last_line(run.output), "ranked.jsonl was changed since"),
        (lambda run: save_confidence(Path(run.model), fitted()), "was made with another model"),
        (lambda run: save_chooser(Path(run.model), VOTE), "was made with another model.*chooser.json"),
        (lambda run: run.manifest.write_text('{"stage": "rank"'), "manifest.json is damaged"),
        (lambda run: replace(run.manifest, '"bytes": ', '"bytes": "many", "b": '), "is damaged: input.bytes: "),
        (remove_all_but_the_rejects, "not a result of finrank rank"),
        (lambda run: run.manifest.unlink(), "not a result of finrank rank"),
    ],
)
def test_results_are_never_mixed(model: str, tmp_path: Path, change: Callable[[Ranked], object], message: str) -> None:
    Ranker.from_pretrained(model).save_pretrained(tmp_path / "model")
    source, output = write_input(tmp_path / "pools.jsonl", 10, bad_every=4), tmp_path / "ranked.jsonl"
    run = Ranked(source, output, tmp_path / "ranked.jsonl.manifest.json", str(tmp_path / "model"))
    rank(run.model, source, output)
    change(run)
    before = output.read_bytes()
    with pytest.raises(UserError, match=f"{message}.*start over with --overwrite"):
        rank(run.model, source, output)
    assert output.read_bytes() == before
    counts = rank(run.model, source, output, overwrite=True)
    assert len(read(output)) == counts["ranked"]
    assert len(read(tmp_path / "ranked.rejects.jsonl")) == counts["rejected"] == 3


def test_another_base_version_or_device_is_refused(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output = write_input(tmp_path / "pools.jsonl", 3), tmp_path / "ranked.jsonl"
    rank(model, source, output)
    with pytest.raises(UserError, match=r"base model given: none, now /elsewhere .*--overwrite"):
        rank(model, source, output, base_model="/elsewhere")
    manifest = output.with_name("ranked.jsonl.manifest.json")
    stored = json.loads(manifest.read_text())
    assert stored["made_with"]["base model of the model"] == str(Path(model).parent / "base")
    for name in ("torch", "transformers", "finrank", "device"):
        changed = {**stored, "made_with": {**stored["made_with"], name: "other"}}
        manifest.write_text(json.dumps(changed))
        with pytest.raises(UserError, match=f"on another machine: {name}: other, now .*--overwrite"):
            rank(model, source, output)
    manifest.write_text(json.dumps(stored))
    assert rank(model, source, output)["ranked"] == 3


def test_faulty_paths_are_refused(model: str, tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "pools.jsonl", 3), tmp_path / "ranked.jsonl"
    for paths, message in [
        ((tmp_path / "none.jsonl", output), "no such file"),
        ((source, source), "would replace the input"),
        ((source, source / "ranked.jsonl"), "cannot be written"),
    ]:
        with pytest.raises(UserError, match=message):
            rank(model, *paths)
    other = open_results(source, output, "rank", ranked_with(Path(model), None), overwrite=False)
    with other, pytest.raises(UserError, match="another finrank rank is writing"):
        rank(model, source, output)
    assert rank(model, source, output)["ranked"] == 3
    output.unlink()
    assert rank(model, source, output)["ranked"] == 3  # whoever removes the output wants it anew


def test_the_size_of_blocks_changes_rounding_alone(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_input(tmp_path / "pools.jsonl", 40)
    written = []
    for size in (1, 8, 8, 40):
        monkeypatch.setattr("finrank.store.result_files._LINES_PER_BLOCK", size)
        rank(model, source, tmp_path / "ranked.jsonl", overwrite=True)
        written.append(read(tmp_path / "ranked.jsonl"))
    assert written[1] == written[2]
    for lines in zip(*written, strict=True):
        scores = [{answer["index"]: answer["score"] for answer in line["answers"]} for line in lines]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
        assert scores[0] == pytest.approx(scores[3], abs=1e-5)


def test_memory_does_not_grow_with_the_pools(model: str, tmp_path: Path) -> None:
    peaks = []
    for count in (16, 16, 160):  # the first fills caches
        source = write_input(tmp_path / "pools.jsonl", count)
        tracemalloc.start()
        rank(model, source, tmp_path / "ranked.jsonl", overwrite=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]
