"""The data of a generator: questions with a gold program, each as prompt and completion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import BatchEncoding

from finrank.console import say, track, warn
from finrank.errors import UserError
from finrank.generator.settings import GeneratorSettings
from finrank.generator.text import TooLong, write_prompt, write_target
from finrank.pools.pool import NoPool, gold_program
from finrank.records import Answer, RewardedPool
from finrank.seeds import seeded_random
from finrank.store import load_records

IGNORED = -100  # the label of tokens that the loss leaves out, in torch and transformers
_QUICK_QUESTIONS = {"train": 32, "selection": 8, "dev": 8}  # of --quick_test


@dataclass(frozen=True)
class TrainingExample:
    """A question with its executed gold answer, and the token ids of its prompt and of its gold completion."""

    question: RewardedPool
    gold: Answer
    prompt: list[int]
    completion: list[int]

    def features(self) -> dict[str, list[int]]:
        """The example as a row of a batch; only the completion has labels.

        Prompt [5, 6] and completion [7, 1] become input_ids [5, 6, 7, 1] and labels [-100, -100, 7, 1].
        """
        labels = [IGNORED] * len(self.prompt) + self.completion
        return {"input_ids": [*self.prompt, *self.completion], "labels": labels}


def read_examples(
    input_dir: Path, tokenizer: Any, settings: GeneratorSettings, quick_test: bool
) -> dict[str, list[TrainingExample]]:
    """The examples of those of train, selection and dev that exist; prints how many were left out, and why.

    Raises UserError without an example of train or selection.
    """
    splits = {}
    for name, quick_questions in _QUICK_QUESTIONS.items():
        path = input_dir / f"{name}.jsonl"
        if path.is_file():
            pools = load_records(path, RewardedPool)[: quick_questions if quick_test else None]
            splits[name] = _examples(name, pools, tokenizer, settings)
    for name, use in {"train": "to learn from", "selection": "to choose the best checkpoint by"}.items():
        if not splits.get(name):
            raise UserError(f"{input_dir / name}.jsonl holds no question with a gold program {use}")
    return splits


def _examples(
    name: str, pools: Sequence[RewardedPool], tokenizer: Any, settings: GeneratorSettings
) -> list[TrainingExample]:
    examples: list[TrainingExample] = []
    left_out: Counter[str] = Counter()
    seen: set[tuple[str, str, str | None]] = set()
    for pool in track(pools, f"encoding {name}", total=len(pools)):
        key = (pool.page, pool.question, pool.program)
        if key in seen:  # further pools of a question differ in their candidates only
            left_out["further pools of the same question"] += 1
            continue
        seen.add(key)
        if name == "train" and not settings.has_seen(pool.page):
            left_out["the half of the pages to leave out"] += 1
            continue
        try:
            program, answer = gold_program(pool)
            prompt = write_prompt(pool, tokenizer, settings)
            completion = write_target(pool.id, str(program), tokenizer, settings)
            examples.append(TrainingExample(pool, answer, prompt, completion))
        except NoPool as reason:
            left_out[reason.kind] += 1
        except TooLong as reason:
            if not left_out["too long"]:
                warn(f"{name}: left out {reason}")
            left_out["too long"] += 1
    line = f"{name}: {len(examples)} questions"
    if examples:
        longest = max(len(example.completion) for example in examples)
        middle = median(len(example.prompt) for example in examples)
        line += f", median prompt {middle:.0f} tokens, longest completion {longest}"
    if left_out:
        line += f"; left out: {'; '.join(f'{count} {reason}' for reason, count in left_out.items())}"
    say(line)
    return examples


def without_loss(row: dict[str, list[int]]) -> dict[str, list[int]]:
    """The row without a token that the loss counts."""
    return {**row, "labels": [IGNORED] * len(row["labels"])}


def collate_completions(features: Sequence[dict[str, list[int]]], tokenizer: Any) -> BatchEncoding:
    """Rows of `TrainingExample.features` as a batch [questions, tokens], padded on the left: completions end together.

    So logits are asked for the last positions alone (`logits_to_keep`), which `labels` [questions, kept] cover: one for
    each of a prompt's tokens would take most of the memory.
    """
    rows = [row["input_ids"] for row in features]
    kept = 1 + max(sum(label != IGNORED for label in row["labels"]) for row in features)
    batch: BatchEncoding = tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt")
    batch["position_ids"] = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    batch["labels"] = torch.tensor([([IGNORED] * kept + row["labels"])[-kept:] for row in features])
    batch["logits_to_keep"] = kept
    return batch


def choose_examples(examples: Sequence[TrainingExample], count: int, seed: int) -> list[TrainingExample]:
    """At most `count` examples for an evaluation: those with the smallest hash of (seed, id), in their order."""
    draws = [seeded_random(seed, "evaluation", example.question.id).random() for example in examples]
    chosen = sorted(range(len(examples)), key=draws.__getitem__)[:count]
    return [examples[index] for index in sorted(chosen)]
