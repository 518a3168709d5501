"""Metrics of a generator: the likelihood of gold completions, and the quality of the completions that it writes.

perplexity       exp of the mean negative log-likelihood of a gold completion's token, end token included
parse_rate       share of questions whose completion is JSON with a program or an answer
execution_rate   share whose completion has a program with a finite value
accuracy         share whose completion has the gold answer as its value (as a correct candidate of a pool)
average_reward   mean reward of the completion as a candidate (`rewards.py`, default weights); 0 where it is unreadable

With `generation.constrained` parse and execution rate are 1 by construction.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from rich.table import Table

from finrank.console import console, track
from finrank.errors import UserError
from finrank.generator.data import TrainingExample, collate_completions
from finrank.generator.model import Generator, write
from finrank.pools.completion import as_candidate
from finrank.pools.rewards import reward_pool
from finrank.programs.reading.candidate_text import Unreadable
from finrank.records import Pool
from finrank.training.processes import gathered, share

_ROWS = ("perplexity", "parse_rate", "execution_rate", "accuracy", "average_reward")


class JudgedCompletion(NamedTuple):
    parsed: bool
    executed: bool
    correct: bool
    reward: float


def evaluate_generator(
    generator: Generator, examples: Sequence[TrainingExample], *, batch_size: int, description: str = ""
) -> dict[str, float]:
    """The metrics at the top of this file, decoding greedily, and `n`, the number of questions.

    Each of several processes answers its share of the batches.
    """
    batches = [examples[start : start + batch_size] for start in range(0, len(examples), batch_size)]
    perplexity = perplexity_of(generator.model, generator.tokenizer, batches)
    of_batches: list[list[JudgedCompletion]] = []
    for batch in track(share(batches), description, total=len(share(batches))):
        grammars = generator.grammars([example.question for example in batch])
        texts = write(generator, [example.prompt for example in batch], grammars)
        of_batches.append([judge(text, example) for text, example in zip(texts, batch, strict=True)])
    judged = list(itertools.chain(*gathered(of_batches)))
    n = len(judged)
    sums = dict(zip(_ROWS[1:], map(sum, zip(*judged, strict=True)), strict=True))
    return {"n": n, "perplexity": perplexity, **{name: total / n for name, total in sums.items()}}


def judge(text: str, example: TrainingExample) -> JudgedCompletion:
    """Judge a completion as an answer to an example's question."""
    try:
        candidate = as_candidate(text, example.question.table)
    except Unreadable:
        return JudgedCompletion(parsed=False, executed=False, correct=False, reward=0.0)
    rewarded = reward_pool(Pool.of(example.question, answer=example.gold, candidates=[candidate]))
    executed = candidate.program is not None and candidate.answer is not None and candidate.stated is None
    return JudgedCompletion(True, executed, bool(rewarded.correct), rewarded.rewards[0])


def choice_of(figures: dict[str, float]) -> float:
    """The figure that ranks checkpoints: average reward, then (where that is equal) the lower perplexity.

    Average rewards of up to 1000 questions differ by 1e-9 or more (they have 6 decimals): more than the second term.
    """
    return figures["average_reward"] + 1e-9 / (1.0 + figures["perplexity"])


def perplexity_of(model: PeftModel, tokenizer: Any, batches: Sequence[Sequence[TrainingExample]]) -> float:
    """Perplexity of the gold completions' tokens, infinite where it overflows; UserError if the model diverged."""
    sums: list[tuple[float, int]] = []
    for batch in share(batches):
        rows = collate_completions([example.features() for example in batch], tokenizer).to(model.device)
        with torch.no_grad():
            loss = model.get_base_model()(**rows).loss.item()  # a mean over the completions' tokens
        count = sum(len(example.completion) for example in batch)
        sums.append((loss * count, count))
    total, tokens = map(sum, zip(*gathered(sums), strict=True))
    if not math.isfinite(total):
        raise UserError("training diverged: likelihoods are not finite any more; lower learning_rate and train again")
    try:
        return math.exp(total / tokens)
    except OverflowError:
        return math.inf


def summary_line(figures: dict[str, float]) -> str:
    shown = ", ".join(f"{name.replace('_', ' ')} {figures[name]:.3f}" for name in _ROWS)
    return f"{shown} ({figures['n']} questions)"


def print_table(metrics: dict[str, dict[str, float]], title: str) -> None:
    table = Table("", *metrics, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("questions", *(f"{figures['n']}" for figures in metrics.values()), end_section=True)
    for name in _ROWS:
        table.add_row(name.replace("_", " "), *(f"{figures[name]:.3f}" for figures in metrics.values()))
    console.print(table)
