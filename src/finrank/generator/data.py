"""The data of a generator: questions with a gold program, as prompt and completion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from finrank.console import say, track, warn
from finrank.errors import UserError
from finrank.generator.settings import GeneratorSettings
from finrank.generator.text import TooLong, write_prompt, write_target
from finrank.pools.pool import NoPool, sound_gold
from finrank.records import Answer, RewardedPool
from finrank.seeds import seeded_random
from finrank.store import load_records

IGNORED = -100  # the label of tokens that the loss leaves out, in torch and transformers
# --quick_test: questions of each split.
_QUICK_QUESTIONS = {"train": 32, "selection": 8, "dev": 8}


@dataclass(frozen=True)
class Example:
    """A question with its executed gold answer, and the token ids of its prompt and of its gold completion."""

    question: RewardedPool
    gold: Answer
    prompt: list[int]
    completion: list[int]

    def features(self) -> dict[str, list[int]]:
        """The example as a row of a batch; only the completion has labels.

        A prompt [5, 6] and a completion [7, 1] give input_ids [5, 6, 7, 1] and labels [-100, -100, 7, 1].
        """
        labels = [IGNORED] * len(self.prompt) + self.completion
        return {"input_ids": [*self.prompt, *self.completion], "labels": labels}


def read_examples(
    input_dir: Path, tokenizer: Any, settings: GeneratorSettings, quick_test: bool
) -> dict[str, list[Example]]:
    """The examples of train, selection and dev, of those that exist, and a line for each on what was left out and why.

    Raises UserError where there is nothing to learn from or to choose the best checkpoint by.
    """
    splits = {}
    for name, few in _QUICK_QUESTIONS.items():
        path = input_dir / f"{name}.jsonl"
        if path.is_file():
            pools = load_records(path, RewardedPool)[: few if quick_test else None]
            splits[name] = _examples(name, pools, tokenizer, settings)
    for name, use in {"train": "to learn from", "selection": "to choose the best checkpoint by"}.items():
        if not splits.get(name):
            raise UserError(f"{input_dir / name}.jsonl holds no question with a gold program {use}")
    return splits


def _examples(name: str, pools: Sequence[RewardedPool], tokenizer: Any, settings: GeneratorSettings) -> list[Example]:
    examples: list[Example] = []
    left_out: Counter[str] = Counter()
    seen: set[tuple[str, str, str | None]] = set()
    for pool in track(pools, f"encoding {name}", total=len(pools)):
        asked = (pool.page, pool.question, pool.program)
        if asked in seen:  # further pools of one question differ in their candidates only
            left_out["further pools of the same question"] += 1
            continue
        seen.add(asked)
        try:
            program, answer = sound_gold(pool)
            prompt = write_prompt(pool, tokenizer, settings)
            completion = write_target(pool.id, str(program), answer, tokenizer, settings)
        except NoPool as reason:
            left_out[reason.kind] += 1
        except TooLong as reason:
            if not left_out["too long"]:
                warn(f"{name}: left out {reason}")
            left_out["too long"] += 1
        else:
            examples.append(Example(pool, answer, prompt, completion))
    _say_lengths(name, examples, left_out)
    return examples


def _say_lengths(name: str, examples: Sequence[Example], left_out: Counter[str]) -> None:
    reasons = "; ".join(f"{count} {reason}" for reason, count in left_out.items())
    lengths = ""
    if examples:
        lengths = (
            f", median prompt {median(len(one.prompt) for one in examples):.0f} tokens, "
            f"longest completion {max(len(one.completion) for one in examples)}"
        )
    say(f"{name}: {len(examples)} questions{lengths}{f'; left out: {reasons}' if reasons else ''}")


def choose_examples(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """At most `count` examples for an evaluation: those with the smallest hash of (seed, id), in the given order."""
    by_hash = sorted(
        range(len(examples)), key=lambda i: seeded_random(seed, "evaluation", examples[i].question.id).random()
    )
    return [examples[index] for index in sorted(by_hash[:count])]
