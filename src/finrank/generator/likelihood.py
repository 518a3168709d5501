"""Likelihood as a scorer: how likely a trained generator writes the program of a candidate.

    likelihood       sum over the completion's tokens of log p(token | prompt, tokens before it), the end token included
    likelihood_mean  the same divided by their number, which does not prefer short programs

A prompt is read once for all candidates of a question: they share its keys and values. Equal programs have exactly
equal scores. Nothing holds the likelihoods to a grammar, since all candidates are written already.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from finrank.console import track, warn
from finrank.generator.model import Generator, read_prompt
from finrank.generator.text import TooLong, write_prompt, write_target
from finrank.programs import parse_or_none
from finrank.records import Candidate, Pool

_MOST_ROWS = 16  # candidates in one pass: each has its own copy of the prompt's keys and values


def score_by_likelihood(
    generator: Generator, pools: Sequence[Pool], description: str = ""
) -> dict[str, list[np.ndarray]]:
    """Both scores of every candidate, by name, an array [candidates] per pool.

    Minus infinity for a candidate without a value or a program, with a program that is longer than `max_new_tokens`, or
    of a question that does not fit.
    """
    scores: dict[str, list[np.ndarray]] = {"likelihood": [], "likelihood_mean": []}
    left_out = 0
    for pool in track(pools, description, total=len(pools)):
        targets = [_target(candidate, generator) for candidate in pool.candidates]
        distinct = [list(target) for target in dict.fromkeys(targets) if target is not None]
        try:
            prompt = write_prompt(pool, generator.tokenizer, generator.settings) if distinct else []
            sums = log_likelihoods(generator.model.get_base_model(), prompt, distinct) if distinct else []
        except TooLong:
            targets, sums = [None] * len(targets), []
        of_target = dict(zip(map(tuple, distinct), sums, strict=False))
        summed = np.array([-np.inf if target is None else of_target[target] for target in targets])
        scores["likelihood"].append(summed)
        scores["likelihood_mean"].append(summed / [len(target or (0,)) for target in targets])
        left_out += targets.count(None)
    if left_out:
        warn(f"likelihood: {left_out} candidates have no program that the generator could write")
    return scores


def _target(candidate: Candidate, generator: Generator) -> tuple[int, ...] | None:
    """The tokens that write a candidate's program as a completion, None where it has none that can be scored."""
    program = parse_or_none(candidate.program)
    if program is None or candidate.answer is None:
        return None
    try:
        return tuple(write_target("", str(program), generator.tokenizer, generator.settings))
    except TooLong:
        return None


@torch.no_grad()
def log_likelihoods(base: Any, prompt: Sequence[int], completions: Sequence[Sequence[int]]) -> list[float]:
    """The log-likelihood of each completion behind a prompt, by a causal model of transformers; all are token ids."""
    cache = read_prompt(base, torch.tensor([prompt], device=base.device))
    sums: list[float] = []
    for start in range(0, len(completions), _MOST_ROWS):
        rows = [torch.tensor([prompt[-1], *tokens]) for tokens in completions[start : start + _MOST_ROWS]]
        ids_NT = pad_sequence(rows, batch_first=True).to(base.device)
        shared = copy.deepcopy(cache)
        shared.batch_repeat_interleave(len(rows))
        # Padding is behind what counts, and a causal model looks back only.
        logits_NTV = base(input_ids=ids_NT[:, :-1], past_key_values=shared, use_cache=True).logits.float()
        chosen_NT = logits_NTV.gather(2, ids_NT[:, 1:, None])[..., 0] - logits_NTV.logsumexp(dim=2)
        for row, of_row in zip(rows, chosen_NT.double().cpu(), strict=True):
            sums.append(float(of_row[: len(row) - 1].sum()))
    return sums
