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


class UserError(Exception):
    """A fault the user can mend; the command line prints its text alone and exits with status 2."""


def missing_data(directory: Path, expected: str | None = None) -> UserError:
    """The error for a missing input folder: which folder, which steps to run first, with the commands.

    `expected` is the documented folder that this one replaces, such as "finqa_with_rewards", if its name differs.
    """
    name = expected or directory.name
    steps, commands = _HOW_TO_MAKE.get(name, ("run the step before first", []))
    # The commands name the documented folder; the user's may be another.
    lines = [f"    {command}".replace(f"datasets/{name}", str(directory)) for command in commands]
    return UserError("\n".join([f"Data not found in {directory}: {steps}", *lines]))
