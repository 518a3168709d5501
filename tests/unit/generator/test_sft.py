"""The generation baseline on a tiny random model: it learns questions by heart, and writes their programs again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finrank.errors import UserError
from finrank.generator import model as writing
from finrank.generator import sft as recipe
from finrank.generator.data import choose_examples, read_examples
from finrank.generator.evaluation import evaluate_generator
from finrank.generator.model import Generator, load_generator, write
from finrank.generator.saving import CONFIG as CONFIG_FILE
from finrank.generator.text import write_prompt
from finrank.pools.completion import as_candidate
from finrank.records import RewardedPool
from finrank.store import load_records
from tests.helpers.pools import write_pools
from tests.helpers.tiny_generator import save_tiny_causal_lm, train
from tests.helpers.training_runs import (
    check_folder,
    curve,
    in_another_process,
    killed_at,
    manifest_of,
    printed,
    weights,
)

# LoRA on all linear layers of a frozen random base, as wide as the base; nothing else is trained.
LEARN_BY_HEART = [
    "lora.rank=32", "lora.alpha=64", "lora.dropout=0", "learning_rate=3e-3", "batch_size=4",
    "trainer.num_train_epochs=36", "trainer.eval_strategy=steps", "trainer.eval_steps=72",
    "trainer.activation_checkpointing=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 questions learned by heart; selection holds the same questions."""
    folder = tmp_path_factory.mktemp("generation")
    data = write_pools(folder / "data", train=8, selection=1, dev=3)
    shutil.copy(data / "train.jsonl", data / "selection.jsonl")
    return train(folder, *LEARN_BY_HEART)


@pytest.fixture(scope="module")
def learned(stage: Path) -> list[RewardedPool]:
    return load_records(stage.parents[2] / "data" / "train.jsonl", RewardedPool)


@pytest.fixture(scope="module")
def asked(stage: Path) -> list[RewardedPool]:
    """Questions that were not learned: the texts are long and random."""
    return load_records(stage.parents[2] / "data" / "dev.jsonl", RewardedPool)


@pytest.fixture(scope="module")
def generator(stage: Path) -> Generator:
    return load_generator(stage.parent, device="cpu")


def greedy(generator: Generator, questions: list[Any]) -> list[str]:
    return [texts[0] for texts in generator.complete(questions, num_samples=1, temperature=0, top_p=1, seed=0)]


def test_questions_are_learned_to_the_right_programs(
    stage: Path, generator: Generator, learned: list[RewardedPool]
) -> None:
    metrics = manifest_of(stage)["metrics"]["selection"]
    assert metrics["n"] == 8
    assert metrics["parse_rate"] == metrics["execution_rate"] == metrics["accuracy"] == metrics["average_reward"] == 1.0
    assert metrics["perplexity"] < 1.1
    for text, question in zip(greedy(generator, learned), learned, strict=True):
        made = as_candidate(text, question.table)
        assert (made.program, made.answer) == (question.program, question.answer)


def test_the_run_directory_is_like_that_of_the_ranker(stage: Path) -> None:
    check_folder(stage, "run_001", "04_sft_generation")
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
    assert no_adapter_is_untrained(stage)


def no_adapter_is_untrained(stage: Path) -> bool:
    """True if the saved weights are adapters alone, all of them different from their start (B at zero)."""
    adapter = load_file(stage / "best_model" / "adapter_model.safetensors")
    return all("lora" in name and ("lora_A" in name or value.any()) for name, value in adapter.items())


@pytest.mark.slow
def test_a_fresh_process_writes_the_same_texts(stage: Path, generator: Generator, asked: list[RewardedPool]) -> None:
    data = stage.parents[2] / "data" / "dev.jsonl"
    code = (
        "from tests.unit.generator.test_sft import *\n"
        "result = greedy(load_generator(arguments[0], device='cpu'), load_records(arguments[1], RewardedPool))"
    )
    assert in_another_process(code, stage, data) == greedy(generator, asked)


def test_padding_on_the_left_does_not_change_a_text(
    generator: Generator, learned: list[RewardedPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = generator.tokenizer
    prompts = [write_prompt(question, tokenizer, generator.settings) for question in learned[:6]]
    prompts[1] = prompts[1][:5]  # a much shorter one
    alone = [write(generator, [prompt])[0] for prompt in prompts]
    assert write(generator, prompts) == alone
    pad = tokenizer.pad
    monkeypatch.setattr(tokenizer, "pad", lambda rows, padding_side, **how: pad(rows, padding_side="right", **how))
    assert write(generator, prompts) != alone


def test_samples_depend_on_seed_and_question_alone(generator: Generator, asked: list[RewardedPool]) -> None:
    def sample(questions: list[RewardedPool], seed: int, temperature: float = 5.0) -> list[list[str]]:
        return generator.complete(questions, num_samples=3, temperature=temperature, top_p=0.95, seed=seed)

    before = torch.random.get_rng_state()
    texts = sample(asked, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [len(set(samples)) > 1 for samples in texts] == [True] * 3
    assert sample([asked[2], asked[0]], seed=0) == [texts[2], texts[0]]
    assert sample(asked[:1], seed=1) != texts[:1]
    greedy_texts = sample(asked[:1], seed=0, temperature=0)[0]
    assert greedy_texts == [greedy_texts[0]] * 3


def test_several_texts_are_written_from_one_reading_of_the_prompt(
    generator: Generator, asked: list[RewardedPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"num_samples": 4, "temperature": 1.0, "top_p": 1.0, "seed": 3}
    read: list[int] = []
    embedding = generator.model.get_base_model().get_input_embeddings()
    hook = embedding.register_forward_hook(lambda _module, inputs, _output: read.append(inputs[0].numel()))
    together = generator.complete(asked, **how)
    prompts = [write_prompt(question, generator.tokenizer, generator.settings) for question in asked]
    assert [count for count in read if count > 4] == [len(prompt) - 1 for prompt in prompts]
    read.clear()
    copies = lambda base, ids, copies: {"input_ids": ids.repeat_interleave(copies, dim=0)}  # noqa: E731
    monkeypatch.setattr(writing, "_read_once", copies)
    assert generator.complete(asked, **how) == together
    hook.remove()
    assert max(read) == 4 * max(map(len, prompts))


@pytest.mark.parametrize("part", ["adapter_model.safetensors", CONFIG_FILE, "tokenizer.json"])
def test_a_generator_with_a_part_missing_is_refused(stage: Path, tmp_path: Path, part: str) -> None:
    copy = Path(shutil.copytree(stage / "best_model", tmp_path / "model"))
    (copy / part).unlink()
    with pytest.raises(UserError, match=part):
        load_generator(copy)


def test_a_generator_of_another_prompt_version_is_refused(stage: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(stage / "best_model", tmp_path / "model"))
    stored = json.loads((copy / CONFIG_FILE).read_text())
    (copy / CONFIG_FILE).write_text(json.dumps({**stored, "prompt_version": 0}))
    with pytest.raises(UserError, match="prompt version 0"):
        load_generator(copy)


def test_a_generator_is_refused_other_base_weights(stage: Path, learned: list[RewardedPool], tmp_path: Path) -> None:
    other = save_tiny_causal_lm(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="the config pins"):
        load_generator(stage, base_model=str(other))
    same = shutil.copytree(stage.parents[2] / "base", tmp_path / "same")
    text = greedy(load_generator(stage, base_model=str(same), device="cpu"), learned[:1])[0]
    assert as_candidate(text, []).program == learned[0].program


def test_the_wrong_folder_or_task_names_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No generator in .*04_sft_train_generation\.py"):
        load_generator(tmp_path)
    with pytest.raises(UserError, match=r"task: ranking .*04_sft_train\.py"):
        train(tmp_path, "task=ranking")


# Short texts: a model that has learned nothing writes until it is stopped.
SHORT = ["generation.max_new_tokens=48", "generation.evaluation_questions=4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a tiny model and, in outputs, the runs of the tests."""
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
    *SHORT, "generation.evaluation_questions=1", "trainer.max_steps=9", "trainer.eval_strategy=steps",
    "trainer.eval_steps=3", "trainer.logging_steps=5", "lora.dropout=0.1", "trainer.activation_checkpointing=false",
]  # fmt: skip


def test_a_killed_run_resumes_to_the_curve_of_a_whole_one(folder: Path) -> None:
    whole = train(folder, *RESUMED)
    assert [step for step, _ in curve(whole)] == [3, 5, 6, 9]  # every fifth, and the checkpoints
    with killed_at(5):
        train(folder, *RESUMED)
    resumed = train(folder, *RESUMED, resume=True)
    assert resumed != whole
    assert curve(resumed) == curve(whole)
    for model in ("best_model", "final_model"):
        assert weights(resumed / model) == weights(whole / model)
        assert (resumed / model / CONFIG_FILE).read_bytes() == (whole / model / CONFIG_FILE).read_bytes()


def test_quick_test_runs_a_handful_and_names_ignored_keys(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = manifest_of(train(folder, *SHORT, "prompt.labels=false", quick_test=True))
    assert "ignored here: pooling, score_head, head_learning_rate, prompt.labels" in printed(capsys)
    assert manifest["quick_test"] is True
    assert manifest["curve"][-1]["step"] == 4


def test_training_under_bfloat16_autocast_measures_the_model_that_is_loaded(folder: Path) -> None:
    stage = train(folder, *SHORT, "trainer.num_train_epochs=1", "mixed_precision=bf16")
    stored = manifest_of(stage)["metrics"]["dev"]
    generator = load_generator(stage, device="cpu")
    examples = read_examples(folder / "data", generator.tokenizer, generator.settings, quick_test=False)["dev"]
    assert evaluate_generator(generator, choose_examples(examples, 4, seed=0), batch_size=4) == stored
