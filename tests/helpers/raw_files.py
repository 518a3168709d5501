"""Raw files in the official FinQA layout, the report of stage 00 on them, and the rejects of any stage."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import typer

from finrank.commands.check import check

EXAMPLE: dict[str, Any] = {
    "id": "V/2008/page_17.pdf-1",
    "filename": "V/2008/page_17.pdf",
    "pre_text": ["before .", " "],
    "post_text": ["after ."],
    "table": [["", "2008"], ["volume", "$ 637"]],
    "qa": {
        "question": "what is the average ?",
        "answer": "127.40",
        "program": "divide(637, const_5)",
        "exe_ans": 127.4,
        "gold_inds": {"table_1": "the volume of 2008 is $ 637 ;"},
    },
}


def raw_example(**changes: Any) -> dict[str, Any]:
    """EXAMPLE with fields of it or of its `qa` changed; a field set to ... is removed."""
    raw = copy.deepcopy(EXAMPLE)
    for name, value in changes.items():
        part = raw["qa"] if name in EXAMPLE["qa"] else raw
        part[name] = value
        if value is ...:
            del part[name]
    return raw


def write_raw(folder: Path, **splits: Any) -> Path:
    """The folder with `{split}.json` for each split: bytes as they are, anything else as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, content in splits.items():
        written = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / f"{split}.json").write_bytes(written)
    return folder


def run_check(raw: Path, **options: Any) -> tuple[int, dict[str, Any], dict[str, dict[str, Any]]]:
    """Exit code and JSON report of `finrank check`, and the report's findings with a count, by name."""
    path = raw.parent / "report" / "check.json"
    code = 0
    try:
        check(raw, path, **{"config": ["none"], **options})
    except typer.Exit as stop:
        code = stop.exit_code
    report = json.loads(path.read_text(encoding="utf-8"))
    return code, report, {finding["name"]: finding for finding in report["findings"] if finding["count"]}


def rejects_of(directory: Path) -> list[tuple[str, int, str | None, str]]:
    """File, line, id and reason of every reject; all are short, whatever the records hold."""
    lines = (directory / "rejects.jsonl").read_bytes().splitlines()
    assert all(len(line) < 1000 for line in lines)
    return [tuple(json.loads(line)[key] for key in ("file", "line", "id", "reason")) for line in lines]
