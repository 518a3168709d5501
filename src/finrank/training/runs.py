"""Run directories: numbering them, finding one to resume, and what goes into a training manifest."""

from __future__ import annotations

import json
import platform
import re
import resource
from pathlib import Path
from typing import Any

import torch

from finrank.store import UserError, sha256, versions, write_json

CHECKPOINTS = "checkpoints"
TRAINING_MANIFEST = "training_manifest.json"
_STARTED = "started.json"


def new_stage(output_dir: Path, stage: str, started: dict[str, Any]) -> Path:
    """Make `run_NNN/STAGE` under `output_dir` with the next free number; `started` is kept for a resume."""
    output_dir.mkdir(parents=True, exist_ok=True)
    number = max((int(run.name[4:]) for run in _runs(output_dir)), default=0) + 1
    directory = output_dir / f"run_{number:03d}" / stage
    (directory / CHECKPOINTS).mkdir(parents=True)
    write_json(directory / CHECKPOINTS / _STARTED, started)
    return directory


def unfinished_stage(output_dir: Path, stage: str, started: dict[str, Any]) -> Path:
    """The newest run whose stage began and did not finish, to be resumed.

    Raises UserError when there is none, or when it began with another config or other data.
    """
    for run in sorted(_runs(output_dir), reverse=True):
        directory = run / stage
        if (directory / CHECKPOINTS / _STARTED).is_file() and not (directory / TRAINING_MANIFEST).is_file():
            before = json.loads((directory / CHECKPOINTS / _STARTED).read_text(encoding="utf-8"))
            differing = sorted(key for key in before | started if before.get(key) != started.get(key))
            if differing:
                raise UserError(
                    f"{directory} began with other {' and '.join(differing)}: resume it with the same config and data, "
                    "or start a new run without --resume"
                )
            return directory
    raise UserError(
        f"Nothing to resume in {output_dir}: no run there has an unfinished {stage}; start without --resume"
    )


def last_checkpoint(directory: Path) -> Path | None:
    """The newest whole checkpoint of a stage; Trainer writes `trainer_state.json` after everything else."""
    found = [path for path in (directory / CHECKPOINTS).glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _runs(output_dir: Path) -> list[Path]:
    return [path for path in output_dir.glob("run_*") if re.fullmatch(r"run_\d{3,}", path.name)]


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


def out_of_memory(error: BaseException) -> UserError | None:
    """The advice for an error that means memory ran out, None for any other error."""
    text = str(error)
    ours = isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in text.lower()
    if not ours:
        return None
    return UserError(
        "Out of memory. Lower these keys of the config, in this order (each also works as --set key=value):\n"
        "    batch_size                          questions per step (raise trainer.gradient_accumulation_steps)\n"
        "    prompt.max_length                   tokens of prefix and longest candidate\n"
        "    trainer.activation_checkpointing=true  recomputes activations: slower, far less memory\n"
        "    quantization=4bit                   a quarter of the base model's memory (CUDA, bitsandbytes)"
    )
