"""The benchmark of the data stages runs, and its figures are of the form that is documented."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.helpers.scripts import load_script


def test_no_two_questions_of_its_data_sets_are_the_same() -> None:
    benchmark = load_script(REPOSITORY / "benchmarks" / "data_stages.py")
    examples = list(islice(benchmark.distinct_questions(), 2 * benchmark.CHUNK + 100))
    asked = {json.dumps([example["qa"]["question"], example["table"]]) for example in examples}
    assert len(asked) == len({example["id"] for example in examples}) == len(examples)
    tables = {example["filename"]: json.dumps(example["table"]) for example in examples}
    assert len(set(tables.values())) == len(tables)


def test_the_benchmark_of_the_data_stages(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    script = REPOSITORY / "benchmarks" / "data_stages.py"
    command = [sys.executable, str(script), "--quick", "--sizes", "20", "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(report.read_text(encoding="utf-8"))
    rows = result["rows"]
    assert result["device"]
    assert result["data"] == "made like the embedded sample, all questions distinct"
    assert [row["what"] for row in rows] == ["parse", "execute", *["prepare", "candidates", "rewards"] * 2]
    assert [row["n"] for row in rows[2:]] == [20] * 6
    for row in rows[:5]:
        low, high = row["quartiles"]
        assert 0 < low <= row["per_s_per_core"] <= high
    assert all(row["peak_mib"] > 1 for row in rows[2:5])
    assert all(row["same_files"] and row["speed_up"] > 0 for row in rows[5:])
    assert len(done.stdout.splitlines()) == len(rows)
