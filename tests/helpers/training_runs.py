"""Training runs of tests: what they recorded, and runs that die at a step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from finrank.training.trainer import CheckpointTrainer


def manifest_of(stage: Path) -> dict[str, Any]:
    return dict(json.loads((stage / "training_manifest.json").read_text()))


def curve(stage: Path, name: str = "loss") -> list[tuple[int, float]]:
    """The steps that logged a value of this name, with the value."""
    return [(row["step"], row[name]) for row in manifest_of(stage)["curve"] if name in row]


def weights(model_dir: Path) -> dict[str, bytes]:
    """The bytes of every file of weights in a model folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(model_dir.glob("*.safetensors"))}


class _Killed(Exception):
    pass


class _KillAt(TrainerCallback):  # type: ignore[misc]
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise _Killed


@contextmanager
def added_callback(callback: TrainerCallback) -> Iterator[None]:
    """Every trainer that is made inside has this callback too."""
    make = CheckpointTrainer.__init__

    def make_with_callback(self: CheckpointTrainer, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        self.add_callback(callback)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointTrainer, "__init__", make_with_callback)
        yield


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """Training inside dies at this step, before a checkpoint of it is written."""
    with added_callback(_KillAt(step)), pytest.raises(_Killed):
        yield
