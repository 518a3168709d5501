"""Scripts outside the package, imported by their path, and commands run in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from tests.conftest import REPOSITORY


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
