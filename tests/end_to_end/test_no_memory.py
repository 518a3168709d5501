"""Too little memory for a command: one error line with what to do, and the earlier result as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.test_kills import LINES, STAGES, TRAININGS, contents
from tests.helpers.forked_commands import Commands, commands_with_data

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no system that limits addresses"),
]

COMMANDS = {
    **{name: [*command, "--output_dir", "out"] for name, command in STAGES.items()},
    **{name: [*command, "--output", "out/lines.jsonl", "--overwrite"] for name, command in LINES.items()},
    "evaluate": ["evaluate", "--model", "../model", "--data", "../rewarded", "--json", "out/figures.json"],
    **{name: [*TRAININGS[name], "--input_dir", "../rewarded", "--output_dir", "out"] for name in ("sft", "proposer")},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands in a folder with data of every stage, and tiny models."""
    folder = tmp_path_factory.mktemp("memory")
    with commands_with_data(folder) as run:
        yield run


@pytest.mark.parametrize("name", COMMANDS)
def test_too_little_memory_is_an_error_line_and_harms_nothing(run: Commands, name: str) -> None:
    here = Commands(run._process, run.folder / f"of-{name}")
    here.folder.mkdir()
    ended = []
    for mib in (4, 12, 24, 48):  # beside what Python and the libraries have: in the data, the model, the first pass
        outcome = here(*COMMANDS[name], memory_mib=mib)
        ended.append(outcome.code)
        if outcome.code == 0:
            break
        assert outcome.error.lower().startswith("error: out of memory"), outcome.output
        assert not [path for path in here.folder.rglob("*") if path.name.endswith(("partial", ".lock", ".old"))
                    and "checkpoints" not in path.parts]  # fmt: skip
    assert ended[0] == 2
    here.well(*COMMANDS[name])


@pytest.mark.parametrize("name", STAGES)
def test_too_little_memory_leaves_the_earlier_result(run: Commands, name: str) -> None:
    here = Commands(run._process, run.folder / f"earlier-{name}")
    here.folder.mkdir()
    here.well(*COMMANDS[name], "--seed", "1")
    earlier = contents(here.folder)
    assert here(*COMMANDS[name], "--seed", "2", memory_mib=4).error.startswith("error: out of memory: ")
    assert contents(here.folder) == earlier
