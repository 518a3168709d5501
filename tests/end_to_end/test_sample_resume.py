"""A sampling run that was killed resumes: nothing is asked for twice, and the pools are those of an unbroken run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.endpoint_stub import Answer, serving
from tests.helpers.live_server import wait_until
from tests.helpers.sampling import asked_id, contents, good, run, write_data


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_resumes_and_asks_for_nothing_twice(tmp_path: Path, by: signal.Signals) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    hanging = Answer(hang=True)
    with serving(lambda request, number: good(request, number) if number < 4 else hanging) as stub:
        command = [sys.executable, "-m", "finrank", "sample", "--endpoint", stub.url, "--model", "my-llm"]
        options = ["--input_dir", str(data), "--output_dir", str(out), "--num_candidates", "3", "--concurrency", "2"]
        process = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
        wait_until(lambda: len(stub.requests) == 6)
        os.kill(process.pid, by)
        assert process.wait(30) == {signal.SIGKILL: -by, signal.SIGTERM: 143}[by]
        journal = tmp_path / "out.journal.jsonl"
        assert not out.exists()
        assert len(journal.read_bytes().splitlines()) == 5
        with journal.open("ab") as file:
            file.write(b'{"key": "torn')  # as a kill in the middle of a line leaves it
        stub.behave = good
        run(data, out, stub)
        asked = [asked_id(request) for request in stub.requests]
    assert len(asked) == 6 + 3
    assert sorted(asked[:4] + asked[6:]) == ["d0", "d1", "d2", "d3", "d4", "t0", "t1"]
    assert not journal.exists()
    with serving(good) as stub:
        run(data, tmp_path / "whole", stub)
    assert contents(out) == contents(tmp_path / "whole")
