"""The table at the end of `gpu_all.sh`: which parts ran, and the rows of their JSON files. Standard library alone.

    python benchmarks/shared/gpu_table.py OUT

exits with status 1 where a part failed or none ran.
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
# Figures of a row that the table shows, under shorter names; what else identifies a row comes first.
NAMES = ("what", "point", "lever", "estimator", "dtype", "candidates", "pools", "route", "questions", "checkpointing")
FIGURES = {
    "seconds": "s",
    "classification_s": "ours s",
    "generation_s": "generation s",
    "tokens_per_s": "tokens/s",
    "pools_per_s": "pools/s",
    "epoch_min": "epoch min",
    "utilisation": "utilisation",
    "peak_gib": "GiB",
    "memory_saved": "memory saved",
    "ratio": "ratio",
}


def main(folder: Path) -> int:
    """Print the tables; the exit status."""
    parts = [line.split("\t") for line in (folder / "parts.tsv").read_text(encoding="utf-8").splitlines()]
    print("\n".join(table(["part", "result", "s", "file"], [[*part, file_of(folder, part[0])] for part in parts])))
    for name, *_ in parts:
        for line in report(folder / f"{name}.json"):
            print(line)
    return 0 if parts and all(status == "ok" for _, status, _ in parts) else 1


def file_of(folder: Path, name: str) -> str:
    """The counts of the tests; else the name of the part's JSON file, or its log where there is none."""
    tests = folder / f"{name}.xml"
    if tests.exists():
        suite = next(xml.etree.ElementTree.parse(tests).getroot().iter("testsuite")).attrib
        counts = {key: int(suite[key]) for key in ("tests", "failures", "errors", "skipped")}
        (folder / f"{name}.json").write_text(json.dumps(counts) + "\n", encoding="utf-8")
        return ", ".join(f"{key} {value}" for key, value in counts.items())
    return f"{name}.json" if (folder / f"{name}.json").exists() else f"{name}.log"


def report(path: Path) -> Iterator[str]:
    """The lines about a benchmark's file."""
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not result.get("rows"):
        return
    rows: list[Row] = result["rows"]
    names = [key for key in NAMES if any(row.get(key) is not None for row in rows)]
    figures = [key for key in FIGURES if any(row.get(key) is not None for row in rows)]
    yield f"\n{path.stem}: {result['device']}\n"
    cells = [[text(row.get(key)) for key in [*names, *figures]] for row in rows]
    yield from table([*names, *(FIGURES[key] for key in figures)], cells)
    for verdict in [*result.get("goals", []), *result.get("claims", [])]:
        yield "- " + ", ".join(text(value) for value in verdict.values())
    for why in result.get("skipped", []):
        yield f"- left out: {why}"


def table(heading: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in [heading, ["---"] * len(heading), *rows]]


def text(value: object) -> str:
    """A cell."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
