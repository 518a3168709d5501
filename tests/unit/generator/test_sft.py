"""The generation baseline on a tiny random model: it learns 20 questions by heart, and writes them when asked again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from finrank.cli import app
from finrank.errors import UserError
from finrank.generator import sft as recipe
from finrank.generator.data import choose_examples, read_examples
from finrank.generator.evaluation import evaluate_generator
from finrank.generator.model import Generator, load_generator, new_generator, write
from finrank.generator.saving import CONFIG as CONFIG_FILE
from finrank.generator.saving import read_settings
from finrank.generator.text import write_prompt
from finrank.pools.completion import as_candidate, read_completion
from finrank.ranker.saving import load_adapter
from finrank.records import RewardedPool
from finrank.store import load_records
from tests.conftest import REPOSITORY
from tests.helpers.pools import write_pools
from tests.helpers.tiny_generator import CONFIG, SMALL, save_tiny_causal_lm, train
from tests.helpers.training_runs import curve, killed_at, manifest_of, weights

# LoRA on all linear layers of a frozen random base, as wide as the base; nothing else is trained.
LEARN_BY_HEART = [
    "lora.rank=32", "lora.alpha=64", "lora.dropout=0", "learning_rate=3e-3", "batch_size=4",
    "trainer.num_train_epochs=32", "trainer.eval_strategy=steps", "trainer.eval_steps=160",
    "trainer.activation_checkpointing=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 questions learned by heart; selection holds the same questions."""
    folder = tmp_path_factory.mktemp("generation")
    data = write_pools(folder / "data", train=20, selection=1, dev=3)
    shutil.copy(data / "train.jsonl", data / "selection.jsonl")
    return train(folder, *LEARN_BY_HEART)


@pytest.fixture(scope="module")
def learned(stage: Path) -> list[RewardedPool]:
    return load_records(stage.parents[2] / "data" / "train.jsonl", RewardedPool)


@pytest.fixture(scope="module")
def generator(stage: Path) -> Generator:
    return load_generator(stage.parent, device="cpu")


def greedy(generator: Generator, questions: list[Any]) -> list[str]:
    return [texts[0] for texts in generator.complete(questions, num_samples=1, temperature=0, top_p=1, seed=0)]


def test_20_questions_are_learned_to_the_right_programs(
    stage: Path, generator: Generator, learned: list[RewardedPool]
) -> None:
    metrics = manifest_of(stage)["metrics"]["selection"]
    assert metrics["n"] == 20
    assert metrics["parse_rate"] == metrics["execution_rate"] == metrics["accuracy"] == metrics["average_reward"] == 1.0
    assert metrics["perplexity"] < 1.1
    for text, question in zip(greedy(generator, learned), learned, strict=True):
        assert read_completion(text) == (question.program, question.answer)
        assert as_candidate(text, question.table).answer == question.answer


def test_the_run_directory_is_like_that_of_the_ranker(stage: Path) -> None:
    assert stage.parts[-2:] == ("run_001", "04_sft_generation")
    assert sorted(path.name for path in stage.iterdir()) == ["best_model", "final_model", "training_manifest.json"]
    assert not [path for path in stage.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]
    manifest = manifest_of(stage)
    assert manifest["stage"] == "sft_generation"
    assert manifest["config"]["task"] == "generation"
    assert manifest.keys() == {
        "stage", "config", "data", "quick_test", "seed", "best_step", "metrics", "versions", "device", "threads",
        "seconds", "train_seconds", "train_cpu_seconds", "peak_memory_mib", "curve",
    }  # fmt: skip
    assert manifest["best_step"] in {row["step"] for row in manifest["curve"] if "eval_choice" in row}
    figures = ["n", "perplexity", "parse_rate", "execution_rate", "accuracy", "average_reward"]
    assert {name: list(row) for name, row in manifest["metrics"].items()} == {"selection": figures, "dev": figures}


def no_adapter_is_untrained(stage: Path) -> bool:
    """True if the saved weights are adapters alone, all of them different from their start (B at zero)."""
    adapter = load_file(stage / "best_model" / "adapter_model.safetensors")
    return all("lora" in name and ("lora_A" in name or value.any()) for name, value in adapter.items())


def test_only_adapters_are_trained_and_saved(stage: Path) -> None:
    assert no_adapter_is_untrained(stage)


def test_a_fresh_process_writes_the_same_texts(
    stage: Path, generator: Generator, learned: list[RewardedPool], tmp_path: Path
) -> None:
    code = (
        "import json, sys; from pathlib import Path; from finrank.records import RewardedPool\n"
        "from finrank.store import load_records\n"
        "from finrank.generator.model import load_generator\n"
        "from tests.unit.generator.test_sft import greedy\n"
        "questions = load_records(Path(sys.argv[2]), RewardedPool)\n"
        "texts = greedy(load_generator(Path(sys.argv[1]), device='cpu'), questions)\n"
        "Path(sys.argv[3]).write_text(json.dumps(texts))"
    )
    data = stage.parents[2] / "data" / "dev.jsonl"  # not learned: the texts are long and odd
    out = tmp_path / "texts.json"
    subprocess.run(
        [sys.executable, "-c", code, str(stage), str(data), str(out)], cwd=REPOSITORY, check=True, capture_output=True
    )
    assert json.loads(out.read_text()) == greedy(generator, load_records(data, RewardedPool))


def test_padding_on_the_left_does_not_change_a_text(
    generator: Generator, learned: list[RewardedPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, tokens = generator.tokenizer, generator.settings.max_new_tokens
    prompts = [write_prompt(question, tokenizer, generator.settings) for question in learned[:6]]
    prompts[1] = prompts[1][:5]  # a much shorter one
    alone = [write(generator.model, tokenizer, [prompt], tokens)[0] for prompt in prompts]
    assert write(generator.model, tokenizer, prompts, tokens) == alone
    pad = tokenizer.pad
    monkeypatch.setattr(tokenizer, "pad", lambda rows, padding_side, **how: pad(rows, padding_side="right", **how))
    assert write(generator.model, tokenizer, prompts, tokens) != alone


def test_samples_depend_on_seed_and_question_alone(generator: Generator, stage: Path) -> None:
    questions = load_records(stage.parents[2] / "data" / "dev.jsonl", RewardedPool)[:3]

    def sample(asked: list[RewardedPool], seed: int) -> list[list[str]]:
        return generator.complete(asked, num_samples=4, temperature=1.5, top_p=0.95, seed=seed)

    before = torch.random.get_rng_state()
    texts = sample(questions, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [len(set(samples)) > 1 for samples in texts] == [True] * 3
    assert sample([questions[2], questions[0]], seed=0) == [texts[2], texts[0]]
    assert sample(questions, seed=1) != texts


def test_greedy_samples_are_one_text(generator: Generator, learned: list[RewardedPool]) -> None:
    texts = generator.complete(learned[:1], num_samples=3, temperature=0, top_p=1, seed=0)[0]
    assert len(texts) == 3
    assert len(set(texts)) == 1


@pytest.mark.parametrize("part", ["adapter_model.safetensors", "generator_config.json", "tokenizer.json"])
def test_a_generator_with_a_part_missing_is_refused(stage: Path, tmp_path: Path, part: str) -> None:
    copy = Path(shutil.copytree(stage / "best_model", tmp_path / "model"))
    (copy / part).unlink()
    with pytest.raises(UserError, match=part):
        load_generator(copy)


def test_a_generator_of_another_prompt_version_is_refused(stage: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(stage / "best_model", tmp_path / "model"))
    stored = json.loads((copy / "generator_config.json").read_text())
    (copy / "generator_config.json").write_text(json.dumps({**stored, "prompt_version": 0}))
    with pytest.raises(UserError, match="prompt version 0"):
        load_generator(copy)


def test_a_generator_is_refused_other_base_weights(stage: Path, learned: list[RewardedPool], tmp_path: Path) -> None:
    other = save_tiny_causal_lm(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="the config pins"):
        load_generator(stage, base_model=str(other))
    same = shutil.copytree(stage.parents[2] / "base", tmp_path / "same")
    text = greedy(load_generator(stage, base_model=str(same), device="cpu"), learned[:1])[0]
    assert read_completion(text).program == learned[0].program


def test_weights_of_another_lora_are_refused(stage: Path, tmp_path: Path) -> None:
    settings = read_settings(stage / "best_model")
    smaller = new_generator(settings.model_copy(update={"lora": settings.lora.model_copy(update={"rank": 8})}))
    with pytest.raises(UserError, match=r"does not fit .*saved \[32, 128\], expected \[8, 128\]"):
        load_adapter(smaller, stage / "best_model")


def test_no_folder_of_a_generator_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No generator in .*04_sft_train_generation\.py"):
        load_generator(tmp_path)


# Short texts: a model that has learned nothing writes until it is stopped.
SHORT = ["generation.max_new_tokens=48", "generation.evaluation_questions=4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and a tiny model; runs of the tests are in outputs beside them."""
    folder = tmp_path_factory.mktemp("generation")
    save_tiny_causal_lm(folder / "base")
    write_pools(folder / "data")
    return folder


def test_an_earlier_checkpoint_can_be_the_best(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    falling = iter([3.0, 2.0, 1.0])
    monkeypatch.setattr(recipe, "choice_of", lambda figures: next(falling))
    checkpointing = "trainer.activation_checkpointing=true"
    stage = train(folder, *SHORT, "trainer.num_train_epochs=2", "learning_rate=1e-2", checkpointing)
    assert no_adapter_is_untrained(stage)
    manifest = manifest_of(stage)
    first, *_, last = (row for row in manifest["curve"] if "eval_perplexity" in row)
    assert manifest["best_step"] == first["step"] < last["step"]
    assert manifest["metrics"]["selection"]["perplexity"] == pytest.approx(first["eval_perplexity"], rel=1e-6)
    assert first["eval_perplexity"] != pytest.approx(last["eval_perplexity"], rel=1e-3)


RESUMED = [
    *SHORT, "trainer.num_train_epochs=2", "trainer.eval_strategy=steps", "trainer.eval_steps=3",
    "trainer.logging_steps=5", "lora.dropout=0.1", "trainer.activation_checkpointing=false",
]  # fmt: skip


def test_a_killed_run_resumes_to_the_curve_of_a_whole_one(folder: Path) -> None:
    whole = train(folder, *RESUMED)
    assert [step for step, _ in curve(whole)] == [3, 5, 6, 9, 10, 12]  # every fifth, and the checkpoints
    with killed_at(8):
        train(folder, *RESUMED)
    resumed = train(folder, *RESUMED, resume=True)
    assert resumed != whole
    assert curve(resumed) == curve(whole)
    for model in ("best_model", "final_model"):
        assert weights(resumed / model) == weights(whole / model)
        assert (resumed / model / CONFIG_FILE).read_bytes() == (whole / model / CONFIG_FILE).read_bytes()


def test_quick_test_runs_a_handful_from_the_command_line(folder: Path) -> None:
    arguments = [
        "generation", "--config", str(CONFIG), "--input_dir", str(folder / "data"),
        "--output_dir", str(folder / "quick"), "--base_model", str(folder / "base"), "--quick_test",
    ]  # fmt: skip
    for override in [*SMALL, *SHORT]:
        arguments += ["--set", override]
    result = CliRunner().invoke(app, [*arguments, "--set", "prompt.labels=false"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "best model:" in result.output
    assert "ignored here: pooling, score_head, head_learning_rate, prompt.labels" in " ".join(result.output.split())
    manifest = manifest_of(folder / "quick" / "run_001" / "04_sft_generation")
    assert manifest["quick_test"] is True
    assert manifest["curve"][-1]["step"] == 4


def test_a_config_of_the_ranking_task_is_sent_to_its_command(folder: Path) -> None:
    with pytest.raises(UserError, match=r"task: ranking .*04_sft_train\.py"):
        train(folder, "task=ranking")


def test_training_under_bfloat16_autocast_measures_the_model_that_is_loaded(folder: Path) -> None:
    stage = train(folder, *SHORT, "trainer.num_train_epochs=1", "mixed_precision=bf16")
    stored = manifest_of(stage)["metrics"]["dev"]
    generator = load_generator(stage, device="cpu")
    examples = read_examples(folder / "data", generator.tokenizer, generator.settings, quick_test=False)["dev"]
    figures = evaluate_generator(
        generator.model, generator.tokenizer, choose_examples(examples, 4, seed=0), batch_size=4, max_new_tokens=48
    )
    assert figures == stored
