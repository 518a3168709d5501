"""A disk that fills up under each command, and one that is read-only: one error line, and nothing is harmed.

A small disk in memory where the machine lets a test mount one; a limit on the size of files does it everywhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.end_to_end.test_kills import LINES, STAGES, TRAININGS, begin_or_resume, contents, result
from tests.helpers.endpoint_stub import serving
from tests.helpers.forked_commands import Commands, commands_with_data
from tests.helpers.pools import write_splits
from tests.helpers.sampling import good
from tests.helpers.small_disks import mounted, nearly_full
from tests.unit.commands.test_fit import systems_pools

pytestmark = pytest.mark.slow

MODEL = ["--model", "../model", "--data", "../rewarded"]
FILES = {
    "evaluate": ["evaluate", *MODEL, "--no-save_confidence", "--json", "out/figures.json"],
    "report": ["evaluate", *MODEL, "--no-save_confidence", "--html", "out/report.html"],
    "fit": ["fit", "--model", "../model", "--data", "../imported", "--output_dir", "out"],
    "audit": ["audit", "--input_dir", "../rewarded", "--candidate_only", "skip", "--json", "out/figures.json"],
    "export": ["export", "--model", "../model", "--to", "finrank", "--output_dir", "out"],
    "sample-data": ["sample-data", "--output_dir", "out", "--train", "20", "--dev", "8", "--test", "8"],
}
COMMANDS = {
    **{name: [*command, "--output_dir", "out"] for name, command in STAGES.items() if name != "workers"},
    **{name: [*command, "--output", "out/lines.jsonl"] for name, command in LINES.items()},
    **FILES,
    **{name: [*command, "--input_dir", "../rewarded", "--output_dir", "out"] for name, command in TRAININGS.items()},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands in a folder with data of every stage, and tiny models."""
    folder = tmp_path_factory.mktemp("disks")
    write_splits(folder / "imported", {"dev": systems_pools({"good": 0.9, "bad": 0.2}, n=12)})
    with commands_with_data(folder) as run:
        yield run


@pytest.fixture(scope="module")
def whole(run: Commands) -> Callable[[str], dict[str, bytes]]:
    """What a command leaves where there is room enough, made when it is asked for first."""

    @cache
    def whole(name: str) -> dict[str, bytes]:
        here = Commands(run._process, run.folder / f"whole-{name}")
        here.folder.mkdir()
        return repeated(here, name)

    return whole


def repeated(here: Commands, name: str) -> dict[str, bytes]:
    """What a command leaves when it is repeated, a training with --resume: every file of `out`, or of both models."""
    (begin_or_resume if name in TRAININGS else lambda here, command: here.well(*command))(here, COMMANDS[name])
    stages = sorted(here.folder.glob("out/run_*/0?_*"))
    return result(stages[-1])[0] if stages else contents(here.folder / "out")


def check_error(error: str) -> None:
    """One line that names the output folder, or a file in it, and what to do."""
    (line,) = error.splitlines()
    assert "out" in line.partition(" cannot be written: ")[0], line
    assert "make room there and repeat the command" in line, line


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_an_error_line_and_the_command_can_be_repeated(
    run: Commands, whole: Callable[[str], dict[str, bytes]], name: str
) -> None:
    used = sum(-(-len(content) // 4096) * 4096 for content in whole(name).values())
    with mounted(run.folder / f"disk-{name}") as disk:
        here = Commands(run._process, disk)
        for share in (0.0, 0.5):
            with nearly_full(disk, int(share * used)):
                check_error(here(*COMMANDS[name]).error)
        assert repeated(here, name) == whole(name)
        assert [path.name for path in disk.iterdir()] == ["out"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_limit_on_files_is_an_error_line(run: Commands, whole: Callable[[str], dict[str, bytes]], name: str) -> None:
    here = Commands(run._process, run.folder / f"limit-{name}")
    here.folder.mkdir()
    check_error(here(*COMMANDS[name], file_bytes=max(map(len, whole(name).values())) // 2).error)


def test_a_full_disk_costs_no_completion_that_was_received(run: Commands) -> None:
    with serving(good) as stub, mounted(run.folder / "disk-sample") as disk:
        here = Commands(run._process, disk)
        command = ["sample", "--endpoint", stub.url, "--model", "my-llm", "--input_dir", "../questions"]
        command += ["--output_dir", "out", "--num_candidates", "3"]
        here.well(*command)
        whole, asked = contents(disk / "out"), len(stub.requests)
        shutil.rmtree(disk / "out")
        for free in (0, 2 * 4096):
            with nearly_full(disk, free):
                check_error(here(*command).error)
        here.well(*command)
        assert contents(disk / "out") == whole
        assert len(stub.requests) <= 2 * asked + 2  # at most what was not yet written is asked again


@pytest.mark.parametrize("name", [name for name in STAGES if name != "workers"])
def test_a_full_disk_leaves_the_earlier_result(run: Commands, name: str) -> None:
    with mounted(run.folder / f"earlier-{name}") as disk:
        here = Commands(run._process, disk)
        here.well(*COMMANDS[name], "--seed", "1")
        earlier = contents(disk)
        with nearly_full(disk, 4096):
            check_error(here(*COMMANDS[name], "--seed", "2").error)
        assert contents(disk) == earlier


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_folder_is_an_error_line(run: Commands, name: str) -> None:
    folder = run.folder / f"readonly-{name}"
    folder.mkdir()
    here = Commands(run._process, folder)
    if os.geteuid() != 0:
        folder.chmod(0o555)
        error = here(*COMMANDS[name]).error
    else:  # root may write whatever a folder's permissions are
        with mounted(folder, "-t", "tmpfs", "-o", "ro", "none"):
            error = here(*COMMANDS[name]).error
    (line,) = error.splitlines()
    assert "out" in line
    fault, _, what_to_do = line.rpartition(": ")
    assert fault.endswith(("cannot be written: Read-only file system", "cannot be written: Permission denied"))
    assert what_to_do == "choose another place, or make this one writable"
    assert list(folder.iterdir()) == []
