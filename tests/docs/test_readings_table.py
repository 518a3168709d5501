"""The table of what is read as a candidate: current, and representative."""

from __future__ import annotations

from tests.conftest import REPOSITORY
from tests.helpers.readings import READINGS
from tests.helpers.scripts import load_script

SCRIPT = REPOSITORY / "scripts" / "write_readings.py"


def test_the_table_is_current() -> None:
    written = (REPOSITORY / "docs" / "ranking.md").read_text(encoding="utf-8")
    assert written == load_script(SCRIPT).write_readings(), "run make map"


def test_the_table_shows_cases_of_every_kind() -> None:
    shown = [case for case in READINGS if case.in_docs]
    assert len(shown) >= 45
    assert {case.kind for case in shown} == {case.kind for case in READINGS}
