"""Errors that a user can fix, and the messages that several rooms share."""

from __future__ import annotations

from pathlib import Path

_STEP_01 = "python 01_prepare_dataset.py"
_STEP_02 = (
    "python 02_generate_candidates.py --input_dir datasets/finqa_processed --output_dir datasets/finqa_candidates "
    "--num_candidates 8 --corruption_rate 0.5"
)
_STEP_03 = "python 03_build_rewards.py --input_dir datasets/finqa_candidates --output_dir datasets/finqa_with_rewards"
_RAW = ["finrank download", "finrank sample-data --output_dir datasets/finqa_raw"]
# How to make each folder of the documented pipeline, in words and commands.
_HOW_TO_MAKE = {
    "finqa_raw": ("get the official files, or make the embedded data, first", _RAW),
    "finqa_processed": ("run step 01 first", [_STEP_01]),
    "finqa_candidates": ("run steps 01 and 02 first", [_STEP_01, _STEP_02]),
    "finqa_with_rewards": ("run steps 02 and 03 first", [_STEP_02, _STEP_03]),
}


# What a folder holds, by the names in it.
_KINDS = {
    "raw FinQA files": ("train.json", "dev.json", "test.json"),
    "the output of a data stage": ("train.jsonl", "selection.jsonl", "dev.jsonl", "test.jsonl"),
    "training runs": ("run_*",),
    "a trained model": ("0?_*/best_model", "best_model", "*_config.json"),
}
# What Python, torch, oneDNN, cuDNN, cuBLAS, the C++ library and the operating systems say when memory ran out.
_OUT_OF_MEMORY = (
    "can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "memoryerror", "bad_alloc",
    "can't start new thread", "could not create a primitive", "mha_graph.execute", "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)  # fmt: skip


class UserError(Exception):
    """A fault the user can mend; the command line prints its text alone and exits with status 2."""


def missing_data(directory: Path, expected: str | None = None) -> UserError:
    """The error for a missing input folder: what it holds instead, which steps to run first, with the commands.

    `expected` is the documented folder that this one replaces, such as "finqa_with_rewards", if its name differs.
    """
    name = expected or directory.name
    kinds = [kind for kind, names in _KINDS.items() if any(any(directory.glob(pattern)) for pattern in names)]
    found = f", which holds {kinds[0]}" if kinds else ""
    # The commands name the documented folder; the user's may be another, but is not to be written if it holds others.
    return _how_to_make(f"Data not found in {directory}{found}", name, Path("datasets", name) if kinds else directory)


def data_of_another_stage(path: Path, kind: str, expected: str) -> UserError:
    """The error for a file of another stage than `expected`, such as "finqa_with_rewards"; `kind` says of which."""
    return _how_to_make(f"{path} holds {kind}", expected, Path("datasets", expected))


def _how_to_make(fault: str, name: str, directory: Path) -> UserError:
    steps, commands = _HOW_TO_MAKE.get(name, ("run the step before first", []))
    lines = [f"    {command}".replace(f"datasets/{name}", str(directory)) for command in commands]
    return UserError("\n".join([f"{fault}: {steps}", *lines]))


def is_out_of_memory(error: BaseException) -> bool:
    """True for an error of Python, of a library or of a worker process that says that memory ran out."""
    kinds = {kind.__name__ for kind in type(error).__mro__}  # by name: torch takes seconds to import
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or any(
        part in str(error).lower() for part in _OUT_OF_MEMORY
    )
