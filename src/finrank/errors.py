"""Errors that a user can fix, and the messages that several rooms share."""

from __future__ import annotations

from pathlib import Path

# Which step makes each folder of the documented pipeline, for the message when one is missing.
_HOW_TO_MAKE = {
    "finqa_raw": (
        "get the official files, or make the embedded sample, first",
        ["finrank download", "finrank sample-data --output_dir datasets/finqa_raw"],
    ),
    "finqa_processed": ("run step 01 first", ["python 01_prepare_dataset.py"]),
    "finqa_candidates": (
        "run steps 01 and 02 first",
        [
            "python 01_prepare_dataset.py",
            "python 02_generate_candidates.py --input_dir datasets/finqa_processed "
            "--output_dir datasets/finqa_candidates --num_candidates 8 --corruption_rate 0.5",
        ],
    ),
    "finqa_with_rewards": (
        "run steps 02 and 03 first",
        [
            "python 02_generate_candidates.py --input_dir datasets/finqa_processed "
            "--output_dir datasets/finqa_candidates --num_candidates 8 --corruption_rate 0.5",
            "python 03_build_rewards.py --input_dir datasets/finqa_candidates --output_dir datasets/finqa_with_rewards",
        ],
    ),
}


class UserError(Exception):
    """A fault the user can mend; the command line prints its text alone and exits with status 2."""


def missing_data(directory: Path, expected: str | None = None) -> UserError:
    """The error for an input folder that is not there: which folder, which steps to run first, with the commands.

    `expected` names the documented folder that this input stands for (such as "finqa_with_rewards") when the given
    directory has a name of its own.
    """
    name = expected or directory.name
    what, commands = _HOW_TO_MAKE.get(name, ("run the step before first", []))
    # The commands name the documented folder; the user's own may be another.
    commands = [command.replace(f"datasets/{name}", str(directory)) for command in commands]
    lines = [f"Data not found in {directory}: {what}", *(f"    {command}" for command in commands)]
    return UserError("\n".join(lines))
