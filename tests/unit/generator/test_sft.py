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

from finrank.errors import UserError
from finrank.generator.model import Generator, load_generator, new_generator, write
from finrank.generator.saving import load_weights, read_settings
from finrank.generator.text import TooLong, write_prompt
from finrank.pools.completion import as_candidate, read_completion
from finrank.records import RewardedPool
from finrank.store import load_records
from tests.conftest import REPOSITORY
from tests.helpers.pools import write_pools
from tests.helpers.tiny_generator import save_tiny_causal_lm, train
from tests.helpers.training_runs import manifest_of

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


def test_only_adapters_are_trained_and_saved(stage: Path) -> None:
    adapter = load_file(stage / "best_model" / "adapter_model.safetensors")
    assert adapter
    assert not [name for name in adapter if "lora" not in name]
    assert [name for name, value in adapter.items() if "lora_B" in name and not value.any()] == []


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


def test_a_question_that_does_not_fit_is_named(generator: Generator, learned: list[RewardedPool]) -> None:
    long = learned[0].model_copy(update={"question": "why is it ? " * 300})
    with pytest.raises(TooLong, match=rf"{learned[0].id}: the question .*prompt.max_length 256"):
        greedy(generator, [long])


@pytest.mark.parametrize("part", ["adapter_model.safetensors", "generator_config.json", "tokenizer.json"])
def test_a_generator_with_a_part_missing_is_refused(stage: Path, tmp_path: Path, part: str) -> None:
    copy = Path(shutil.copytree(stage / "best_model", tmp_path / "model"))
    (copy / part).unlink()
    with pytest.raises(UserError, match=part):
        load_generator(copy)


def test_a_generator_with_another_runs_adapter_is_refused(stage: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(stage / "best_model", tmp_path / "model"))
    adapter = bytearray((copy / "adapter_model.safetensors").read_bytes())
    adapter[-1] ^= 1
    (copy / "adapter_model.safetensors").write_bytes(adapter)
    with pytest.raises(UserError, match="not the file that was saved"):
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
        load_weights(smaller, stage / "best_model")


def test_no_folder_of_a_generator_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No generator in .*04_sft_train_generation\.py"):
        load_generator(tmp_path)
