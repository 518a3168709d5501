"""The wheel, installed into an environment of its own and used from an empty folder: nothing needs a clone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.live_server import wait_until

pytestmark = pytest.mark.slow
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PACKAGE = REPOSITORY / "src" / "finrank"
# The test's own environment must not lend the installed finrank its source.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {"COLUMNS": "80"}


def run(command: list[str | Path], folder: Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout[-1000:], done.stderr[-3000:])
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources, where no earlier build has left files."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(REPOSITORY / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        folder,
        source,
    ]
    run(build, folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `python` and `finrank` in an environment with the wheel and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # Folders named in a .pth file are searched, but their own .pth files, as of an editable finrank, are not read.
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    install = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--no-deps", "--no-index"]
    run([*install, wheel], folder)
    found = run([folder / "bin" / "python", "-c", "import finrank; print(finrank.__file__)"], folder)
    assert Path(found.strip()) == site / "finrank" / "__init__.py"
    return folder / "bin"


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    here = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("finrank/")}
    assert shipped == {name for name in here if "__pycache__" not in name}


def test_the_pipeline_from_an_empty_folder(programs: Path, tmp_path: Path) -> None:
    for command in (
        "sample-data --output_dir datasets/finqa_raw --train 60 --dev 20 --test 10",
        "check --strict",
        "prepare",
        "candidates",
        "rewards",
        "audit",
        "sft --config minilm --quick_test",
        "report finqa-minilm",
        "doctor",
    ):
        run([programs / "finrank", *command.split()], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"datasets", "outputs", "report.html"}


def block(heading: str, language: str) -> str:
    """The README's first block of code in this language behind a heading."""
    return README.partition(heading)[2].partition(f"```{language}\n")[2].partition("```")[0]


def rounded(text: str) -> str:
    """The text with 2 decimals in place of more, which may differ by the machine."""
    return re.sub(r"\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}", text)


def test_the_readmes_python_prints_what_is_written_there(programs: Path, tmp_path: Path) -> None:
    shown = run([programs / "python", "-c", block("**Python**", "python")], tmp_path)
    assert rounded(shown) == rounded(block("**Python**", "text"))


def answers(url: str) -> bool:
    """True once the server, which prints its address a moment before, accepts requests."""
    try:
        return bool(urllib.request.urlopen(url, timeout=60).status == 200)
    except urllib.error.URLError:
        return False


@contextmanager
def served(programs: Path, folder: Path) -> Iterator[str]:
    """The URL of `finrank serve`, which is stopped as by Ctrl-C, and must end well."""
    command = [programs / "finrank", "serve", "--model", "finqa-minilm", "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = next(match[0] for line in process.stdout if (match := re.search(r"http://127\.0\.0\.1:\d+", line)))
        wait_until(lambda: answers(url))
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def assert_shown(expected: str, shown: str) -> None:
    """A line of the README is one of the lines shown; at its dots it is cut off."""
    kept = rounded(expected.removesuffix("…"))
    assert any(rounded(line).startswith(kept) for line in shown.splitlines()), (expected, shown)


def test_the_readmes_shell_and_request_print_what_is_written_there(programs: Path, tmp_path: Path) -> None:
    shown = ""
    for line in block("**Shell**", "text").replace("\\\n", "").splitlines():
        if line.startswith("$ "):
            shown = run(["bash", "-c", f"PATH={programs}:$PATH; {line[2:]}"], tmp_path)
        else:
            assert_shown(line, shown)
    with served(programs, tmp_path) as url:
        body = (tmp_path / "pools.jsonl").read_bytes()
        request = urllib.request.Request(f"{url}/v1/rank", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            assert_shown(block("**HTTP**", "text").splitlines()[-1], response.read().decode())
        assert answers(f"{url}/docs")
