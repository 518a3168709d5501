"""The documented commands, as a user types them."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from finrank.cli import COMMANDS, app
from tests.conftest import REPOSITORY
from tests.helpers.scripts import run_command

MINILM = str(REPOSITORY / "configs" / "models" / "minilm.yaml")

SCRIPTS = {
    "00_check_data.py": "--strict",
    "01_prepare_dataset.py": "--selection_share",
    "02_generate_candidates.py": "--corruption_rate",
    "03_build_rewards.py": "--input_dir",
    "04_sft_train.py": "--quick_test",
    "05_train_ppo.py": "--sft_model",
    "04_sft_train_generation.py": "--base_model",
}


@pytest.mark.parametrize(("script", "flag"), SCRIPTS.items())
def test_every_script_explains_its_flags(tmp_path: Path, script: str, flag: str) -> None:
    shown = run_command(tmp_path, script, "--help")
    assert shown.returncode == 0
    assert flag in shown.stdout
    assert "default" in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_enough_to_use_a_command(command: str) -> None:
    """Every option explained, what is done said, and an example that the command's own parser takes."""
    shown = CliRunner().invoke(app, [command, "--help"], terminal_width=100)
    assert shown.exit_code == 0
    parser = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    assert all(option.help for option in parser.params)
    examples = re.findall(r"^    finrank (.+)$", shown.output.partition("Example:\n")[2], re.MULTILINE)
    assert examples
    for example in examples:
        name, *arguments = shlex.split(example)
        assert name == command
        parser.make_context(command, arguments)
    summary = next(line for line in listed().splitlines() if line.split()[:1] == [command])
    assert not summary.endswith("...")


def test_the_help_names_the_shipped_configs() -> None:
    shown = "".join(
        CliRunner().invoke(app, [command, "--help"], terminal_width=200).output for command in ("sft", "proposer")
    )
    assert all(config.stem in shown for config in Path(MINILM).parent.glob("*.yaml"))


def listed() -> str:
    return CliRunner().invoke(app, ["--help"], terminal_width=80).output


def test_commands_are_listed_in_the_order_of_the_pipeline() -> None:
    names = [line.split()[0] for line in listed().partition("Commands:\n")[2].splitlines()]
    assert names == list(COMMANDS)
    assert names[:5] == ["check", "prepare", "candidates", "rewards", "sft"]


@pytest.mark.parametrize(
    ("arguments", "missing", "command"),
    [
        (["00_check_data.py"], "datasets/finqa_raw", "finrank download"),
        (["01_prepare_dataset.py"], "datasets/finqa_raw", "finrank download"),
        (["02_generate_candidates.py"], "datasets/finqa_processed", "python 01_prepare_dataset.py"),
        (["03_build_rewards.py"], "datasets/finqa_candidates", "python 02_generate_candidates.py"),
        (["04_sft_train.py", "--config", MINILM], "datasets/finqa_with_rewards", "python 03_build_rewards.py"),
        (["evaluate", "--model", "outputs/run_001"], "datasets/finqa_with_rewards", "python 03_build_rewards.py"),
        (["sft", "--config", "nowhere.yaml"], "No config nowhere.yaml", ""),
    ],
)
def test_a_stage_without_its_input_says_what_to_run_first(
    tmp_path: Path, arguments: list[str], missing: str, command: str
) -> None:
    failed = run_command(tmp_path, *arguments)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")
    assert missing in failed.stderr
    assert command in failed.stderr
    assert "Traceback" not in failed.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_whole_pipeline_as_documented(tmp_path: Path) -> None:
    """Default folders, the default model, --quick_test: from nothing to an evaluated model, in the documented time."""
    for step in (
        "sample-data --train 60 --dev 20 --test 20",
        "00_check_data.py --strict --json check.json",
        "01_prepare_dataset.py",
        "02_generate_candidates.py --input_dir datasets/finqa_processed --output_dir datasets/finqa_candidates "
        "--num_candidates 8 --corruption_rate 0.5",
        "03_build_rewards.py --input_dir datasets/finqa_candidates --output_dir datasets/finqa_with_rewards",
    ):
        done = run_command(tmp_path, *step.split())
        assert done.returncode == 0, done.stderr
    began = time.monotonic()
    done = run_command(tmp_path, "04_sft_train.py", "--config", MINILM, "--quick_test")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 120
    stage = tmp_path / "outputs" / "run_001" / "04_sft"
    assert {path.name for path in stage.iterdir()} == {"best_model", "final_model", "training_manifest.json"}
    evaluated = run_command(tmp_path, "evaluate", "--model", "outputs/run_001", "--split", "dev", "--json", "dev.json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads((tmp_path / "dev.json").read_text())["n"] == 20
    assert "oracle" in evaluated.stdout


def test_data_files_are_the_same_byte_for_byte_in_another_process(tmp_path: Path) -> None:
    outputs = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        sample = "sample-data --train 40 --dev 5 --test 5"
        for step in (sample, "01_prepare_dataset.py", "02_generate_candidates.py", "03_build_rewards.py"):
            done = run_command(folder, *step.split())
            assert done.returncode == 0, done.stderr
        files = sorted(path for path in folder.rglob("*") if path.suffix == ".jsonl")
        outputs.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    assert len(outputs[0]) >= 12
    assert outputs[0] == outputs[1]
