"""finrank commands in forks of one process that has everything imported: killed, or short of something, in a second.

python -m tests.helpers.forked_commands   reads a `Fault` as a line of JSON, forks, answers with an `Outcome`
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import pkgutil
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).resolve().parents[2]  # workers import this file: tests.conftest would import too much
_ROOMS = ("commands", "evaluation", "generator", "pools", "proposer", "ranker", "sampling", "store", "training")
_LIBRARIES = ("bm25s", "openai", "sympy", "transformers.models.bert.modeling_bert",
              "transformers.models.llama.modeling_llama", "torch._dynamo")  # fmt: skip
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_LONGEST = 120.0  # seconds


@dataclass(frozen=True)
class Fault:
    """A command, and what happens to it."""

    arguments: list[str]
    folder: str
    after: float | None = None  # seconds until kill -9
    before: int | None = None  # kill -9 before this operation on files, from 1
    file_bytes: int | None = None  # that a file may have
    memory_mib: int | None = None  # of addresses, beside what the process has already
    user: int | None = None  # whose rights it has
    patch: str = ""  # Python that runs first


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    output: str
    seconds: float
    operations: int  # on files in its folder: opened for writing, renamed, removed, ...

    @property
    def error(self) -> str:
        """The error, which ends the output of a command that ended with exit code 2 and without a traceback."""
        assert self.code == 2, self.output
        assert "Traceback" not in self.output, self.output
        assert "error: " in self.output
        # Trainer's progress bar stands before it, and is drawn once more at the end.
        return self.output[self.output.rindex("error: ") :].partition("\r")[0].rstrip()


class Commands:
    """Runs commands in a folder; one after the other."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self.folder = process, folder

    def __call__(self, *arguments: str | Path, **fault: Any) -> Outcome:
        """The outcome of a command with the fields of a `Fault`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = Fault(list(map(str, arguments)), str(self.folder), **fault)
        self._process.stdin.write(json.dumps(asdict(request)) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))

    def well(self, *arguments: str | Path) -> Outcome:
        """The outcome of a command that must end well."""
        outcome = self(*arguments)
        assert outcome.code == 0, outcome.output
        return outcome


@contextmanager
def forked_commands(folder: Path) -> Iterator[Commands]:
    """Commands that run in this folder, on one thread each."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "COLUMNS": "200"}
    command = [sys.executable, "-m", "tests.helpers.forked_commands"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, text=True, **pipes) as process:
        yield Commands(process, folder)


@contextmanager
def commands_with_data(folder: Path) -> Iterator[Commands]:
    """Commands in a folder with tiny models, and data of every stage."""
    # Not at the top, which the workers of a command import too.
    from tests.helpers.pools import write_pools
    from tests.helpers.sampling import write_data
    from tests.helpers.saved_ranker import save_tiny_ranker
    from tests.helpers.tiny_generator import save_tiny_causal_lm
    from tests.helpers.tiny_proposer import save_tiny_proposer

    save_tiny_ranker(folder)
    save_tiny_proposer(folder)
    save_tiny_causal_lm(folder / "causal")
    write_pools(folder / "rewarded", train=12, selection=3, dev=8)
    write_data(folder / "questions")
    with forked_commands(folder) as run:
        run.well("sample-data", "--output_dir", "raw", "--train", "60", "--dev", "20", "--test", "0")
        run.well("prepare", "--input_dir", "raw", "--output_dir", "processed")
        run.well("candidates", "--input_dir", "processed", "--output_dir", "candidates")
        yield run


def _serve() -> None:
    # Not at the top, which the workers of a command import too.
    importlib.import_module("finrank.cli")
    for room in _ROOMS:
        package = importlib.import_module(f"finrank.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"finrank.{room}."):
            importlib.import_module(module.name)
    for library in _LIBRARIES:
        importlib.import_module(library)
    # Compiles a thousand regular expressions, once.
    importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("bert")
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        assert threading.active_count() == 1, "a fork would lose the other threads"
        answers.write(json.dumps(asdict(_fork(Fault(**json.loads(line))))) + "\n")
        answers.flush()


def _fork(fault: Fault) -> Outcome:
    operations = mmap.mmap(-1, 8)  # shared with the child
    readable, writable = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(readable)
        _run(fault, writable, operations)
    os.close(writable)
    until, killed, output = began + (fault.after or _LONGEST), False, b""
    with open(readable, "rb", buffering=0) as stream:
        while True:  # until the command and its workers have ended
            if select.select([stream], [], [], max(0.0, until - time.monotonic()))[0]:
                if not (read := stream.read(1 << 16)):
                    break
                output += read
            else:
                assert not killed, "workers outlive their command"
                os.kill(child, signal.SIGKILL)
                until, killed = time.monotonic() + _LONGEST, True
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - began
    code = os.waitstatus_to_exitcode(status)
    return Outcome(code, output.decode(errors="replace"), seconds, int.from_bytes(operations[:8], "little"))


def _run(fault: Fault, output: int, operations: mmap.mmap) -> NoReturn:
    """The life of the child."""
    code = 1
    try:
        os.dup2(output, 1), os.dup2(output, 2)
        os.close(output)
        os.chdir(fault.folder)
        _count_operations(fault, operations)
        if fault.file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_bytes, fault.file_bytes))
        if fault.memory_mib is not None:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + fault.memory_mib * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        if fault.user is not None:
            os.setuid(fault.user)
        exec(fault.patch, {})
        importlib.import_module("finrank.cli").main(fault.arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _count_operations(fault: Fault, operations: mmap.mmap) -> None:
    count = 0

    def hook(event: str, details: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in _CHANGES and not (event == "open" and int(details[2]) & _WRITING):
            return
        if not isinstance(details[0], str | bytes | os.PathLike):
            return
        path = os.fsdecode(details[0])
        if os.path.isabs(path) and not path.startswith(fault.folder):
            return
        count += 1
        if count == fault.before:
            os.kill(os.getpid(), signal.SIGKILL)
        operations[:8] = count.to_bytes(8, "little")

    sys.addaudithook(hook)


if __name__ == "__main__":
    _serve()
