"""Stage 04 whole, on tiny random models: the config of a large model, saving, reloading, resuming after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from finrank.commands import evaluate, sft
from finrank.errors import UserError
from finrank.ranker.encoding import encode
from finrank.ranker.saving import find_model, load_model
from finrank.ranker.scoring import score_pools
from finrank.records import RewardedPool
from finrank.store import load_records
from finrank.training import run as runs
from finrank.training import sft as sft_training
from tests.conftest import REPOSITORY
from tests.helpers.pools import write_pools
from tests.helpers.tiny_models import save_tiny_base

CONFIGS = REPOSITORY / "configs" / "models"
SMALL = ["prompt.max_length=256", "batch_size=4", "trainer.num_train_epochs=1", "mixed_precision=float32",
         "dtype=float32", "trainer.logging_steps=1"]  # fmt: skip


def train(tmp_path: Path, config: str, family: str, *more: str, **options: Any) -> Path:
    base = tmp_path / f"base-{family}"
    if not base.exists():
        save_tiny_base(base, family)
    data = tmp_path / "data"
    if not data.exists():
        write_pools(data)
    overrides = [*SMALL, *more]
    return sft.run(CONFIGS / config, data, tmp_path / "outputs", base_model=str(base), overrides=overrides, **options)


def dev_scores(model_dir: Path, data: Path) -> list[np.ndarray]:
    loaded = load_model(model_dir, device="cpu")
    pools = load_records(data / "dev.jsonl", RewardedPool)
    settings = loaded.model.settings.prompt
    encoded = [encode(pool, pool.candidates, loaded.tokenizer, settings) for pool in pools]
    return score_pools(loaded.model, encoded, route=loaded.route)


@pytest.fixture(scope="module")
def llama_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """llama-3-8b.yaml end to end with a tiny random Llama in place of the weights."""
    return train(tmp_path_factory.mktemp("llama"), "llama-3-8b.yaml", "llama")


def test_the_large_models_config_runs_its_whole_path(llama_stage: Path) -> None:
    assert llama_stage.parts[-2:] == ("run_001", "04_sft")
    assert sorted(path.name for path in llama_stage.iterdir()) == [
        "best_model",
        "final_model",
        "training_manifest.json",
    ]
    manifest = json.loads((llama_stage / "training_manifest.json").read_text())
    assert manifest["config"]["trainer"]["activation_checkpointing"] is True
    assert [row for row in manifest["curve"] if "loss" in row]
    assert manifest["metrics"]["dev"]["n"] == 8
    assert manifest["data"].keys() == {"train.jsonl", "selection.jsonl", "dev.jsonl"}
    assert not [path for path in llama_stage.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]


def test_adapter_and_head_have_learned_and_the_base_is_not_copied(llama_stage: Path) -> None:
    from safetensors.torch import load_file

    adapter = load_file(llama_stage / "final_model" / "adapter_model.safetensors")
    grown = [name for name, value in adapter.items() if "lora_B" in name and value.abs().max() > 0]
    assert len(grown) == len(adapter) // 2  # B starts at zero: every adapted layer was trained
    assert not [name for name in adapter if "lora" not in name]


def test_a_fresh_process_gives_bitwise_equal_scores(llama_stage: Path, tmp_path: Path) -> None:
    data = llama_stage.parents[2] / "data"
    here = dev_scores(llama_stage, data)
    code = (
        "import sys, numpy as np; from pathlib import Path; from tests.unit.training.test_sft import dev_scores\n"
        "np.savez(sys.argv[3], *dev_scores(Path(sys.argv[1]), Path(sys.argv[2])))"
    )
    out = tmp_path / "scores.npz"
    command = [sys.executable, "-c", code, str(llama_stage), str(data), str(out)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    with np.load(out) as there:
        assert len(there.files) == len(here)
        for one, name in zip(here, there.files, strict=True):
            assert one.dtype == np.float32
            np.testing.assert_array_equal(one, there[name])


def test_evaluate_gives_what_training_gave_though_that_ran_under_bfloat16_autocast(tmp_path: Path) -> None:
    stage = train(tmp_path, "llama-3-8b.yaml", "llama", "mixed_precision=bf16")
    result = evaluate.run(stage.parent, tmp_path / "data", split="dev", json_path=tmp_path / "dev.json")
    stored = json.loads((stage / "training_manifest.json").read_text())["metrics"]["dev"]
    assert {name: result[name] for name in stored} == stored
    assert json.loads((tmp_path / "dev.json").read_text())["baselines"]["chance"]["accuracy"] == pytest.approx(0.25)


PARTS = ["adapter_config.json", "adapter_model.safetensors", "score_head.safetensors", "ranker_config.json"]


@pytest.mark.parametrize("part", [*PARTS, "tokenizer.json"])
def test_a_model_with_a_part_missing_is_refused(llama_stage: Path, tmp_path: Path, part: str) -> None:
    copy = Path(shutil.copytree(llama_stage / "best_model", tmp_path / "model"))
    (copy / part).unlink()
    with pytest.raises(UserError, match=part):
        load_model(copy)


def test_a_model_with_another_runs_head_is_refused(llama_stage: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(llama_stage / "best_model", tmp_path / "model"))
    head = bytearray((copy / "score_head.safetensors").read_bytes())
    head[-1] ^= 1
    (copy / "score_head.safetensors").write_bytes(head)
    with pytest.raises(UserError, match="not the file that was saved"):
        load_model(copy)


def test_a_model_is_refused_other_base_weights_than_it_was_trained_on(llama_stage: Path, tmp_path: Path) -> None:
    other = save_tiny_base(tmp_path / "other", "llama", seed=1)
    with pytest.raises(UserError, match="the config pins"):
        load_model(llama_stage, base_model=str(other))
    same = save_tiny_base(tmp_path / "same", "llama")
    assert load_model(llama_stage, base_model=str(same)).route == "cached"


def test_training_starts_from_a_trained_model(llama_stage: Path, tmp_path: Path) -> None:
    root = llama_stage.parents[2]
    options = ["learning_rate=1e-12", "head_learning_rate=1e-12"]  # so small that the start is what is saved
    further = train(root, "llama-3-8b.yaml", "llama", *options, init_model=llama_stage)
    for one, other in zip(dev_scores(further, root / "data"), dev_scores(llama_stage, root / "data"), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    with pytest.raises(UserError, match=r"does not fit .*saved \[16, 64\], expected \[8, 64\]"):
        train(root, "llama-3-8b.yaml", "llama", "lora.rank=8", init_model=llama_stage)
    shutil.rmtree(further.parent)  # the next test counts runs


def test_the_next_run_gets_the_next_number_and_the_same_curve(llama_stage: Path) -> None:
    again = train(llama_stage.parents[2], "llama-3-8b.yaml", "llama")
    assert again.parts[-2:] == ("run_002", "04_sft")
    assert losses(again) == losses(llama_stage)


def losses(stage: Path) -> list[tuple[int, float]]:
    curve = json.loads((stage / "training_manifest.json").read_text())["curve"]
    return [(row["step"], row["loss"]) for row in curve if "loss" in row]


@pytest.mark.parametrize(("config", "family"), [("llama-3-8b.yaml", "llama"), ("minilm.yaml", "bert")])
def test_packed_and_naive_training_give_the_same_curve(tmp_path: Path, config: str, family: str) -> None:
    still = ["lora.dropout=0", "score_head.dropout=0", "trainer.gradient_accumulation_steps=1", "learning_rate=1e-2"]
    naive, mask, split, in_passes = (
        losses(train(tmp_path, config, family, *still, f"attention_route={route}", f"tokens_per_pass={most}"))
        for route, most in (("naive", 10**6), ("mask", 10**6), ("split", 10**6), ("split", 100))
    )
    assert len(naive) == 6
    assert abs(naive[0][1] - naive[-1][1]) > 0.01  # a curve that stands still would prove nothing
    for packed in (mask, split, in_passes):
        np.testing.assert_allclose(packed, naive, atol=1e-4)


class Elsewhere:
    """Trainer's arguments, with another device's name."""

    def __init__(self, arguments: TrainingArguments, device: str) -> None:
        self.device = torch.device(device)
        self.gradient_accumulation_steps = arguments.gradient_accumulation_steps


def test_on_a_gpu_accumulated_batches_are_joined_and_a_step_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pools(tmp_path / "data", train=8)  # one step per epoch: its questions are the same however they are batched
    still = ["lora.dropout=0", "score_head.dropout=0", "learning_rate=1e-2", "trainer.num_train_epochs=6"]
    apart = train(tmp_path, "minilm.yaml", "bert", *still, "trainer.gradient_accumulation_steps=2")
    real = sft_training._filling_a_gpu
    monkeypatch.setattr(sft_training, "_filling_a_gpu", lambda *own: real(*own[:3], Elsewhere(own[3], "cuda")))
    joined = train(tmp_path, "minilm.yaml", "bert", *still, "trainer.gradient_accumulation_steps=2")
    assert "batches hold 8 questions, not 4, and gradients are accumulated over 1 of them, not 2" in said(capsys)
    manifest = json.loads((joined / "training_manifest.json").read_text())
    assert (manifest["config"]["batch_size"], manifest["batch_size_on_device"]) == (4, 8)
    assert [step for step, _ in losses(joined)] == list(range(1, 7))
    np.testing.assert_allclose(losses(joined), losses(apart), atol=1e-4)
    capsys.readouterr()
    single = train(tmp_path, "minilm.yaml", "bert", *still, "trainer.gradient_accumulation_steps=1")
    assert "batches hold" not in said(capsys)
    assert len(losses(single)) == 12  # two steps per epoch, as the config says


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_pool_is_learned(tmp_path: Path) -> None:
    stage = train(
        tmp_path, "minilm.yaml", "bert", "trainer.num_train_epochs=12", "learning_rate=3e-3", "prompt.labels=false"
    )
    manifest = json.loads((stage / "training_manifest.json").read_text())
    assert manifest["metrics"]["selection"]["accuracy"] > 0.6  # chance is 0.25; + against - tells the answer


def test_quick_test_runs_a_handful(tmp_path: Path) -> None:
    stage = train(tmp_path, "qwen3-0.6b.yaml", "qwen3", quick_test=True)
    manifest = json.loads((stage / "training_manifest.json").read_text())
    assert manifest["quick_test"] is True
    assert max(row["step"] for row in manifest["curve"]) == 4


def test_candidate_only_is_marked_and_set_beside_the_real_model(tmp_path: Path) -> None:
    real = train(tmp_path, "minilm.yaml", "bert", quick_test=True)
    train(tmp_path, "minilm.yaml", "bert", candidate_only=True, quick_test=True)
    assert evaluate.run(real, tmp_path / "data")["baselines"]["candidate_only"] is None  # a quick test is no control
    control = train(tmp_path, "minilm.yaml", "bert", candidate_only=True)
    manifest = json.loads((control / "training_manifest.json").read_text())
    assert manifest["config"]["prompt"]["candidate_only"] is True
    result = evaluate.run(real, tmp_path / "data")
    assert result["baselines"]["candidate_only"]["accuracy"] == manifest["metrics"]["dev"]["accuracy"]


RESUME = ["trainer.num_train_epochs=3", 
          "trainer.eval_strategy=steps", "trainer.eval_steps=2", "trainer.gradient_accumulation_steps=1",
          "lora.dropout=0.1", "trainer.activation_checkpointing=false"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("patience", "kill_after"), [("null", 8), ("3", 4)])
def test_a_killed_run_resumes_to_the_curve_of_an_uninterrupted_one(
    tmp_path: Path, patience: str, kill_after: int
) -> None:
    settings = [*RESUME, f"early_stopping_patience={patience}"]
    whole = train(tmp_path, "llama-3-8b.yaml", "llama", *settings)
    last = losses(whole)[-1][0]
    assert (last == 18) == (patience == "null")  # with patience 3 this run stops early
    arguments = [
        "sft", "--config", str(CONFIGS / "llama-3-8b.yaml"), "--input_dir", str(tmp_path / "data"),
        "--output_dir", str(tmp_path / "killed"), "--base_model", str(tmp_path / "base-llama"),
    ]  # fmt: skip
    for override in [*SMALL, *settings]:
        arguments += ["--set", override]
    code = "import sys; from finrank.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *arguments]
    stage = tmp_path / "killed" / "run_001" / "04_sft"
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    wait_for(lambda: runs.last_checkpoint(stage) is not None and step_of(stage) >= kill_after, child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (stage / "training_manifest.json").exists()
    killed_at = step_of(stage)
    assert kill_after <= killed_at < last
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    assert losses(stage) == losses(whole)
    np.testing.assert_array_equal(
        np.concatenate(dev_scores(find_model(stage), tmp_path / "data")),
        np.concatenate(dev_scores(find_model(whole), tmp_path / "data")),
    )


def step_of(stage: Path) -> int:
    checkpoint = runs.last_checkpoint(stage)
    return 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])


def wait_for(condition: Any, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert child.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run wrote no checkpoint in time"
        time.sleep(0.02)


def test_two_processes_never_train_in_one_directory(tmp_path: Path) -> None:
    stage = runs.new_stage(tmp_path, "04_sft", {})
    with runs.lock_stage(stage), pytest.raises(UserError, match="is being trained by another process"):
        runs.lock_stage(stage)
    runs.lock_stage(stage).close()


def test_resume_takes_the_run_with_this_config_and_passes_over_others(tmp_path: Path) -> None:
    first = runs.new_stage(tmp_path, "04_sft", {"config": 1})
    runs.new_stage(tmp_path, "04_sft", {"config": 2})
    assert runs.unfinished_stage(tmp_path, "04_sft", {"config": 1}) == first
    with pytest.raises(UserError, match=r"began with other config"):
        runs.unfinished_stage(tmp_path, "04_sft", {"config": 3})


def test_scores_that_are_not_finite_end_training_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finrank.training import splits

    monkeypatch.setattr(splits, "score_split", lambda *_, **__: [np.full(4, np.nan)])
    with pytest.raises(UserError, match="lower learning_rate"):
        train(tmp_path, "minilm.yaml", "bert")


def test_resume_without_an_unfinished_run_says_so(llama_stage: Path) -> None:
    with pytest.raises(UserError, match="Nothing to resume"):
        train(llama_stage.parents[2], "llama-3-8b.yaml", "llama", resume=True)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 12 (Cannot"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_memory_that_ran_out_names_the_keys_to_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from finrank.training.trainer import RankingTrainer

    def exhausted(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(RankingTrainer, "compute_loss", exhausted)
    with pytest.raises(UserError, match=r"batch_size[\s\S]*prompt.max_length"):
        train(tmp_path, "minilm.yaml", "bert")


def test_weights_that_cannot_be_had_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    write_pools(tmp_path / "data")
    with pytest.raises(UserError, match=r"licence[\s\S]*HF_TOKEN[\s\S]*--base_model[\s\S]*minilm.yaml"):
        sft.run(CONFIGS / "llama-3-8b.yaml", tmp_path / "data", tmp_path / "outputs")


def test_missing_data_names_the_steps_to_run(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"Data not found in .*finqa_with_rewards: run steps 02 and 03 first[\s\S]*python 02_"
    ):
        sft.run(CONFIGS / "minilm.yaml", tmp_path / "finqa_with_rewards", tmp_path / "outputs")
