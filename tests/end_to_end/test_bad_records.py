"""Bad records never stop a stage: each is rejected with file, place and reason, and the good ones go through."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finrank.commands.audit import audit
from finrank.commands.candidates import candidates
from finrank.commands.import_predictions import import_predictions
from finrank.commands.prepare import prepare
from finrank.commands.rewards import rewards
from finrank.evaluation.audit.features import features_of
from finrank.evaluation.evaluate import load_pools
from finrank.ranker.prompt import PromptSettings, choose_context, write_candidates
from finrank.records import Candidate, Pool, Question, RewardedPool
from finrank.sources.finqa import Example, to_question
from finrank.sources.questions import read_questions
from finrank.store import load_records
from finrank.store.json_lines import LONGEST_LINE
from tests.helpers.raw_files import raw_example, rejects_of, write_raw

HUGE = "9" * 50_000_000
NESTED = "[" * 100_000 + "]" * 100_000

EXAMPLE = raw_example(
    id="good",
    pre_text=["we paid 40 of 50 ."],
    post_text=[],
    table=[["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"]],
    program="subtract(5829, 5735)",
    exe_ans=94.0,
)
QUESTION = to_question(Example.model_validate(EXAMPLE), 94.0)
POOL = Pool.of(
    QUESTION,
    candidates=[
        Candidate(program="subtract(5829, 5735)", answer=94.0, origin="gold"),
        Candidate(program="add(5829, 5735)", answer=11564.0, origin="corrupted"),
    ],
)


def _text(**changes: Any) -> bytes:
    return json.dumps(EXAMPLE | {"id": "bad"} | changes).encode()


# Elements of a raw file, and a part of the reason.
BAD_ELEMENTS: dict[str, tuple[bytes, str]] = {
    "wrong type": (_text(table="5829"), "table: Input should be a valid list"),
    "endless number": (_text().replace(b"94.0", b"9" * 5000), "qa.exe_ans"),
    "huge cell": (_text(table=[["", HUGE]]), "table.0.1: String should have at most 100000 characters"),
    "huge sentence": (_text(pre_text=[HUGE[:200_000]]), "pre_text.0: String should have at most 100000"),
    "huge id": (_text(id=HUGE), "id: String should have at most 100000"),
    "huge page": (_text(pre_text=["9" * 90_000] * 20), "more than the 1000000 that a record may have"),
    "many faults": (_text(pre_text=[1] * 10_000), "(and 9997 more)"),
    "wrong encoding": (_text(pre_text=["caf@"]).replace(b"@", b"\xe9"), "pre_text.0"),
    "duplicate key": (_text().replace(b'{"id"', b'{"id": "first", "id"'), "the key 'id' occurs twice"),
    "deep nesting": (_text().replace(b"94.0", NESTED.encode()), "nested too deeply"),
    "no JSON": (_text().replace(b"94.0", b"ninety"), "not JSON at character"),
}


def _lines(good: Question) -> dict[str, tuple[bytes, str]]:
    """Lines that stages 02 and 03 cannot use, made from a good one, and a part of the reason."""
    line = good.model_dump_json().encode().replace(b'"good"', b'"bad"')

    def put(old: bytes, new: bytes) -> bytes:
        assert old in line
        return line.replace(old, new, 1)

    too_long = f"more than the {LONGEST_LINE} that a record may have"
    return {
        "wrong type": (put(b'"$ 5829"', b"5829"), "table.1.1: Input should be a valid string"),
        "missing table": (put(b'"table"', b'"elbat"'), "table: Field required"),
        "NaN answer": (put(b'"answer":94.0', b'"answer":NaN'), "answer"),
        "infinite answer": (put(b'"answer":94.0', b'"answer":Infinity'), "answer"),
        "overflowing answer": (put(b'"answer":94.0', b'"answer":1e999'), "answer"),
        "endless number": (put(b'"answer":94.0', b'"answer":' + b"9" * 5000), "Invalid JSON: number out"),
        "huge cell": (put(b"$ 5829", HUGE.encode()), too_long),
        "huge id": (put(b'"bad"', b'"' + HUGE.encode() + b'"'), too_long),
        "huge key": (put(b'"table"', b'"' + HUGE[:500_000].encode() + b'"'), "table: Field required"),
        "many faults": (put(b'["we paid 40 of 50 ."]', json.dumps([1] * 10_000).encode()), "(and 9997 more)"),
        "truncated": (line[: len(line) // 2], "Invalid JSON"),
        "wrong encoding": (put(b"paid", b"p\xe9id"), "Invalid JSON"),
        "lone surrogate": (put(b"paid", b"\\ud800"), "Invalid JSON"),
        "surrogate in the id": (put(b'"bad"', b'"\\ud800"'), "Invalid JSON"),
        "duplicate key": (put(b'{"id"', b'{"id":"first", "id" '), "the key 'id' occurs twice"),
        "deep nesting": (put(b'"$ 5829"', NESTED.encode()), "Invalid JSON: recursion limit exceeded"),
        "no object": (b"null", "record: Input should be an object"),
    }


def _checked_ids(directory: Path, places: Sequence[tuple[str, int]], reasons: Sequence[str]) -> list[str | None]:
    """The ids of the rejects, once their files, places and reasons are those expected."""
    rejects = rejects_of(directory)
    assert [reject[:2] for reject in rejects] == places
    for (*_, reason), expected in zip(rejects, reasons, strict=True):
        assert expected in reason
    return [identifier for _, _, identifier, _ in rejects]


def test_stage_01_rejects_bad_elements_and_a_file_that_breaks_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [json.dumps(EXAMPLE | {"id": f"good-{number}"}).encode() for number in range(len(BAD_ELEMENTS))]
    elements = [part for pair in zip(good, (text for text, _ in BAD_ELEMENTS.values()), strict=True) for part in pair]
    prepare(write_raw(tmp_path / "raw", dev=b"[" + b",\n".join([*elements, _text()[:100]])), tmp_path / "out")
    written = (tmp_path / "out" / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in written] == [f"good-{number}" for number in range(len(good))]
    places = [("dev.json", index) for index in (*range(1, 2 * len(good), 2), 2 * len(good))]
    reasons = [*(reason for _, reason in BAD_ELEMENTS.values()), "nothing from this element on was read"]
    _checked_ids(tmp_path / "out", places, reasons)
    assert "a file breaks off" in capsys.readouterr().err


# Longer than the texts that Python's int() takes, and than the numbers that a float holds.
LONG = "9" * 5_000
LONG_NUMBERS: dict[str, dict[str, Any]] = {
    "sentence": {"pre_text": [f"we paid {LONG} of $ {LONG} in 2009 and {'9' * 80_000} ."]},
    "cell": {"table": [*EXAMPLE["table"], ["costs", f"$ {LONG}", f"-{LONG} ( {LONG} )"]]},
    "header": {"table": [["", LONG, "2008"], EXAMPLE["table"][1]]},
    "label": {"table": [*EXAMPLE["table"], [LONG, "7", "8"]]},
    "question": {"qa": EXAMPLE["qa"] | {"question": f"what is {LONG} ?"}},
    "operand": {"qa": {"question": "what ?", "program": f"greater({LONG}, 5829)", "exe_ans": "yes"}},
    "operand twice": {"qa": {"question": "what ?", "program": f"divide(5829, {LONG}), add(#0, 5735)", "exe_ans": 5735}},
    "small operand": {"qa": {"question": "what ?", "program": f"add(5829, 0.{'0' * 5_000}1)", "exe_ans": 5829.0}},
}


@pytest.mark.parametrize("place", LONG_NUMBERS)
def test_numbers_of_thousands_of_digits_go_through_all_stages(tmp_path: Path, place: str) -> None:
    examples = [EXAMPLE | {"id": "long"} | LONG_NUMBERS[place], EXAMPLE | {"filename": "other page"}]
    prepare(write_raw(tmp_path / "raw", dev=examples), tmp_path / "questions")
    candidates(tmp_path / "questions", tmp_path / "pools")
    rewards(tmp_path / "pools", tmp_path / "rewarded")
    pools = load_records(tmp_path / "rewarded" / "dev.jsonl", RewardedPool)
    assert [pool.id for pool in pools] == ["long", "good"]
    for pool in pools:
        written = write_candidates(pool, pool.candidates, PromptSettings())
        assert len(written) == len([features_of(candidate) for candidate in pool.candidates]) >= 2
        assert choose_context(pool, 50, PromptSettings(), lambda texts: [len(text) for text in texts])


@pytest.mark.parametrize(("stage", "good"), [(candidates, QUESTION), (rewards, POOL)], ids=["02", "03"])
def test_stages_02_and_03_reject_bad_lines(tmp_path: Path, stage: Callable[..., None], good: Question) -> None:
    bad = _lines(good)
    line = good.model_dump_json().encode()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "dev.jsonl").write_bytes(b"".join(text + b"\n" + line + b"\n\n" for text, _ in bad.values()))
    stage(tmp_path / "in", tmp_path / "out")
    written = (tmp_path / "out" / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(text)["id"] for text in written] == ["good"] * len(bad)
    places = [("dev.jsonl", line_number) for line_number in range(1, 3 * len(bad), 3)]
    ids = _checked_ids(tmp_path / "out", places, [reason for _, reason in bad.values()])
    named = {name for name, identifier in zip(bad, ids, strict=True) if identifier == "bad"}
    assert named >= {"huge cell", "truncated", "NaN answer"}


def _as_saved_elsewhere(directory: Path) -> Path:
    """The folder, its records as another program saves them: with a byte order mark, more columns and a bad line."""
    path = directory / "dev.jsonl"
    rows = [json.loads(line) | {"notes": {"seen": 1}} for line in path.read_bytes().splitlines()]
    path.write_text("\n".join([*map(json.dumps, rows), '{"id": "torn']), encoding="utf-8-sig")
    return directory


def test_files_saved_by_another_program_lose_no_record_in_any_stage(tmp_path: Path) -> None:
    examples = [EXAMPLE | {"id": f"{page}-{n}", "filename": page} for page in "ab" for n in range(2)]
    raw = write_raw(tmp_path / "raw", dev=b"\xef\xbb\xbf" + json.dumps(examples).encode())
    prepare(raw, tmp_path / "questions")
    candidates(_as_saved_elsewhere(tmp_path / "questions"), tmp_path / "pools", num_candidates=4)
    rewards(_as_saved_elsewhere(tmp_path / "pools"), tmp_path / "rewarded")
    rewarded = _as_saved_elsewhere(tmp_path / "rewarded")
    names = [example["id"] for example in examples]
    assert [pool.id for pool in load_pools(rewarded, "dev")] == names
    assert audit(rewarded, split="dev", candidate_only="skip").n == 4
    for folder in ("questions", "pools", "rewarded"):
        asked = [question for _, question in read_questions(tmp_path / folder / "dev.jsonl")]
        assert [question.id for question in asked] == [*names, None]
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text("\n".join(json.dumps({"id": n, "answer": 94}) for n in names), encoding="utf-8-sig")
    import_predictions([predictions], tmp_path / "imported", data=rewarded, split="dev")
    assert [pool.id for pool in load_records(tmp_path / "imported" / "dev.jsonl", Pool)] == names
