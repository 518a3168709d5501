"""Write the table of what is read as a candidate into docs/ranking.md, from its test cases. `make map` calls it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from finrank.pools.candidate import read_candidate  # noqa: E402
from tests.helpers.readings import READINGS, TABLE, Reading  # noqa: E402

PAGE = ROOT / "docs" / "ranking.md"
BEGIN, END = "<!-- readings: written by make map -->\n", "<!-- end of readings -->\n"


def shown(given: object) -> str:
    """A text or JSON value as code in a cell of a table."""
    text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    text = text.replace("\n", "⏎").replace("\t", "⇥").replace("\u200b", "␣").replace("|", "\\|")
    fence = "``" if "`" in text else "`"
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def meaning(case: Reading) -> str:
    """What a case is read as: its program with the value, its answer, or the reason why it has no value."""
    made = read_candidate(case.given, TABLE)
    if made.answer is None:
        return f"no value: {made.error}".replace("|", "\\|")
    program = f"`{case.program}` = " if case.program else ""
    return f"{program}{made.answer}{f'; {made.error}' if made.error else ''}"


def write_readings() -> str:
    """The page with its table; cases of one meaning share a row."""
    rows: dict[tuple[object, ...], list[Reading]] = {}
    for case in READINGS:
        if case.in_docs:
            rows.setdefault((case.program, case.answer, case.error), []).append(case)
    lines = ["| given | read as |", "|---|---|"]
    lines += [
        f"| {'<br>'.join(shown(case.given) for case in cases)} | {meaning(cases[0])} |" for cases in rows.values()
    ]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n".join(lines) + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(write_readings(), encoding="utf-8")
