"""Run directories: numbering them, finding one to resume, and what goes into a training manifest."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import re
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from finrank.errors import UserError
from finrank.store import sha256, versions, write_json
from finrank.store.growing_file import lock

CHECKPOINTS = "checkpoints"
TRAINING_MANIFEST = "training_manifest.json"
_STARTED = "started.json"


def new_stage(output_dir: Path, stage: str, started: dict[str, Any], run: Path | None = None) -> Path:
    """Make `run_NNN/STAGE` under `output_dir` and keep `started` there for a resume.

    The stage joins the given run where that has none of this name, else the run gets the next free number.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    if run is None or (run / stage).exists():
        number = max(map(_number, numbered_runs(output_dir)), default=0) + 1
        run = output_dir / f"run_{number:03d}"
    directory = run / stage
    (directory / CHECKPOINTS).mkdir(parents=True)
    write_json(directory / CHECKPOINTS / _STARTED, started)
    return directory


def begun_stage(output_dir: Path, stage: str) -> tuple[Path, dict[str, Any]] | None:
    """The newest stage that began and did not finish, and what it started with; None where there is none."""
    return next(_begun_stages(output_dir, stage), None)


def _begun_stages(output_dir: Path, stage: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for run in reversed(numbered_runs(output_dir)):
        directory = run / stage
        started = directory / CHECKPOINTS / _STARTED
        if started.is_file() and not (directory / TRAINING_MANIFEST).is_file():
            yield directory, json.loads(started.read_text(encoding="utf-8"))


def unfinished_stage(output_dir: Path, stage: str, started: dict[str, Any], *, unless: str | None = None) -> Path:
    """The newest run whose stage began with this config and data and did not finish, to be resumed.

    What stands under the key `unless` need not be the same. Raises UserError when there is none, saying what is
    different about those that did not finish.
    """
    other = ""
    for directory, before in _begun_stages(output_dir, stage):
        differing = sorted(key for key in before | started if key != unless and before.get(key) != started.get(key))
        if not differing:
            return directory
        other = other or f" ({directory} began with other {' and '.join(differing)})"
    raise UserError(
        f"Nothing to resume in {output_dir}: no run there has an unfinished {stage} with this config and data{other}; "
        "start without --resume"
    )


def refuse_several_devices() -> None:
    """UserError where training would need more than one process or GPU."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("training on several processes is not supported yet: start one process, without torchrun")
    if torch.cuda.device_count() > 1:
        raise UserError("training on several GPUs is not supported yet: choose one with export CUDA_VISIBLE_DEVICES=0")


def lock_stage(directory: Path) -> IO[str]:
    """Hold a stage directory for this process until the file is closed; UserError when another one trains in it."""
    stream = (directory / CHECKPOINTS / ".lock").open("w")
    return lock(stream, f"{directory} is being trained by another process: wait for it, or stop it first")


def last_checkpoint(directory: Path) -> Path | None:
    """The newest whole checkpoint of a stage; Trainer writes `trainer_state.json` after everything else."""
    found = [path for path in (directory / CHECKPOINTS).glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def numbered_runs(output_dir: Path) -> list[Path]:
    """The folders run_NNN of an output folder, by their number."""
    return sorted((path for path in output_dir.glob("run_*") if re.fullmatch(r"run_\d{3,}", path.name)), key=_number)


def _number(run: Path) -> int:
    return int(run.name.removeprefix("run_"))


def data_hashes(input_dir: Path) -> dict[str, str]:
    """sha256 of each split file that training can read."""
    return {path.name: sha256(path) for path in sorted(input_dir.glob("*.jsonl")) if path.name != "rejects.jsonl"}


def environment() -> dict[str, Any]:
    """Versions and device, for manifests."""
    cuda = torch.cuda.is_available()
    return {
        "versions": versions("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors"),
        "device": torch.cuda.get_device_name() if cuda else f"CPU ({platform.machine()})",
        "threads": torch.get_num_threads(),
    }


def peak_memory_mib() -> int:
    """Peak memory of this process in MiB: of the GPU where one is used, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if platform.system() == "Darwin" else 2**10)


# What torch and the operating systems say when memory ran out on a CPU.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "cannot allocate memory")


@contextlib.contextmanager
def explain_out_of_memory(*keys: str, advice: str | None = None) -> Iterator[None]:
    """Turn an error that means memory ran out into a UserError that names the config keys to lower, in that order.

    Without keys, those of stage 04; a command without a config gives its own `advice`.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        text = str(error).lower()
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(part in text for part in _OUT_OF_MEMORY):
            raise UserError(f"Out of memory. {advice or _lower(keys or STAGE_04_KEYS)}") from error
        raise


_MEMORY_KEYS = {
    "tokens_per_pass": "tokens of one forward pass: more passes, the same gradients",
    "batch_size": "questions per step",
    "ppo.batch_size": "pools per update",
    "prompt.max_length": "tokens of prefix and longest candidate, or of prompt and completion",
    "trainer.activation_checkpointing=true": "recomputes activations: slower, far less memory",
    "quantization=4bit": "a quarter of the base model's memory (CUDA, bitsandbytes)",
}
_ALWAYS = ("prompt.max_length", "trainer.activation_checkpointing=true", "quantization=4bit")
STAGE_04_KEYS = ("tokens_per_pass", "batch_size", *_ALWAYS)
STAGE_05_KEYS = ("tokens_per_pass", "ppo.batch_size", *_ALWAYS)
GENERATION_KEYS = ("batch_size", *_ALWAYS)  # one forward pass holds the whole batch


def _lower(keys: Sequence[str]) -> str:
    lines = [f"    {key:38} {_MEMORY_KEYS[key]}" for key in keys]
    return "\n".join(["Lower these keys of the config, in this order (each also works as --set key=value):", *lines])


def finite(value: Any) -> Any:
    """A JSON value with null in place of every number that is not finite (a loss curve may hold such)."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
