"""House rules that a machine can check: imports run one way, data rooms need no torch, files stay readable."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "src" / "finrank"
# A room may import from rooms of lower tiers, and from its own tier where TOGETHER says so.
TIERS = [
    {"records", "console"},
    {"programs", "json_lines"},
    {"store"},
    {"parallel"},
    {"sources", "candidates", "rewards", "equal_answers"},
    {"evidence", "labels", "program_places", "prompt"},
    {"ranker"},
    {"training", "evaluation", "serving"},
    {"stages"},
    {"cli_options"},
    {"cli_data", "cli_sample", "cli_training", "cli_evaluation", "cli_use"},
    {"cli"},
]
TOGETHER = {
    ("labels", "evidence"),
    ("program_places", "labels"),
    ("prompt", "evidence"),
    ("prompt", "labels"),
    ("training", "evaluation"),
}
LEVEL = {room: level for level, tier in enumerate(TIERS) for room in tier}
TORCH = {"torch", "transformers", "peft", "accelerate"}
TORCH_FROM = LEVEL["ranker"]
MOST_LINES = 60  # of a function


def imported(source: str) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            if node.module == "finrank":
                names += [f"finrank.{alias.name}" for alias in node.names]
    return names


def climbing(room: str, source: str) -> list[str]:
    """The imports of a file that break the rules."""
    bad = []
    for name in imported(source):
        parts = name.split(".")
        if parts[0] == "finrank" and len(parts) > 1:
            other = parts[1]
            allowed = other == room or LEVEL[other] < LEVEL[room] or (room, other) in TOGETHER
            if not allowed:
                bad.append(name)
        elif parts[0] in TORCH and LEVEL[room] < TORCH_FROM:
            bad.append(name)
    return bad


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


ENTRY_POINTS = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path not in ENTRY_POINTS]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    assert climbing(room_of(path), path.read_text(encoding="utf-8")) == []


def test_an_import_that_climbs_is_seen() -> None:
    assert climbing("programs", "from finrank.ranker import model") == ["finrank.ranker"]
    assert climbing("rewards", "def f():\n    import torch") == ["torch"]
    assert climbing("evaluation", "from finrank.training import sft") == ["finrank.training"]
    assert climbing("stages", "from finrank.training import sft") == []


def test_checking_data_starts_without_torch() -> None:
    code = "import sys, finrank.cli, finrank.stages.check; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def long_functions(source: str, most: int) -> dict[str, int]:
    """The functions of a file with more lines than `most`, signature and docstring included: name -> lines."""
    functions = [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    lines = [(one.name, (one.end_lineno or one.lineno) - one.lineno + 1) for one in functions]
    return {name: count for name, count in lines if count > most}


def test_functions_stay_readable() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    long = {str(path): found for path, source in sources.items() if (found := long_functions(source, MOST_LINES))}
    assert long == {}


def test_a_long_function_is_seen() -> None:
    source = "class A:\n    def f(\n        self,\n    ) -> int:\n        return 1\n"
    assert long_functions(source, 3) == {"f": 4}
    assert long_functions(source, 4) == {}


def test_files_stay_readable() -> None:
    code = [path for folder in ("src", "tests", "scripts") for path in (REPOSITORY / folder).rglob("*.py")]
    long = {str(path): count for path in code if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400}
    assert long == {}
