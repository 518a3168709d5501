"""100,000 damaged records and candidates (a tenth without FINRANK_FUZZ=full): no crash, and no input is lost silently.

The records are lines of large files, one for each kind: questions, pools, rewarded pools, raw examples, predictions and
requests. Each line is in the output, or in rejects.jsonl with its number.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finrank.commands.candidates import candidates
from finrank.commands.import_predictions import import_predictions
from finrank.commands.prepare import prepare
from finrank.commands.rank import rank
from finrank.commands.rewards import rewards
from finrank.pools.candidate import read_candidate
from finrank.ranker.requests import read_line, read_request
from finrank.records import Pool, RewardedPool
from finrank.sources import made_up
from finrank.store.json_lines import BadLine, encode, read_lines, read_record
from tests.helpers.json_mutations import ODD_VALUES, damaged_line, damaged_value, rounds
from tests.helpers.mutations import mutated
from tests.helpers.raw_files import write_raw
from tests.helpers.saved_ranker import POOL, save_tiny_ranker

pytestmark = pytest.mark.slow

SECONDS = 0.1  # of processor time for a candidate of up to 1,000 characters, on an idle core


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The embedded data after each of the first three stages."""
    folder = tmp_path_factory.mktemp("fuzz")
    raw = write_raw(folder / "raw", dev=made_up.generate(train=60, dev=0, test=0)["train"])
    names = ("questions", "pools", "rewarded")
    made = {name: folder / name for name in names}
    prepare(raw, made["questions"])
    candidates(made["questions"], made["pools"], num_candidates=4)
    rewards(made["pools"], made["rewarded"])
    return {**made, "raw": raw}


def rows(path: Path) -> list[Any]:
    """The JSON lines of a file, each strict JSON: without NaN and infinities."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{path} holds {name}")

    return [json.loads(line, parse_constant=refuse) for line in path.read_bytes().split(b"\n") if line.strip()]


def write_damaged(path: Path, good: list[Any], count: int, seed: int) -> set[int]:
    """A file of damaged lines; the numbers of those that are not blank, since damage may break a line in two."""
    rng = random.Random(seed)
    content = b"".join(damaged_line(rng.choice(good), rng) + b"\n" for _ in range(count))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    lines = enumerate(content.split(b"\n"), 1)
    return {number for number, line in lines if line.removeprefix(b"\xef\xbb\xbf").strip()}


def check_accounted(lines: set[int], written: int, rejects: Path) -> None:
    """Each line was written or rejected, once; a good part was either."""
    rejected = [row["line"] for row in rows(rejects)]
    assert len(set(rejected)) == len(rejected)
    assert set(rejected) <= lines
    assert written + len(rejected) == len(lines)
    assert min(written, len(rejected)) > len(lines) // 10


STAGES: dict[str, tuple[Callable[..., None], str, int]] = {
    "02": (candidates, "questions", 5_000),
    "03": (rewards, "pools", 25_000),
}


@pytest.mark.parametrize("stage", STAGES)
def test_stages_02_and_03_account_for_every_line(stage: str, folders: dict[str, Path], tmp_path: Path) -> None:
    run, kind, count = STAGES[stage]
    lines = write_damaged(tmp_path / "in" / "dev.jsonl", rows(folders[kind] / "dev.jsonl"), rounds(count), seed=1)
    run(tmp_path / "in", tmp_path / "out")
    check_accounted(lines, len(rows(tmp_path / "out" / "dev.jsonl")), tmp_path / "out" / "rejects.jsonl")


def test_stage_01_accounts_for_every_element(folders: dict[str, Path], tmp_path: Path) -> None:
    rng = random.Random(2)
    good = json.loads((folders["raw"] / "dev.json").read_bytes())
    elements = [damaged_value({**rng.choice(good), "id": f"q{number}"}, rng) for number in range(rounds(30_000))]
    content = ",\n".join(map(json.dumps, elements)).encode()
    prepare(write_raw(tmp_path / "raw", dev=b"[" + content + b"]"), tmp_path / "out")
    written = len(rows(tmp_path / "out" / "dev.jsonl"))
    check_accounted(set(range(len(elements))), written, tmp_path / "out" / "rejects.jsonl")


def test_import_accounts_for_every_prediction(folders: dict[str, Path], tmp_path: Path) -> None:
    good = []
    for row in rows(folders["questions"] / "dev.jsonl"):
        name, program, answer = row["id"], row["program"], row["answer"]
        good += [{"id": name, "program": program, "model": "a"}, {"id": name, "answer": answer}]
        good += [{"id": name, "text": f"It is {answer}."}, {"id": name, "predicted": ["add(", "1", "2", ")", "EOF"]}]
    path = tmp_path / "predictions.jsonl"
    lines = write_damaged(path, good, rounds(25_000), seed=3)
    import_predictions([path], tmp_path / "out", data=folders["questions"])
    written = sum(len(row["candidates"]) for row in rows(tmp_path / "out" / "dev.jsonl"))
    check_accounted(lines, written, tmp_path / "out" / "rejects.jsonl")


def test_rank_accounts_for_every_request(folders: dict[str, Path], tmp_path: Path) -> None:
    good = [*rows(folders["rewarded"] / "dev.jsonl"), POOL]
    lines = write_damaged(tmp_path / "in.jsonl", good, rounds(2_000), seed=4)
    counts = rank(str(save_tiny_ranker(tmp_path)), tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert counts["ranked"] == len(rows(tmp_path / "out.jsonl"))
    check_accounted(lines, counts["ranked"], tmp_path / "out.rejects.jsonl")


def test_requests_and_rewarded_pools_are_read_or_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    write_damaged(path, [*rows(folders["rewarded"] / "dev.jsonl"), POOL], rounds(13_000), seed=5)
    kinds: Counter[bool] = Counter()
    for line in read_lines(path):
        kinds[isinstance(read_line(line, read_request), BadLine)] += 1
        pool = read_record(line, RewardedPool)
        if not isinstance(pool, BadLine):
            numbers = [*pool.rewards, *(part for parts in pool.components for part in parts.values())]
            assert all(map(math.isfinite, numbers))
    assert min(kinds.values()) > kinds.total() // 10


PIECES = (
    *("Answer: ", "**", "```", "`", '{"answer": ', '"program": "', "}", "<think>", "</think>", "\\boxed{", "yes", "no"),
    *(" = ", "%", "$", " million", "about ", "(", ")", "[", "]", "'", '"', "\\", "\n", "decrease of ", "e", "^", "*"),
    *("/", "-", "+", ">", "<answer>", "</answer>", "EOF", "null", "NaN", "1e308", "-0", "5e-324", "1e400", "2009", ","),
    *(
        ".",
        "\u200b",
        "\ufeff",
        "#0",
        "const_",
        "table_sum(",
        "add(",
        "\x1b[31m",
        "\x00",
        "\ud800",
        "\\ud800",
        "9" * 400,
    ),
)


def damaged_candidate(programs: list[str], rng: random.Random) -> Any:
    """A program with small changes or a text put together at random, alone or in a field; or no text at all."""
    text = mutated(rng.choice(programs), rng)
    if rng.random() < 0.5:
        text = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 30)))
    forms = [text, text, text, {"program": text}, {"answer": text, "text": text}, [text], json.dumps({"answer": text})]
    return rng.choice([*forms, {"answer": rng.choice(ODD_VALUES)}, damaged_value({"program": text, "answer": 5}, rng)])


def test_every_candidate_is_read_or_has_a_reason_in_bounded_time(folders: dict[str, Path]) -> None:
    rng = random.Random(6)
    questions = rows(folders["questions"] / "dev.jsonl")
    programs = [row["program"] for row in questions]
    read, slowest = 0, (0.0, "")
    for _ in range(rounds(100_000)):
        given, table = damaged_candidate(programs, rng), rng.choice(questions)["table"]
        began = time.process_time()
        made = read_candidate(given, table)
        if len(str(given)) <= 1_000:
            slowest = max(slowest, (time.process_time() - began, repr(given)))
        assert made.answer in ("yes", "no") or math.isfinite(made.answer if made.error is None else 0.0), given
        pool = Pool(id="a", page="p", question="q", table=[], text=[], candidates=[made])
        assert Pool.model_validate_json(encode(pool)) == pool
        read += made.answer is not None
    assert read > rounds(100_000) // 20
    assert slowest[0] < 10 * SECONDS, slowest
