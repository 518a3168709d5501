"""What a benchmark reads and writes: its command line, JSON, printed rows, and tables in docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finrank.console import say

Row = dict[str, Any]
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def parser(description: str | None, quick: str, *, docs: bool = True, resumes: bool = False) -> argparse.ArgumentParser:
    """The options of every benchmark; `quick` says what --quick measures, `docs` adds --write_docs."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help=quick)
    options.add_argument("--json", type=Path, help="write all figures to this file")
    if docs:
        options.add_argument("--write_docs", action="store_true", help="replace the section in docs/benchmarks.md")
    return options


def device(*packages: str) -> str:
    """The GPU, or the processor with its cores (torch's threads where that is loaded), and versions."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        name = str(torch.cuda.get_device_name())
    else:
        info = Path("/proc/cpuinfo")
        model = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
        threads = f"{torch.get_num_threads()} threads" if torch else f"{os.cpu_count()} cores"
        name = f"{model.group(1) if model else platform.machine()}, {threads}"
    return ", ".join(
        [name, f"Python {platform.python_version()}", *(f"{package} {version(package)}" for package in packages)]
    )


def show(row: Row) -> Row:
    """Print the figures of a row in one line, and return it."""
    say("  ".join(f"{name} {_text(value)}" for name, value in row.items() if value is not None))
    return row


def _text(value: object) -> str:
    if isinstance(value, list):
        return "-".join(map(_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_results(path: Path | None, rows: Sequence[Row], **facts: Any) -> None:
    """Write {"device": ..., facts, "rows": [...]} as JSON, if there is a path; its folder is made where missing.

    The file is whole at any moment: it is written beside its place and renamed.
    """
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        result = {"device": device(), **facts, "rows": list(rows)}
        beside = path.with_name(f".{path.name}.part")
        beside.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        beside.replace(path)


class Report:
    """The rows of a run, each printed and written when it is measured, so that a run that dies keeps them."""

    def __init__(self, path: Path | None, **facts: Any) -> None:
        self.path, self.facts = path, facts
        self._rows: dict[object, Row] = {}

    @property
    def rows(self) -> list[Row]:
        """The rows in the order in which they were first measured."""
        return list(self._rows.values())

    def put(self, row: Row, name: object = None, *, printed: bool = True) -> None:
        """Add a row; an earlier one of the same name is replaced."""
        self._rows[len(self._rows) if name is None else name] = show(row) if printed else row
        self.write()

    def write(self) -> None:
        """Write all rows and facts."""
        write_results(self.path, self.rows, **self.facts)


def measured_before(path: Path | None, rounds: int) -> list[Row]:
    """The rows of an earlier run on the same device that have at least so many rounds."""
    if path is None or not path.exists():
        return []
    earlier = json.loads(path.read_text(encoding="utf-8"))
    if earlier["device"] != device():
        raise SystemExit(f"{path} was measured on {earlier['device']}: choose another file")
    kept = [row for row in earlier["rows"] if row.get("rounds", 0) >= rounds]
    if kept:
        say(f"{path}: {len(kept)} rows of an earlier run are kept; remove the file to measure them again")
    return kept


def write_section(name: str, text: str, path: Path = PAGE) -> None:
    """Replace the part of docs/benchmarks.md between the markers of a benchmark."""
    begin, end = f"<!-- {name}: written by the command -->", f"<!-- end of {name} -->"
    page = path.read_text(encoding="utf-8")
    if page.count(begin) != 1 or page.count(end) != 1:
        raise SystemExit(f"{path} must hold the lines {begin} and {end} once each")
    head, rest = page.split(begin)
    path.write_text(f"{head}{begin}\n{text.strip()}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def table(columns: Mapping[str, str], rows: Sequence[Row]) -> str:
    """A Markdown table; a column is its heading and the format of its cell.

    >>> print(table({"N": "{n}", "ours": "{ours_s:.3f} s"}, [{"n": 8, "ours_s": 0.5}]))
    | N | ours |
    | --- | --- |
    | 8 | 0.500 s |
    """
    cells = [[form.format(**row) for form in columns.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(columns), ["---"] * len(columns), *cells])


def with_quartiles(name: str, quartiles: str, digits: int = 2) -> str:
    """The format of a median with its quartiles, for a cell of `table`.

    >>> with_quartiles("ratio", "ratio_quartiles").format(ratio=2.0, ratio_quartiles=[1.504, 2.5])
    '2.00 (1.50-2.50)'
    """
    first, third = f"{{{quartiles}[0]:.{digits}f}}", f"{{{quartiles}[1]:.{digits}f}}"
    return f"{{{name}:.{digits}f}} ({first}-{third})"


RATIO = with_quartiles("ratio", "ratio_quartiles")
