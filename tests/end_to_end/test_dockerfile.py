"""The Dockerfile, without an engine: what can be read from it, and its steps in a temporary folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import venv
from pathlib import Path

import pytest
import typer

from finrank.cli import app
from tests.conftest import REPOSITORY

SHELL_COMMANDS = {"python", "useradd", "/opt/finrank/bin/pip"}  # of the base image, and of the environment made before
INSTRUCTIONS = [
    tuple(line.split(maxsplit=1))
    for line in (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def arguments_of(instruction: str) -> list[str]:
    """What follows an instruction, each time that it occurs."""
    return [arguments for name, arguments in INSTRUCTIONS if name == instruction]


def copied() -> list[str]:
    """The files and folders of the repository that are copied into the image."""
    steps = [shlex.split(arguments) for arguments in arguments_of("COPY")]
    return [source for step in steps if not step[0].startswith("--from") for source in step[:-1]]


COMMAND = json.loads(arguments_of("CMD")[0])
HEALTH = json.loads(arguments_of("HEALTHCHECK")[0].partition("CMD ")[2])
PORT = COMMAND[COMMAND.index("--port") + 1]


def test_every_line_is_an_instruction() -> None:
    known = {"FROM", "WORKDIR", "RUN", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}
    assert {name for name, _ in INSTRUCTIONS} == known
    assert INSTRUCTIONS[0][0] == "FROM"
    assert INSTRUCTIONS[-1][0] == "CMD"


def test_the_base_is_a_slim_python_of_one_version_that_finrank_supports() -> None:
    (base,) = {of.removesuffix(" AS build") for of in arguments_of("FROM")}
    pinned = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-bookworm", base)
    assert pinned is not None
    supported = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    assert supported == f">={pinned[1]}"


def test_it_runs_as_a_user_without_rights() -> None:
    (user,) = arguments_of("USER")
    assert user != "root"
    assert any(step.startswith("useradd ") and step.endswith(f" {user}") for step in arguments_of("RUN"))
    names = [name for name, _ in INSTRUCTIONS]
    assert "RUN" not in names[names.index("USER") :]


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    assert [source for source in copied() if not (REPOSITORY / source).exists()] == []
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied())


def test_commands_are_there_and_take_their_options() -> None:
    steps = [shlex.split(step) for step in arguments_of("RUN")]
    assert {step[0] for step in steps} == SHELL_COMMANDS
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = [step[-1] for step in steps if step[1] == "install"]
    assert installed == ["torch", ".[metrics]"]
    assert "metrics" in extras
    assert all("--constraint" in step for step in steps if step[1] == "install")
    assert COMMAND[:2] == ["finrank", "serve"]
    parser = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    parser.make_context("serve", COMMAND[2:])


def test_the_health_check_asks_the_port_that_is_served() -> None:
    assert arguments_of("EXPOSE") == [PORT]
    assert f"http://localhost:{PORT}/health" in HEALTH[-1]


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return str(found.getsockname()[1])


@pytest.mark.slow
def test_its_steps_make_a_service_that_is_healthy(tmp_path: Path) -> None:
    """Without a network: the wheel is built from what is copied; dependencies are those of this environment."""
    context, prefix = tmp_path / "build", tmp_path / "opt" / "finrank"
    context.mkdir()
    for source in copied():
        copy = shutil.copytree if (REPOSITORY / source).is_dir() else shutil.copy
        copy(REPOSITORY / source, context / source)
    pip = [sys.executable, "-m", "pip"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--constraint", "constraints.txt", "."]
    subprocess.run([*pip, *build], cwd=context, check=True, capture_output=True)
    (wheel,) = context.glob("*.whl")
    venv.create(prefix, symlinks=True)
    install = ["--python", str(prefix / "bin" / "python"), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    (site,) = prefix.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))

    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PATH": f"{prefix / 'bin'}:{os.environ['PATH']}", "FINRANK_API_KEY": "0123456789abcdef"}
    command, health = ([part.replace(PORT, port) for part in parts] for parts in (COMMAND, HEALTH))
    server = subprocess.Popen([prefix / "bin" / command[0], *command[1:]], cwd=tmp_path, env=environment)
    check = [prefix / "bin" / health[0], *health[1:]]
    try:
        until = time.monotonic() + 300
        while subprocess.run(check, env=environment, capture_output=True, check=False).returncode:
            assert server.poll() is None, "the service ended"
            assert time.monotonic() < until, "the service is not healthy"
            time.sleep(1)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    assert subprocess.run(check, env=environment, capture_output=True, check=False).returncode != 0
