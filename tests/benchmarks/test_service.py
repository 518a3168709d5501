"""The load test of the service runs, loses no request, and its figures are of the form that is documented."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_the_load_test(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="the peer: pip install finrank[bench]")
    report = tmp_path / "report.json"
    command = [sys.executable, "benchmarks/service.py", "--quick", "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    result = json.loads(report.read_text(encoding="utf-8"))
    assert result["device"]
    rows = result["rows"]
    assert [row["clients"] for row in rows] == [1, 4]
    for row in rows:
        assert row["n"] == 8
        assert 300 < row["prefix"] < 480
        assert (row["ours_lost"], row["peer_lost"]) == (0, 0)
        low, high = row["ratio_quartiles"]
        assert 0 < low <= row["ratio"] <= high
        for side in ("ours", "peer"):
            assert row[f"{side}_per_s"] > 0
            assert 0 < row[f"{side}_p50_s"] <= row[f"{side}_p99_s"]
    assert len(done.stdout.splitlines()) == len(rows)
