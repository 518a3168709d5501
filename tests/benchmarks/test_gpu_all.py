"""`gpu_all.sh` runs whole at toy size on a CPU, and a part that fails leaves the others and the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.scripts import BENCHMARKS

SCRIPT = BENCHMARKS / "gpu_all.sh"
PARTS = ["tests", "scoring_gpu", "llama_8b_gpu", "generation_vs_classification"]
# In place of Python: parts whose command has FAILS exit with 3, the table is made, and all else does nothing.
STUB = """#!/usr/bin/env bash
[[ "$*" != *gpu_table.py* ]] || exec {python} "$@"
echo "ran $*"
[[ "$*" != *"${{FAILS:-none}}"* ]] || exit 3
"""


def run(folder: Path, *arguments: str, **variables: str) -> tuple[int, str, list[list[str]]]:
    """The exit status, what was printed, and the parts with their results."""
    environment = {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **variables}
    command = ["bash", str(SCRIPT), *arguments[:1], str(folder / "out"), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    lines = (folder / "out" / "parts.tsv").read_text().splitlines()
    return done.returncode, done.stdout, [line.split("\t")[:2] for line in lines]


def stub(folder: Path) -> str:
    path = folder / "python"
    path.write_text(STUB.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


@pytest.mark.slow
def test_the_whole_script_at_toy_size_installs_and_measures(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    facts = "Metadata-Version: 2.1\nName: tinywheel\nVersion: 1.0\n"
    with zipfile.ZipFile(wheels / "tinywheel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tinywheel.py", "")
        wheel.writestr("tinywheel-1.0.dist-info/METADATA", facts)
        wheel.writestr("tinywheel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tinywheel-1.0.dist-info/RECORD", "")
    needed = tmp_path / "requirements.txt"
    needed.write_text("tinywheel\n")
    code, printed, parts = run(tmp_path, str(wheels), "--toy", REQUIREMENTS=str(needed))
    assert (code, parts) == (0, [[name, "ok"] for name in ["install", *PARTS]]), printed[-2000:]
    out = tmp_path / "out"
    assert (out / "packages" / "tinywheel.py").exists()
    for name in PARTS[1:]:
        assert json.loads((out / f"{name}.json").read_text())["rows"]
    table = (out / "table.md").read_text()
    assert table in printed
    for line in ("| tests | ok |", "| training | fastest |", "| ranking |", "| RL step |", "| scoring | float32 |"):
        assert line in table


@pytest.mark.parametrize("failing", PARTS)
def test_a_part_that_fails_says_so_and_the_others_run(failing: str, tmp_path: Path) -> None:
    mark = {"tests": "-m pytest"}.get(failing, f"benchmarks/{failing}.py")
    code, printed, parts = run(tmp_path, "-", PYTHON=stub(tmp_path), FAILS=mark)
    assert code == 1
    assert parts == [[name, "failed with status 3" if name == failing else "ok"] for name in PARTS]
    assert f"| {failing} | failed with status 3 |" in printed
    limits = [int(line.split(" at most ")[1].split()[0]) for line in printed.splitlines() if line.startswith("== ")]
    assert len(limits) == len(PARTS)
    assert all(limit > 80 for limit in limits)


def test_an_installation_that_fails_leaves_what_the_machine_has(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    code, _, parts = run(tmp_path, str(tmp_path / "wheels"), PYTHON=stub(tmp_path), FAILS="pip install")
    assert (code, parts[0]) == (1, ["install", "failed with status 3"])
    assert [name for name, result in parts[1:] if result == "ok"] == PARTS


def test_without_time_no_part_starts_and_the_table_says_so(tmp_path: Path) -> None:
    code, printed, parts = run(tmp_path, "-", PYTHON=stub(tmp_path), TOTAL_S="1")
    assert (code, parts) == (1, [[name, "no time was left"] for name in PARTS])
    assert "| tests | no time was left |" in printed


def test_a_part_that_hangs_is_stopped(tmp_path: Path) -> None:
    hanging = Path(stub(tmp_path))
    hanging.write_text(hanging.read_text() + '[[ "$*" != *"-m pytest"* ]] || exec sleep 60\n')
    _, _, parts = run(tmp_path, "-", PYTHON=str(hanging), TOTAL_S="40")
    assert parts[0] in (["tests", "stopped after 10 s"], ["tests", "stopped after 9 s"])  # a second may have passed
    assert parts[1] == ["scoring_gpu", "ok"]


def test_the_usage_is_that_of_the_header() -> None:
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "bash benchmarks/gpu_all.sh WHEELS OUT [--toy]" in done.stderr
    assert "set -uo" not in done.stderr
