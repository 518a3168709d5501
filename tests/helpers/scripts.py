"""Scripts outside the package: imported by their path, run as a user runs them; so are the commands of finrank."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.conftest import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"


def load_script(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A numbered script or a finrank command, run in a folder of the user's, on a screen of 80 columns."""
    script = REPOSITORY / arguments[0]
    command = [sys.executable, str(script)] if script.is_file() else [sys.executable, "-m", "finrank", arguments[0]]
    command += arguments[1:]
    environment = os.environ | {"COLUMNS": "80"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def load_benchmark(name: str) -> ModuleType:
    """A benchmark or a module of benchmarks/shared, found as when a benchmark runs."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def run_benchmark(name: str, report: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The JSON and the printed lines of a benchmark run with --quick."""
    command = [sys.executable, f"benchmarks/{name}.py", "--quick", "--json", str(report), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(report.read_text(encoding="utf-8"))
    assert result["device"]
    return result, done.stdout
