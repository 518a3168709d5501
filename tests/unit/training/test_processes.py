"""Training by several processes: the curves of one, one writer and one voice, resuming, and one end of all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from safetensors.numpy import load_file
from transformers import TrainingArguments

from finrank.commands.sft import sft
from finrank.errors import UserError
from tests.conftest import REPOSITORY
from tests.helpers.pools import write_pools
from tests.helpers.tiny_models import save_tiny_base
from tests.helpers.training_runs import CONFIGS, curve, manifest_of, weights
from tests.helpers.two_processes import DROPPING, FAULTS, RUNS, launch, train_ranker, write_folder

NAMES = ["loss", "grad_norm", "learning_rate", "eval_loss", "eval_perplexity", "eval_accuracy", "eval_average_reward",
         "kl", "expected_reward", "entropy", "kl_coefficient"]  # fmt: skip


def stage_of(folder: Path, name: str, processes: int) -> Path:
    (stage,) = (folder / f"{name}-{processes}" / "run_001").iterdir()
    return stage


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all runs of `RUNS` by two processes, and their output."""
    folder = tmp_path_factory.mktemp("processes")
    write_folder(folder)
    both = launch([sys.executable, "-m", "tests.helpers.two_processes", str(folder)])
    for rank, process in enumerate(both):
        out, errors = process.communicate(timeout=600)
        (folder / f"out-{rank}.txt").write_text(out)
        (folder / f"errors-{rank}.txt").write_text(errors)
        assert process.returncode == 0, errors[-3000:]
    return folder


@pytest.fixture(scope="module")
def seen(folder: Path) -> list[dict[str, Any]]:
    """What each process saw."""
    return [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


def differences(one: Path, two: Path) -> dict[str, float]:
    """The largest difference between two runs' curves, by name."""
    found = {}
    for name in NAMES:
        first, second = curve(one, name), curve(two, name)
        assert [step for step, _ in first] == [step for step, _ in second]
        if first:
            found[name] = float(np.abs(np.array(first) - np.array(second)).max())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_have_the_curve_of_one(folder: Path, name: str) -> None:
    one, two = RUNS[name](folder, 1), stage_of(folder, name, 2)
    found = differences(one, two)
    assert {"loss", "grad_norm", "eval_accuracy"} <= found.keys()
    rounding = 2e-2 if name == "sharded" else 1e-3  # its base is in bfloat16, and rows are padded to other lengths
    assert max(found.values()) < rounding, found
    if name != "hopeless":
        losses = [value for _, value in curve(one)]
        assert max(losses) - min(losses) > 0.05  # a curve that does not move would prove nothing
    manifests = manifest_of(one), manifest_of(two)
    assert manifests[0]["best_step"] == manifests[1]["best_step"]
    assert [manifest.get("processes") for manifest in manifests] == [None, 2]
    for split, figures in manifests[0]["metrics"].items():
        assert manifests[1]["metrics"][split]["accuracy"] == figures["accuracy"]
    ours, theirs = (load_file(stage / "final_model" / "adapter_model.safetensors") for stage in (one, two))
    for weight, value in theirs.items():
        np.testing.assert_allclose(ours[weight], value, atol=rounding)


@pytest.mark.slow
def test_a_sharded_base_is_kept_in_parts_by_processes_that_keep_up_with_each_other(seen: list[dict[str, Any]]) -> None:
    for one in seen:
        assert 0.5 <= one["kept"] < 0.51  # rows that do not divide evenly are padded
    assert max(one["added"] for one in seen) > 0


@pytest.mark.slow
def test_early_stopping_and_the_stop_of_a_wild_policy_are_agreed(folder: Path) -> None:
    assert curve(stage_of(folder, "hopeless", 2))[-1][0] < 6
    assert curve(stage_of(folder, "wild", 2))[-1][0] < 40


@pytest.mark.slow
def test_pools_that_accelerate_repeats_would_be_seen(folder: Path) -> None:
    whole, repeated = (np.array(curve(stage_of(folder, name, 2))) for name in ("sft", "repeated"))
    assert np.abs(whole[:2] - repeated[:2]).max() == 0  # the last step of the first epoch is the third
    assert np.abs(whole - repeated).max() > 1e-2


@pytest.mark.slow
def test_one_process_speaks_and_writes(folder: Path) -> None:
    assert "best model:" in (folder / "out-0.txt").read_text()
    assert (folder / "out-1.txt").read_text() == ""
    errors = (folder / "errors-1.txt").read_text()
    assert "warning: " not in errors
    assert "it/s" not in errors
    assert [path.name for path in (folder / "sft-2").iterdir()] == ["run_001"]
    stage = stage_of(folder, "sft", 2)
    assert sorted(path.name for path in stage.iterdir()) == ["best_model", "final_model", "training_manifest.json"]


@pytest.mark.slow
def test_processes_drop_different_units(seen: list[dict[str, Any]]) -> None:
    assert [one["seed"] for one in seen] == [0, 1]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_curve_of_a_whole_one(folder: Path) -> None:
    whole, resumed = stage_of(folder, "dropping", 2), stage_of(folder, "killed", 2)
    for name in NAMES:
        assert curve(resumed, name) == curve(whole, name)
    assert weights(resumed / "final_model") == weights(whole / "final_model")


@pytest.mark.slow
def test_a_run_resumes_with_its_number_of_processes_alone(folder: Path) -> None:
    same_config = [*DROPPING, "trainer.gradient_accumulation_steps=2"]
    with pytest.raises(UserError, match=r"unfinished-1.* began with other processes: 2, not 1"):
        train_ranker(folder, 1, "unfinished", *same_config, resume=True)


@pytest.mark.slow
def test_updates_that_cannot_be_shared_are_refused(seen: list[dict[str, Any]]) -> None:
    for one in seen:
        assert one["odd"] == "ppo.batch_size 1 must be a multiple of the 2 processes that share it"


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_one_process_ends_all_with_one_message(tmp_path: Path, fault: str) -> None:
    write_pools(tmp_path / "data")
    save_tiny_base(tmp_path / "base", "llama")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, "-m", "tests.helpers.two_processes", str(tmp_path), fault]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    messages = re.findall("error: .*", done.stderr)
    if fault == "kill":
        assert len(messages) <= 1  # the launcher may end the other one before it sees that it is alone
    else:
        assert len(messages) == 1
        assert {"error": "this disk is full", "interrupt": "--resume"}[fault] in messages[0]
    assert not list((tmp_path / fault).rglob("training_manifest.json"))


@pytest.mark.parametrize("name", ["one_gpu", "eight_gpus", "two_nodes"])
def test_accelerate_reads_the_shipped_configs(name: str) -> None:
    command = ["--config_file", str(REPOSITORY / f"configs/accelerate/{name}.yaml"), "04_sft_train.py", "--quick_test"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    processes = {"one_gpu": (1, 1), "eight_gpus": (8, 1), "two_nodes": (16, 2)}[name]
    assert (arguments.num_processes, arguments.num_machines) == processes
    assert arguments.multi_gpu == (arguments.num_processes > 1)
    assert arguments.mixed_precision == "no"
    assert arguments.training_script_args == ["--quick_test"]


@pytest.mark.parametrize(
    ("environment", "override", "message"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "seed=0", r"fsdp is not supported.*eight_gpus\.yaml"),
        ({}, "trainer.fsdp=full_shard", r"trainer\.fsdp is not supported.*shard_base=true"),
        ({}, "shard_base=true quantization=4bit", "shard_base and quantization: 4bit do not go together"),
        ({}, "shard_base=true task=generation", "shard_base is for rankers"),
        ({"WORLD_SIZE": "2"}, "seed=0", "without LOCAL_RANK"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], override: str, message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        sft(CONFIGS / "minilm.yaml", tmp_path / "none", tmp_path / "outputs", overrides=override.split())


def test_several_gpus_of_one_process_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(UserError, match=r"2 GPUs are visible.*accelerate launch.*CUDA_VISIBLE_DEVICES=0"):
        sft(CONFIGS / "minilm.yaml", tmp_path / "none", tmp_path / "outputs")
