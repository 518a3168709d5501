"""Training runs of tests: what they recorded, and runs that die at a step."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from finrank.training.trainer import LogAtCheckpoints
from tests.conftest import REPOSITORY

CONFIGS = REPOSITORY / "configs" / "models"
SMALL = [
    "prompt.max_length=256", "batch_size=4", "trainer.num_train_epochs=1", "mixed_precision=float32", "dtype=float32",
    "trainer.logging_steps=1",
]  # fmt: skip


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """All output so far, without the line breaks of the terminal's width."""
    return " ".join("".join(capsys.readouterr()).split())


def manifest_of(stage: Path) -> dict[str, Any]:
    return dict(json.loads((stage / "training_manifest.json").read_text()))


def curve(stage: Path, name: str = "loss") -> list[tuple[int, float]]:
    """The steps that logged a value of this name, with the value."""
    return [(row["step"], row[name]) for row in manifest_of(stage)["curve"] if name in row]


def weights(model_dir: Path) -> dict[str, bytes]:
    """The bytes of every file of weights in a model folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(model_dir.glob("*.safetensors"))}


def check_folder(stage: Path, run: str, name: str) -> None:
    """The stage is at its place, and holds two models and a manifest, without any pickle."""
    assert stage.parts[-2:] == (run, name)
    assert sorted(path.name for path in stage.iterdir()) == ["best_model", "final_model", "training_manifest.json"]
    assert not [path for path in stage.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]


def in_another_process(code: str, *arguments: Path) -> Any:
    """The JSON value that `code` assigns to `result` in a fresh process; it reads its paths from `arguments`."""
    begin = "import json, sys; from pathlib import Path; arguments = [Path(path) for path in sys.argv[1:]]"
    code = f"{begin}\n{code}\nprint('\\n' + json.dumps(result))"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


class _Killed(Exception):
    pass


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """Training inside dies at this step, before a checkpoint of it is written."""
    log = LogAtCheckpoints.on_step_end

    def log_or_die(self: LogAtCheckpoints, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == step:
            raise _Killed
        log(self, args, state, control, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LogAtCheckpoints, "on_step_end", log_or_die)
        with pytest.raises(_Killed):
            yield
