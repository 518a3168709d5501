"""Stage 04 whole, on tiny random models: the config of a large model, saving, reloading, resuming after a kill."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from finrank.commands.evaluate import evaluate
from finrank.commands.sft import sft
from finrank.errors import UserError
from finrank.ranker.encoding import encode
from finrank.ranker.saving import find_model, load_model
from finrank.ranker.scoring import score_pools
from finrank.records import RewardedPool
from finrank.store import load_records
from finrank.training import data as training_data
from finrank.training import sft as sft_recipe
from finrank.training import trainer
from finrank.training.data import PoolMeasure
from finrank.training.run import last_checkpoint
from finrank.training.trainer import RankingTrainer
from tests.helpers.pools import write_pools
from tests.helpers.tiny_models import save_tiny_base
from tests.helpers.training_runs import (
    CONFIGS,
    SMALL,
    check_folder,
    curve,
    in_another_process,
    manifest_of,
    printed,
)

STILL = ["lora.dropout=0", "score_head.dropout=0", "learning_rate=1e-2"]


def train(root: Path, family: str, *more: str, **options: Any) -> Path:
    """Train on `root/data` from `root/base-FAMILY`, both made if missing, with the config for the family."""
    base, data = root / f"base-{family}", root / "data"
    if not base.exists():
        save_tiny_base(base, family)
    if not data.exists():
        write_pools(data)
    config = CONFIGS / {"llama": "llama-3-8b.yaml", "bert": "minilm.yaml", "qwen3": "qwen3-0.6b.yaml"}[family]
    return sft(config, data, root / "outputs", base_model=str(base), overrides=[*SMALL, *more], **options)


def dev_scores(model_dir: Path, data: Path) -> list[np.ndarray]:
    loaded = load_model(model_dir, device="cpu")
    pools = load_records(data / "dev.jsonl", RewardedPool)
    settings = loaded.model.settings.prompt
    encoded = [encode(pool, pool.candidates, loaded.tokenizer, settings) for pool in pools]
    return score_pools(loaded.model, encoded, route=loaded.route)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sft")


@pytest.fixture(scope="module")
def stage(root: Path) -> Path:
    """llama-3-8b.yaml end to end with a tiny random Llama in place of the weights: run_001 of `root`."""
    return train(root, "llama")


def test_the_large_models_config_runs_its_whole_path(stage: Path) -> None:
    check_folder(stage, "run_001", "04_sft")
    manifest = manifest_of(stage)
    assert manifest["config"]["trainer"]["activation_checkpointing"] is True
    assert curve(stage)
    assert manifest["metrics"]["dev"]["n"] == 8
    assert manifest["data"].keys() == {"train.jsonl", "selection.jsonl", "dev.jsonl"}
    adapter = load_file(stage / "final_model" / "adapter_model.safetensors")  # the base is not copied into it
    grown = [name for name, value in adapter.items() if "lora_B" in name and value.abs().max() > 0]
    assert len(grown) == len(adapter) // 2  # B starts at zero: every adapted layer was trained
    assert not [name for name in adapter if "lora" not in name]


@pytest.mark.slow
def test_a_fresh_process_computes_bitwise_equal_scores(root: Path, stage: Path) -> None:
    code = (
        "from tests.unit.training.test_sft import dev_scores\n"
        "result = [scores.tolist() for scores in dev_scores(*arguments)]"
    )
    here = dev_scores(stage, root / "data")
    assert {scores.dtype for scores in here} == {np.dtype(np.float32)}
    assert in_another_process(code, stage, root / "data") == [scores.tolist() for scores in here]


def test_evaluate_agrees_with_training_though_that_ran_under_bfloat16_autocast(tmp_path: Path) -> None:
    stage = train(tmp_path, "llama", "mixed_precision=bf16")
    result = evaluate(stage.parent, tmp_path / "data", split="dev").as_json()
    stored = manifest_of(stage)["metrics"]["dev"]
    assert {name: result[name] for name in stored} == stored
    assert result["baselines"]["chance"]["accuracy"] == pytest.approx(0.25)


PARTS = ["adapter_config.json", "adapter_model.safetensors", "score_head.safetensors", "ranker_config.json"]


@pytest.mark.parametrize("part", [*PARTS, "tokenizer.json"])
def test_a_model_with_a_part_missing_is_refused(stage: Path, tmp_path: Path, part: str) -> None:
    copy = Path(shutil.copytree(stage / "best_model", tmp_path / "model"))
    (copy / part).unlink()
    with pytest.raises(UserError, match=part):
        load_model(copy)


def test_a_model_with_another_runs_head_is_refused(stage: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(stage / "best_model", tmp_path / "model"))
    with (copy / "score_head.safetensors").open("ab") as stream:
        stream.write(b"0")
    with pytest.raises(UserError, match=r"score_head\.safetensors is not the file that was saved"):
        load_model(copy)


def test_a_model_is_refused_other_base_weights_than_it_was_trained_on(stage: Path, tmp_path: Path) -> None:
    other = save_tiny_base(tmp_path / "other", "llama", seed=1)
    with pytest.raises(UserError, match="the config pins"):
        load_model(stage, base_model=str(other))
    same = save_tiny_base(tmp_path / "same", "llama")
    assert load_model(stage, base_model=str(same), device="cpu").route == "cached"


def test_training_starts_from_a_trained_model(root: Path, stage: Path) -> None:
    further = train(root, "llama", "learning_rate=1e-12", "head_learning_rate=1e-12", init_model=stage)  # nothing moves
    for scores, before in zip(dev_scores(further, root / "data"), dev_scores(stage, root / "data"), strict=True):
        np.testing.assert_allclose(scores, before, atol=1e-5)
    with pytest.raises(UserError, match=r"does not fit .*saved \[16, 64\], expected \[8, 64\]"):
        train(root, "llama", "lora.rank=8", init_model=stage)


def test_the_next_run_gets_the_next_number_and_the_same_curve(root: Path, stage: Path) -> None:
    runs = len(list((root / "outputs").iterdir()))
    again = train(root, "llama")
    assert again.parts[-2:] == (f"run_{runs + 1:03d}", "04_sft")
    assert curve(again) == curve(stage)


@pytest.mark.slow
def test_packed_and_naive_training_give_the_same_curve(tmp_path: Path) -> None:
    how = [*STILL, "trainer.gradient_accumulation_steps=1"]
    naive, packed = (
        curve(train(tmp_path, "llama", *how, f"attention_route={route}", f"tokens_per_pass={tokens}"))
        for route, tokens in (("naive", 10**6), ("split", 100))
    )
    assert abs(naive[0][1] - naive[-1][1]) > 0.01  # a curve that does not move would prove nothing
    np.testing.assert_allclose(packed, naive, atol=1e-4)


@pytest.mark.slow
def test_on_a_gpu_accumulated_batches_are_joined_and_a_step_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pools(tmp_path / "data", train=8)  # one step per epoch: its questions are the same however they are batched
    more = [*STILL, "trainer.num_train_epochs=6", "trainer.gradient_accumulation_steps=2"]
    apart = train(tmp_path, "bert", *more)
    fill = sft_recipe._filling_a_gpu
    gpu = SimpleNamespace(device=torch.device("cuda"), gradient_accumulation_steps=2)
    monkeypatch.setattr(sft_recipe, "_filling_a_gpu", lambda *arguments: fill(*arguments[:3], gpu))
    joined = train(tmp_path, "bert", *more)
    assert "batches hold 8 questions, not 4, and gradients are accumulated over 1 of them, not 2" in printed(capsys)
    manifest = manifest_of(joined)
    assert (manifest["config"]["batch_size"], manifest["batch_size_on_device"]) == (4, 8)
    assert [step for step, _ in curve(joined)] == list(range(1, 7))
    np.testing.assert_allclose(curve(joined), curve(apart), atol=1e-4)


@pytest.mark.slow
def test_a_pool_is_learned_and_each_evaluation_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = train(tmp_path, "bert", "trainer.num_train_epochs=12", "learning_rate=3e-3", "prompt.labels=false")
    assert manifest_of(stage)["metrics"]["selection"]["accuracy"] > 0.6  # chance is 0.25; + against - gives it away
    shown = r"selection: accuracy [01]\.\d+ \([\d. -]+\), reward ratio [01]\.\d+ "
    assert len(re.findall(shown, printed(capsys))) == 12


def test_quick_test_runs_a_handful(tmp_path: Path) -> None:
    stage = train(tmp_path, "qwen3", quick_test=True)
    assert manifest_of(stage)["quick_test"] is True
    assert manifest_of(stage)["curve"][-1]["step"] == 4


@pytest.mark.parametrize(
    ("split", "message"), [("train", "nothing to learn from"), ("selection", "no selection.jsonl")]
)
def test_a_split_without_pools_counts_as_missing(tmp_path: Path, split: str, message: str) -> None:
    (write_pools(tmp_path / "data") / f"{split}.jsonl").write_bytes(b"")
    with pytest.raises(UserError, match=message):
        train(tmp_path, "bert", quick_test=True)


def test_a_failing_screen_at_the_end_loses_nothing_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_data, "print_table", Mock(side_effect=BrokenPipeError))
    with pytest.raises(BrokenPipeError):
        train(tmp_path, "bert", quick_test=True)
    stage = tmp_path / "outputs" / "run_001" / "04_sft"
    check_folder(stage, "run_001", "04_sft")
    assert manifest_of(stage)["metrics"].keys() == {"selection", "dev"}


@pytest.mark.slow
def test_candidate_only_is_marked_and_compared_with_the_real_model(tmp_path: Path) -> None:
    real = train(tmp_path, "bert", quick_test=True)
    train(tmp_path, "bert", candidate_only=True, quick_test=True)

    def candidate_only_accuracy() -> float | None:
        row = evaluate(real, tmp_path / "data").as_json()["baselines"]["candidate_only"]
        return row and float(row["accuracy"])

    assert candidate_only_accuracy() is None  # a quick test is not a control
    manifest = manifest_of(train(tmp_path, "bert", candidate_only=True))
    assert manifest["config"]["prompt"]["candidate_only"] is True
    assert candidate_only_accuracy() == manifest["metrics"]["dev"]["accuracy"]


RESUME = ["trainer.num_train_epochs=3", "trainer.eval_strategy=steps", "trainer.eval_steps=2", "lora.dropout=0.1",
          "trainer.gradient_accumulation_steps=1", "trainer.activation_checkpointing=false"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("patience", "kill_after"), [("null", 8), ("3", 4)])
def test_a_killed_run_resumes_to_the_curve_of_a_whole_one(tmp_path: Path, patience: str, kill_after: int) -> None:
    settings = [*RESUME, f"early_stopping_patience={patience}"]
    whole = train(tmp_path, "llama", *settings)
    last = curve(whole)[-1][0]
    assert (last == 18) == (patience == "null")  # with patience 3 this run stops early
    arguments = [
        "sft", "--config", str(CONFIGS / "llama-3-8b.yaml"), "--input_dir", str(tmp_path / "data"),
        "--output_dir", str(tmp_path / "killed"), "--base_model", str(tmp_path / "base-llama"),
    ]  # fmt: skip
    for override in [*SMALL, *settings]:
        arguments += ["--set", override]
    command = [sys.executable, "-c", "import sys; from finrank.cli import main; main(sys.argv[1:])", *arguments]
    stage = tmp_path / "killed" / "run_001" / "04_sft"
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    deadline = time.monotonic() + 120
    while step_of(stage) < kill_after:
        assert child.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run wrote no checkpoint in time"
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (stage / "training_manifest.json").exists()
    assert kill_after <= step_of(stage) < last
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    assert curve(stage) == curve(whole)
    resumed, uninterrupted = (dev_scores(find_model(where), tmp_path / "data") for where in (stage, whole))
    np.testing.assert_array_equal(np.concatenate(resumed), np.concatenate(uninterrupted))


def step_of(stage: Path) -> int:
    checkpoint = last_checkpoint(stage)
    return 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])


def test_scores_that_are_not_finite_end_training_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PoolMeasure, "scores", lambda *_: [np.full(4, np.nan)] * 8)
    with pytest.raises(UserError, match="lower learning_rate"):
        train(tmp_path, "bert")


def test_memory_that_ran_out_names_the_keys_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    monkeypatch.setattr(RankingTrainer, "compute_loss", Mock(side_effect=error))
    with pytest.raises(UserError, match=r"batch_size[\s\S]*prompt.max_length"):
        train(tmp_path, "bert")


def test_unavailable_weights_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    write_pools(tmp_path / "data")
    with pytest.raises(UserError, match=r"licence[\s\S]*HF_TOKEN[\s\S]*--base_model[\s\S]*minilm.yaml"):
        sft(CONFIGS / "llama-3-8b.yaml", tmp_path / "data", tmp_path / "outputs")


def test_missing_data_names_the_steps_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"finqa_with_rewards: run steps 02 and 03 first[\s\S]*python 02_"):
        sft(CONFIGS / "minilm.yaml", tmp_path / "finqa_with_rewards", tmp_path / "outputs")


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(trainer, "get_available_reporting_integrations", lambda: [])
    with pytest.raises(UserError, match=f"{name} is not installed"):
        train(tmp_path, "bert", f"trainer.report_to={name}")
    assert not (tmp_path / "outputs").exists()


def test_report_to_reaches_the_trainer_and_its_files_outlive_the_checkpoints(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard itself is not a dependency: a callback writes where its callback would."""

    class Writer(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            logs = Path(args.output_dir) / "runs" / "today"
            logs.mkdir(parents=True)
            (logs / "events").write_text("curve")

    monkeypatch.setattr(trainer, "get_available_reporting_integrations", lambda: ["tensorboard"])
    callbacks_of = Mock(return_value=[Writer])
    monkeypatch.setattr("transformers.trainer.get_reporting_integration_callbacks", callbacks_of)
    stage = train(root, "bert", "trainer.report_to=tensorboard", "trainer.max_steps=1")
    callbacks_of.assert_called_once_with(["tensorboard"])
    assert (stage / "tensorboard/today/events").read_text() == "curve"
    assert not (stage / "checkpoints").exists()
