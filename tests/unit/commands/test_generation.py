"""`finrank generation` through its stage: the whole path, resume, and faults that end in advice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from finrank.cli_training import generation as command
from finrank.generator.trainer import GenerationTrainer
from typer.testing import CliRunner

from finrank.errors import UserError
from finrank.generator import sft as training
from finrank.generator.data import choose_examples, read_examples
from finrank.generator.evaluation import evaluate_generator
from finrank.generator.model import load_generator
from finrank.store import sha256
from tests.helpers.pools import write_pools
from tests.helpers.tiny_generator import CONFIG, SMALL, manifest_of, save_tiny_causal_lm, train

# Short texts: a model that has learned nothing writes until it is stopped.
SHORT = ["generation.max_new_tokens=48", "generation.evaluation_questions=4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and a tiny model; runs of the tests are in outputs beside them."""
    folder = tmp_path_factory.mktemp("generation")
    save_tiny_causal_lm(folder / "base")
    write_pools(folder / "data")
    return folder


@pytest.fixture(scope="module")
def stage(folder: Path) -> Path:
    return train(folder, *SHORT, "trainer.num_train_epochs=2", "trainer.activation_checkpointing=true")


def test_the_run_directory_is_like_that_of_the_ranker(stage: Path) -> None:
    assert stage.parts[-2:] == ("run_001", "04_sft_generation")
    assert sorted(path.name for path in stage.iterdir()) == ["best_model", "final_model", "training_manifest.json"]
    manifest = manifest_of(stage)
    assert manifest["stage"] == "sft_generation"
    assert manifest["config"]["task"] == "generation"
    wanted = [
        "config",
        "data",
        "versions",
        "device",
        "seconds",
        "train_seconds",
        "train_cpu_seconds",
        "peak_memory_mib",
        "curve",
        "seed",
    ]
    assert {*wanted, "best_step", "quick_test", "threads"} < manifest.keys()
    assert manifest["best_step"] in {row["step"] for row in manifest["curve"] if "eval_choice" in row}
    figures = ["n", "perplexity", "parse_rate", "execution_rate", "accuracy", "average_reward"]
    assert {name: list(own) for name, own in manifest["metrics"].items()} == {"selection": figures, "dev": figures}
    assert manifest["metrics"]["dev"]["n"] == 4  # generation.evaluation_questions of 8
    assert not [path for path in stage.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]


def test_adapters_learn_under_activation_checkpointing(stage: Path) -> None:
    from safetensors.torch import load_file

    adapter = load_file(stage / "final_model" / "adapter_model.safetensors")
    assert [name for name, value in adapter.items() if "lora_B" in name and not value.any()] == []
    curve = [row["loss"] for row in manifest_of(stage)["curve"] if "loss" in row]
    assert curve[-1] < curve[0]


def test_the_best_checkpoint_is_kept(stage: Path) -> None:
    manifest = manifest_of(stage)
    best = max((row for row in manifest["curve"] if "eval_choice" in row), key=lambda row: row["eval_choice"])
    assert manifest["best_step"] == best["step"]
    assert manifest["metrics"]["selection"]["perplexity"] == pytest.approx(best["eval_perplexity"], rel=1e-6)


def test_an_earlier_checkpoint_can_be_the_best(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    falling = iter([3.0, 2.0, 1.0])
    monkeypatch.setattr(training, "choice_of", lambda figures: next(falling))
    manifest = manifest_of(train(folder, *SHORT, "trainer.num_train_epochs=2", "learning_rate=1e-2"))
    first, *_, last = (row for row in manifest["curve"] if "eval_perplexity" in row)
    assert manifest["best_step"] == first["step"] < last["step"]
    assert manifest["metrics"]["selection"]["perplexity"] == pytest.approx(first["eval_perplexity"], rel=1e-6)
    assert first["eval_perplexity"] != pytest.approx(last["eval_perplexity"], rel=1e-3)


RESUMED = [
    *SHORT, "trainer.num_train_epochs=2", "trainer.eval_strategy=steps", "trainer.eval_steps=3",
    "trainer.logging_steps=5", "lora.dropout=0.1", "trainer.activation_checkpointing=false",
]  # fmt: skip


def losses(stage: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in manifest_of(stage)["curve"] if "loss" in row]


def test_a_run_that_broke_off_resumes_to_the_curve_of_a_whole_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(folder, *RESUMED)
    assert [step for step, _ in losses(whole)] == [3, 5, 6, 9, 10, 12]  # every fifth, and the checkpoints
    steps = []

    def breaking(self: GenerationTrainer, *arguments: Any, **options: Any) -> Any:
        steps.append(self.state.global_step)
        if len(steps) == 9:
            raise KeyboardInterrupt
        return super(GenerationTrainer, self).training_step(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(GenerationTrainer, "training_step", breaking)
        with pytest.raises(KeyboardInterrupt):
            train(folder, *RESUMED)
    resumed = train(folder, *RESUMED, resume=True)
    assert resumed != whole
    assert steps[-1] == 8
    assert losses(resumed) == losses(whole)
    for model in ("best_model", "final_model"):
        for part in ("adapter_model.safetensors", "generator_config.json"):
            assert sha256(resumed / model / part) == sha256(whole / model / part)


def test_nothing_to_resume_says_so(folder: Path, stage: Path) -> None:
    with pytest.raises(UserError, match="Nothing to resume"):
        train(folder, *SHORT, "trainer.num_train_epochs=2", resume=True)


def test_quick_test_runs_a_handful_from_the_command_line(folder: Path) -> None:
    app = typer.Typer()
    app.command("generation")(command)
    arguments = [
        "--config", str(CONFIG), "--input_dir", str(folder / "data"), "--output_dir", str(folder / "quick"),
        "--base_model", str(folder / "base"), "--quick_test",
    ]  # fmt: skip
    for override in [*SMALL, *SHORT]:
        arguments += ["--set", override]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "best model:" in result.output
    manifest = manifest_of(folder / "quick" / "run_001" / "04_sft_generation")
    assert manifest["quick_test"] is True
    assert max(row["step"] for row in manifest["curve"]) == 4


def test_a_config_of_the_ranking_task_is_sent_to_its_command(folder: Path) -> None:
    with pytest.raises(UserError, match=r"task: ranking .*04_sft_train\.py"):
        train(folder, "task=ranking")


def test_keys_that_only_the_ranker_uses_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(folder, *SHORT, "task=generation", "prompt.labels=false", quick_test=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "ignored here: pooling, score_head, head_learning_rate, prompt.labels" in said


def test_missing_data_names_the_steps_to_run(folder: Path, tmp_path: Path) -> None:
    from finrank.commands import generation

    with pytest.raises(UserError, match=r"Data not found in .*finqa_with_rewards: run steps 02 and 03 first"):
        generation.run(CONFIG, tmp_path / "finqa_with_rewards", tmp_path / "outputs", base_model=str(folder / "base"))


def test_training_under_bfloat16_autocast_measures_the_model_that_is_loaded(folder: Path) -> None:
    stage = train(folder, *SHORT, "trainer.num_train_epochs=1", "mixed_precision=bf16")
    stored = manifest_of(stage)["metrics"]["dev"]
    generator = load_generator(stage, device="cpu")
    examples = read_examples(folder / "data", generator.tokenizer, generator.settings, quick_test=False)["dev"]
    found = evaluate_generator(
        generator.model, generator.tokenizer, choose_examples(examples, 4, seed=0), batch_size=4, max_new_tokens=48
    )
    assert found == stored


def test_the_same_seed_gives_the_same_bytes(folder: Path, stage: Path) -> None:
    again = train(folder, *SHORT, "trainer.num_train_epochs=2", "trainer.activation_checkpointing=true")
    assert losses(again) == losses(stage)
    weights = "best_model/adapter_model.safetensors"
    assert sha256(again / weights) == sha256(stage / weights)
    assert json.dumps(manifest_of(again)["metrics"]) == json.dumps(manifest_of(stage)["metrics"])
