"""Run folders: numbers, the one to resume, locks, and the facts that a manifest records."""

from __future__ import annotations

import json
import math
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from finrank.errors import UserError
from finrank.ranker.saving import find_model, read_settings
from finrank.store import checked_hashes, read_json, versions, write_json
from finrank.store.growing_file import lock, open_lock_file
from finrank.training.config import TrainingConfig
from finrank.training.processes import number_of_processes

SFT_STAGE, PPO_STAGE = "04_sft", "05_ppo"
CHECKPOINTS = "checkpoints"
TRAINING_MANIFEST = "training_manifest.json"
_STARTED = "started.json"
# Of the SFT model the path, if it was moved (the hashes of its parts agree); threads become those of the first run.
_MAY_DIFFER = {"sft_model", "threads"}


@dataclass(frozen=True)
class Run:
    """What to train, on which data, and where to write it."""

    config: TrainingConfig
    input_dir: Path  # rewarded pools of stage 03
    output_dir: Path  # folder of the runs run_NNN
    start: Path | None = None  # a trained model to start from: a run, a stage directory or a model folder
    base_model: str | None = None  # another place for the base weights of `start`: a local folder or hub id
    quick_test: bool = False
    resume: bool = False
    join: Path | None = None  # run folder that the stage joins
    facts: dict[str, Any] = field(default_factory=dict)  # further facts that a resumed run must share

    def started(self) -> dict[str, Any]:
        """The facts that a resumed run must share with the interrupted one; the manifest has them too."""
        config, data = self.config.model_dump(mode="json"), data_hashes(self.input_dir)
        several = {"processes": number_of_processes()} if number_of_processes() > 1 else {}
        own = {"threads": torch.get_num_threads(), "quick_test": self.quick_test}
        return {"config": config, "data": data, **self.facts, **several, **own}

    def open_stage(self, stage: str, started: dict[str, Any]) -> Path:
        """The folder of the stage to resume, or a new one, in the run to join if that has none of this name yet."""
        if self.resume:
            return unfinished_stage(self.output_dir, stage, started)
        directory = self._new_folder(stage)
        write_json(directory / CHECKPOINTS / _STARTED, started)
        return directory

    def _new_folder(self, stage: str) -> Path:
        """An empty folder for the stage; of trainings that start at once each gets its own."""
        if self.join is not None:
            with suppress(FileExistsError):
                (self.join / stage).mkdir()
                return self.join / stage
        self.output_dir.mkdir(parents=True, exist_ok=True)
        while True:
            number = max(map(_number, numbered_runs(self.output_dir)), default=0) + 1
            run = self.output_dir / f"run_{number:03d}"
            with suppress(FileExistsError):
                run.mkdir()
                (run / stage).mkdir()
                return run / stage


def threads_of(directory: Path) -> int:
    """The number of threads that a stage began with; runs of older versions did not note it."""
    started: dict[str, Any] = json.loads((directory / CHECKPOINTS / _STARTED).read_text(encoding="utf-8"))
    return int(started.get("threads", torch.get_num_threads()))


def begun_stages(output_dir: Path, stage: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Stages that began and did not finish, the newest first, each with the facts that it started with."""
    for run in reversed(numbered_runs(output_dir)):
        directory = run / stage
        started = directory / CHECKPOINTS / _STARTED
        if started.is_file() and not (directory / TRAINING_MANIFEST).is_file():
            yield directory, json.loads(started.read_text(encoding="utf-8"))


def unfinished_stage(output_dir: Path, stage: str, started: dict[str, Any]) -> Path:
    """The newest stage that began with these facts and did not finish; UserError with what differs in the others."""
    newest = ""
    for run in numbered_runs(output_dir):
        if (run / stage / TRAINING_MANIFEST).is_file() and (run / stage / CHECKPOINTS).is_dir():
            with lock_stage(run / stage):  # killed between manifest and end
                remove_checkpoints(run / stage)
    for directory, before in begun_stages(output_dir, stage):
        keys = (before.keys() | started.keys()) - _MAY_DIFFER
        differing = sorted(key for key in keys if before.get(key) != started.get(key))
        if not differing:
            return directory
        number = (
            f": {before.get('processes', 1)}, not {started.get('processes', 1)}" if "processes" in differing else ""
        )
        newest = newest or f" ({directory} began with other {' and '.join(differing)}{number})"
    for run in reversed(numbered_runs(output_dir)):
        finished = _manifest(run / stage)
        if finished and all(finished.get(key) == value for key, value in started.items() if key not in _MAY_DIFFER):
            raise UserError(f"Nothing to resume in {output_dir}: {run / stage}, with this config and data, is finished")
    raise UserError(
        f"Nothing to resume in {output_dir}: no run there has an unfinished {stage} with this config and data{newest}; "
        "start without --resume"
    )


def lock_stage(directory: Path) -> IO[str]:
    """Hold a stage directory for this process until the file is closed; UserError when another one trains in it."""
    try:
        stream = open_lock_file(directory / CHECKPOINTS / ".lock")
    except OSError as error:
        raise UserError(f"{directory} cannot be locked: {error.strerror}") from error
    return lock(stream, f"{directory} is being trained by another process: wait for it, or stop it first")


def last_checkpoint(directory: Path) -> Path | None:
    """The newest complete checkpoint of a stage; Trainer writes `trainer_state.json` after everything else."""
    states = (directory / CHECKPOINTS).glob("checkpoint-*/trainer_state.json")
    return max(
        (path.parent for path in states if _is_whole(path)),
        key=lambda path: int(path.name.rpartition("-")[2]),
        default=None,
    )


def _is_whole(path: Path) -> bool:
    """True for JSON; a kill or a full disk may have cut it off."""
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def remove_checkpoints(directory: Path) -> None:
    """Delete what only a resume needs of a finished stage."""
    logs = directory / CHECKPOINTS / "runs"  # where Trainer puts TensorBoard's files (trainer.report_to)
    if logs.is_dir():
        logs.rename(directory / "tensorboard")
    shutil.rmtree(directory / CHECKPOINTS)


def numbered_runs(output_dir: Path) -> list[Path]:
    """The folders run_NNN of an output folder, by their number."""
    return sorted((path for path in output_dir.glob("run_*") if re.fullmatch(r"run_\d{3,}", path.name)), key=_number)


def _number(run: Path) -> int:
    return int(run.name.removeprefix("run_"))


def data_hashes(input_dir: Path) -> dict[str, str]:
    """sha256 by name of each split file."""
    files = [path for path in sorted(input_dir.glob("*.jsonl")) if path.name != "rejects.jsonl"]
    return {path.name: digest for path, digest in checked_hashes(files).items()}


def environment() -> dict[str, Any]:
    """`versions`, `device` and `threads`, as manifests hold them."""
    cuda = torch.cuda.is_available()
    return {
        "versions": versions("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors"),
        "device": torch.cuda.get_device_name() if cuda else f"CPU ({platform.machine()})",
        "threads": torch.get_num_threads(),
    }


def control_for(model_dir: Path, data_dir: Path, named: Path | None = None) -> Path | None:
    """The candidate-only model to compare a model with: `named`, or else the newest sibling run on the same data.

    A model without a manifest counts as trained on `data_dir`; a candidate-only model is compared with none. Raises
    UserError where the named model sees question and page.
    """
    if named is not None:
        control = find_model(named)
        if not read_settings(control).prompt.candidate_only:
            raise UserError(
                f"--candidate_only {named}: {control} was trained with question and page, so it is not a control; name "
                "a model of finrank sft --candidate_only, or use --compare for another model"
            )
        return control
    if read_settings(model_dir).prompt.candidate_only:
        return None
    model_dir = model_dir.resolve()
    manifest = _manifest(model_dir.parent)
    hashes = data_hashes(data_dir) if manifest is None else manifest["data"]
    folders = model_dir.parents  # of run_NNN/04_sft/best_model the third is the parent of all runs
    for stage in sorted(folders[2].glob(f"run_*/{SFT_STAGE}"), reverse=True) if folders[2:] else []:
        other, best = _manifest(stage), stage / "best_model"
        comparable = other and not other["quick_test"] and other["data"] == hashes and best.is_dir()
        if other and comparable and other["config"]["prompt"]["candidate_only"]:
            return best
    return None


def _manifest(stage: Path) -> dict[str, Any] | None:
    """The training manifest of a ranker's stage; None without one, or where it was written by another program."""
    try:
        manifest: dict[str, Any] = read_json(stage / TRAINING_MANIFEST)
        return manifest if {"config", "data", "quick_test"} <= manifest.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def finite(value: Any) -> Any:
    """A JSON value with null in place of every number that is not finite (a loss curve may hold such)."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
