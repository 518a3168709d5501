"""Parts of the generation baseline: prompts, which tokens the loss is of, figures, choice of the best checkpoint."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finrank.errors import UserError
from finrank.generator.data import TrainingExample, choose_examples, read_examples
from finrank.generator.evaluation import choice_of, judge, perplexity_of
from finrank.generator.model import new_generator
from finrank.generator.settings import GeneratorSettings, generator_settings
from finrank.generator.sft import generation_trainer
from finrank.generator.text import TooLong, write_prompt, write_target
from finrank.pools.corruption.fit_likeness import fold_of
from finrank.pools.rewards import reward_pool
from finrank.records import RewardedPool
from finrank.training.config import load_config
from finrank.training.trainer import CheckpointTrainer, Job, training_arguments
from tests.helpers.pools import make_pool, write_pools, write_splits
from tests.helpers.tiny_generator import CONFIG, SMALL
from tests.helpers.tiny_models import save_tiny_base
from tests.helpers.training_runs import printed

Examples = list[TrainingExample]
Read = Callable[[Path], dict[str, Examples]]


@pytest.fixture(scope="module")
def settings(base: Path) -> GeneratorSettings:
    return settings_of(base)


def settings_of(base: Path, *more: str) -> GeneratorSettings:
    return generator_settings(load_config(CONFIG, [*SMALL, *more], str(base)))


@pytest.fixture(scope="module")
def read(tokenizer: Any, settings: GeneratorSettings) -> Read:
    return lambda data: read_examples(data, tokenizer, settings, quick_test=False)


@pytest.fixture(scope="module")
def examples(read: Read, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Those of pools 0 to 30."""
    return read(write_pools(tmp_path_factory.mktemp("data"), train=31))["train"]


def test_a_prompt_is_page_and_question_without_gold(settings: GeneratorSettings, tokenizer: Any) -> None:
    for gold in ({}, {"program": None, "answer": None}, {"program": "add(9, 11)", "answer": 20.0}):
        prompt = write_prompt(make_pool(3).model_copy(update=gold), tokenizer, settings)
        assert tokenizer.decode(prompt, skip_special_tokens=True) == (
            "table : 2012 | 2011 ;\nitem 3 : 103 | 10 ;\nother items : 9 | 11 ;\nthe table shows our items .\n"
            "we paid 3 in tax .\nquestion : what is the total of item 3 ?\n"
        )


def test_a_page_that_does_not_fit_is_cut_and_the_question_is_not(base: Path, tokenizer: Any) -> None:
    settings = settings_of(base, "prompt.max_length=130")
    pool = make_pool(3).model_copy(update={"text": ["one sentence among very many others ."] * 50})
    prompt = write_prompt(pool, tokenizer, settings)
    assert len(prompt) <= 130 - 64
    assert tokenizer.decode(prompt).endswith("question : what is the total of item 3 ?\n")
    assert "item 3 : 103" in tokenizer.decode(prompt)


def test_a_completion_is_never_cut(settings: GeneratorSettings, tokenizer: Any) -> None:
    target = write_target("q", "add(1, 2)", tokenizer, settings)
    assert tokenizer.decode(target) == '{"program": "add(1, 2)"}<|end|>'
    few = settings.model_copy(update={"max_new_tokens": len(target) - 1})
    with pytest.raises(TooLong, match=rf"q: its gold completion has {len(target)} tokens, .*max_new_tokens"):
        write_target("q", "add(1, 2)", tokenizer, few)


def gradients_by_token(trainer: CheckpointTrainer, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Absolute gradient of the training loss by the logits that it has, summed, [questions, kept]."""
    logits: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        logits.append(output)

    hook = trainer.model.get_base_model().lm_head.register_forward_hook(keep)
    trainer.compute_loss(trainer.model, batch).backward()
    hook.remove()
    assert logits[0].grad is not None
    return logits[0].grad.abs().sum(dim=-1)


def test_the_loss_is_of_the_completion_alone(base: Path, examples: Examples, tokenizer: Any) -> None:
    config = load_config(CONFIG, SMALL, str(base))
    examples = [examples[3], examples[12], examples[30]]
    rows = [example.features() for example in examples]
    model = new_generator(generator_settings(config))
    job = Job(config, model, tokenizer, rows, dict, lambda _: None, lambda _: None)
    trainer = generation_trainer(job, training_arguments(config, base))
    batch = next(iter(trainer.get_train_dataloader()))
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    assert len(set(lengths)) > 1  # some rows are padded
    by_tokens = {(*example.prompt, *example.completion): example for example in examples}
    gradients = gradients_by_token(trainer, batch)
    kept = gradients.shape[1]
    assert kept == 1 + max(len(example.completion) for example in examples)  # no logits of prompts
    for row, length in enumerate(lengths):
        example = by_tokens[tuple(batch["input_ids"][row, -length:].tolist())]
        start = kept - 1 - len(example.completion)
        assert gradients[row].nonzero().flatten().tolist() == list(range(start, kept - 1))
    everything = {**batch, "labels": batch["input_ids"].clone(), "logits_to_keep": batch["input_ids"].shape[1]}
    assert gradients_by_token(trainer, everything)[0, 0] > 0  # labels on the prompt would be seen


def test_perplexity_is_that_of_each_completion(settings: GeneratorSettings, examples: Examples, tokenizer: Any) -> None:
    model = new_generator(settings).eval()
    examples = [examples[number] for number in (3, 12, 30, 5)]
    losses = []
    for example in examples:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*example.prompt, *example.completion]])).logits[0]
        predicted = logits[len(example.prompt) - 1 : -1].log_softmax(dim=-1)
        losses += [-predicted[position, token].item() for position, token in enumerate(example.completion)]
    expected = math.exp(sum(losses) / len(losses))
    assert perplexity_of(model, tokenizer, [examples[:3], examples[3:]]) == pytest.approx(expected, rel=1e-4)

    model.get_base_model().lm_head.weight.fill_(math.nan)
    with pytest.raises(UserError, match="lower learning_rate"):
        perplexity_of(model, tokenizer, [examples])


@pytest.mark.parametrize(
    ("text", "parsed", "executed", "correct"),
    [
        ('{"answer": 113.0, "program": "add(103, 10)"}', True, True, True),
        ('{"answer": 1.0, "program": "add(10, 103)"} and more', True, True, True),  # the program counts, not the word
        ('{"answer": 113.0, "program": "add(103, 9)"}', True, True, False),
        ('{"answer": 113.0, "program": "divide(103, 0)"}', True, False, True),  # and beside a program that fails
        ('{"answer": 113.0}', True, False, True),  # a value alone is a candidate too
        ('{"answer": 113.0, "program": "add(103', True, False, True),  # cut off behind the answer
        ("113", True, False, True),
        ("it is unclear", False, False, False),
    ],
)
def test_a_completion_is_judged(examples: Examples, text: str, parsed: bool, executed: bool, correct: bool) -> None:
    outcome = judge(text, examples[3])
    assert outcome[:3] == (parsed, executed, correct)
    assert (outcome.reward == 1.0) == correct
    assert (outcome.reward > 0) == (executed or correct)


def test_a_wrong_completion_earns_the_reward_of_its_candidate(examples: Examples) -> None:
    example = examples[3]
    wrong = next(candidate for candidate in example.question.candidates if candidate.origin == "corrupted")
    pool = RewardedPool.model_validate(reward_pool(example.question).model_dump())
    reward = pool.rewards[example.question.candidates.index(wrong)]
    assert judge(json.dumps({"program": wrong.program}), example).reward == reward


def test_the_best_checkpoint_has_the_highest_reward_and_then_the_lowest_perplexity() -> None:
    ordered = [(0.0, math.inf), (0.0, 50.0), (0.0, 2.0), (1e-8, 1e9), (0.5, 3.0)]
    choices = [choice_of({"average_reward": reward, "perplexity": perplexity}) for reward, perplexity in ordered]
    assert choices == sorted(set(choices))


def test_evaluation_questions_are_chosen_by_hash(examples: Examples) -> None:
    few = choose_examples(examples, 5, seed=0)
    assert len(few) == 5
    assert few == [example for example in examples if example in few]
    reversed_few = choose_examples(examples[::-1], 5, seed=0)
    assert {example.question.id for example in reversed_few} == {example.question.id for example in few}
    assert choose_examples(examples, 5, seed=1) != few
    assert choose_examples(examples, 99, seed=0) == examples


def test_what_has_no_completion_is_left_out_and_counted(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pools(tmp_path / "data")
    pools = [
        *map(make_pool, range(3)),
        make_pool(50).model_copy(update={"program": None}),
        make_pool(50).model_copy(update={"program": "add(1"}),
        make_pool(0).model_copy(update={"id": "again#2"}),  # the question of the first line, another pool
        make_pool(50).model_copy(update={"question": "why is it so ? " * 200}),
    ]
    assert len(read(write_splits(data, {"train": pools}))["train"]) == 3
    shown = printed(capsys)
    assert "left out: 1 no program; 1 the gold program does not parse; " in shown
    assert "1 further pools of the same question; 1 too long" in shown
    assert "TEST/2012/page_25.pdf-50: the question" in shown


def test_a_left_out_half_of_the_train_pages_is_not_learned(
    base: Path, tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pools(tmp_path / "data", train=24)
    halves = []
    for half in (0, 1):
        settings = settings_of(base, f"generation.left_out_half={half}")
        read = read_examples(data, tokenizer, settings, quick_test=False)
        halves.append({example.question.id for example in read["train"]})
        assert {fold_of(example.question.page) for example in read["train"]} == {1 - half}
        assert len(read["selection"]) == 8
        assert f"{24 - len(halves[-1])} the half of the pages to leave out" in printed(capsys)
    assert len(halves[0]) + len(halves[1]) == len(halves[0] | halves[1]) == 24


@pytest.mark.parametrize("split", ["train", "selection"])
def test_nothing_to_learn_from_or_to_choose_by_is_an_error(read: Read, tmp_path: Path, split: str) -> None:
    data = write_pools(tmp_path / "data", train=2, selection=2)
    write_splits(data, {split: [make_pool(0).model_copy(update={"program": None})]})
    with pytest.raises(UserError, match=rf"{split}.jsonl holds no question with a gold program"):
        read(data)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_base_without_a_head_that_writes_is_refused(tmp_path: Path, family: str) -> None:
    encoder = save_tiny_base(tmp_path / "base", family)
    with pytest.raises(UserError, match=r"causal language model .*qwen3-0\.6b\.yaml"):
        new_generator(settings_of(encoder))


def test_a_hub_models_own_way_of_generating_does_not_count(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    (folder / "generation_config.json").write_text('{"repetition_penalty": 5.0, "do_sample": true, "temperature": 9.0}')
    decoding = new_generator(settings_of(folder)).get_base_model().generation_config
    assert decoding.repetition_penalty in (None, 1.0)
    assert decoding.temperature in (None, 1.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prompt.candidate_only=true", "it is the ranker's control"),
        ("prompt.context_tokens=0", "hides the page, which a generator needs"),
        ("generation.max_new_tokens=256", "leaves no room for a prompt"),
        ("prompt.max_length=2048", "2048 is over the 1024 positions"),
    ],
)
def test_settings_that_leave_nothing_to_read_are_refused(base: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        new_generator(settings_of(base, override))
