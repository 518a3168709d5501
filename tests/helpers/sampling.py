"""What the tests of sampling share: questions, a stub that answers well, and a run against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finrank.commands.sample import sample
from finrank.pools.completion import write_completion
from finrank.records import Pool, Question
from finrank.store import load_records
from tests.helpers.endpoint_stub import Answer, Stub

TABLE = [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"]]
KEY = "sk-a-very-secret-key"


def question(identifier: str, **changes: Any) -> Question:
    """A question on a page of its own."""
    fields: dict[str, Any] = {"text": ["a ."], "program": "subtract(5829, 5735)", "answer": 94.0} | changes
    page, text = f"page {identifier}", f"what is {identifier} ?"
    return Question(id=identifier, page=page, question=text, table=TABLE, **fields)


def write(path: Path, records: list[Question]) -> Path:
    """Write a file of questions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(record.model_dump_json() + "\n" for record in records), encoding="utf-8")
    return path


def write_data(folder: Path) -> Path:
    """Questions d0 to d4 in dev, the last without known gold; t0 and t1 in train."""
    dev = [question(f"d{number}") for number in range(4)] + [question("d4", program=None, answer=None)]
    write(folder / "dev.jsonl", dev)
    write(folder / "train.jsonl", [question("t0"), question("t1")])
    return folder


def run(data: Path, out: Path, stub: Stub, num_candidates: int = 3, **options: Any) -> dict[str, Any]:
    """Sample from the stub with few and short retries; options as those of `sample`."""
    options = {"max_retries": 1, "timeout": 5.0} | options
    return sample(["my-llm"], stub.url, data, out, num_candidates=num_candidates, **options)


def pools(directory: Path, split: str = "dev") -> dict[str, Pool]:
    """The pools of a split, by id."""
    return {pool.id: pool for pool in load_records(directory / f"{split}.jsonl", Pool)}


def rejects(directory: Path) -> list[tuple[str, int, str, str]]:
    """The rows of rejects.jsonl."""
    rows = [json.loads(line) for line in (directory / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["file"], row["line"], row["id"], row["reason"]) for row in rows]


def contents(directory: Path) -> dict[str, bytes]:
    """The bytes of all files but the manifest."""
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.jsonl"))}


def asked_id(request: dict[str, Any]) -> str:
    """The id of the question in a request."""
    return str(request["messages"][1]["content"].rpartition("what is ")[2].removesuffix(" ?"))


def good(request: dict[str, Any], number: int) -> Answer:
    """Programs that depend on question and seed."""
    value = int(asked_id(request)[1:])
    programs = [f"add({value}, {request['seed'] % 1000 + index})" for index in range(request.get("n", 1))]
    return Answer([write_completion(program) for program in programs])
