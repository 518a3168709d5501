"""A clock that is set back by an hour whenever it is read, and files from the future: no command asks the time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.test_kills import LINES, STAGES, TRAININGS, begin_or_resume, contents, result
from tests.helpers.endpoint_stub import Answer, error, serving
from tests.helpers.forked_commands import Commands, commands_with_data
from tests.helpers.sampling import good

pytestmark = pytest.mark.slow

SET_BACK = """
import os, time
honest, reads = time.time, []
def jumping():
    reads.append(None)
    return honest() - 3600 * len(reads)
time.time = jumping
# The older a checkpoint, the later its time.
os.path.getmtime = lambda path: -float(str(path).rpartition("-")[2])
"""
FUTURE = 4102444800  # 2100
COMMANDS = {
    **{name: [*command, "--output_dir", "out"] for name, command in STAGES.items()},
    **{name: [*command, "--output", "out/lines.jsonl"] for name, command in LINES.items()},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands in a folder whose files are from the future."""
    folder = tmp_path_factory.mktemp("clock")
    with commands_with_data(folder) as run:
        for path in folder.rglob("*"):
            os.utime(path, (FUTURE, FUTURE))
        yield run


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_writes_does_not_depend_on_the_clock(run: Commands, name: str) -> None:
    here = Commands(run._process, run.folder / f"clock-{name}")
    here.folder.mkdir()
    here.well(*COMMANDS[name])
    whole = contents(here.folder / "out")
    shutil.rmtree(here.folder / "out")
    outcome = here(*COMMANDS[name], patch=SET_BACK)
    assert outcome.code == 0, outcome.output
    assert contents(here.folder / "out") == whole


def test_a_training_keeps_the_checkpoint_of_the_last_step_and_measures_its_time(run: Commands) -> None:
    here = Commands(run._process, run.folder / "clock-sft")
    here.folder.mkdir()
    still = ["--set", "learning_rate=1e-12"]  # the first checkpoint stays the best one, which Trainer keeps anyway
    command = [*TRAININGS["sft"], *still, "--input_dir", "../rewarded", "--output_dir"]
    whole = here.well(*command, "whole")
    killed = here(*command, "out", patch=SET_BACK, before=whole.operations - 3)
    assert killed.code == -9
    stage = here.folder / "out" / "run_001" / "04_sft"
    assert (stage / "checkpoints" / "checkpoint-4").is_dir()
    begin_or_resume(here, [*command, "out"], patch=SET_BACK)
    assert result(stage) == result(here.folder / "whole" / "run_001" / "04_sft")
    manifest = json.loads((stage / "training_manifest.json").read_text())
    assert 0 <= manifest["train_seconds"] <= manifest["seconds"] < 60


def test_sampling_waits_no_hour_before_it_asks_again(run: Commands) -> None:
    here = Commands(run._process, run.folder / "clock-sample")
    here.folder.mkdir()

    def busy_at_first(request: dict[str, Any], number: int) -> Answer:
        busy = error(503, "busy", retry_after=formatdate(FUTURE if number else 0, usegmt=True))
        return busy if number < 2 else good(request, number)

    with serving(busy_at_first) as stub:
        command = ["sample", "--endpoint", stub.url, "--model", "my-llm", "--input_dir", "../questions"]
        outcome = here(*command, "--output_dir", "out", "--num_candidates", "3", patch=SET_BACK)
    assert outcome.code == 0, outcome.output
    assert outcome.seconds < 60


def test_a_command_that_asks_the_time_would_be_seen(run: Commands) -> None:
    patch = f"{SET_BACK}\nimport finrank.cli, sys\nsys.exit(7 if time.time() < honest() - 3000 else 0)"
    assert Path(run.folder).is_dir()
    assert run("doctor", patch=patch).code == 7
