"""Prompt and completion of a generator, as tokens.

    table : 2009 | 2008 ;
    revenue : 5829 | 5735 ;
    question : what is the percent change in revenue ?
    {"program": "subtract(5829, 5735), divide(#0, 5735)"}

All lines but the last are the prompt; the last is the completion (`pools/completion.py`) and ends with the end token.
The prompt does not depend on gold: its rows and sentences are chosen by question and page alone (`page/relevance.py`).
Prompt and completion are tokenized apart, so that training and generating see the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from finrank.errors import UserError
from finrank.generator.settings import GeneratorSettings
from finrank.pools.completion import write_completion
from finrank.ranker.prompt import choose_context
from finrank.ranker.tokenizer import tokenize
from finrank.records import Question

# Raise it whenever a question gets another prompt or completion: a saved generator refuses another version.
PROMPT_VERSION = 2


class TooLong(UserError):
    """A question or a gold completion that cannot fit; names the question and the key to raise."""


def write_prompt(question: Question, tokenizer: Any, settings: GeneratorSettings) -> list[int]:
    """The token ids of a question's prompt, at most `prompt.max_length - max_new_tokens`.

    The page is cut to its most relevant rows and sentences. Raises TooLong when the question alone does not fit.
    """
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    asked = tokenize([f"question : {question.question}\n"], tokenizer)[0]
    budget = settings.prompt.max_length - settings.max_new_tokens - len(begin) - len(asked)
    if budget < 0:
        raise TooLong(
            f"{question.id}: the question ({len(asked)} tokens) and a completion of {settings.max_new_tokens} tokens "
            f"do not fit prompt.max_length {settings.prompt.max_length}: raise it in the config"
        )

    def lines(texts: Sequence[str]) -> list[list[int]]:
        return tokenize([f"{text}\n" for text in texts], tokenizer)

    context = choose_context(question, budget, settings.prompt, lambda texts: list(map(len, lines(texts))))
    return [*begin, *chain(*lines([item.text for item in context])), *asked]


def write_target(question_id: str, program: str, tokenizer: Any, settings: GeneratorSettings) -> list[int]:
    """The token ids of a gold completion with the end token, never cut; TooLong if they are over `max_new_tokens`."""
    target = [*tokenize([write_completion(program)], tokenizer)[0], tokenizer.eos_token_id]
    if len(target) > settings.max_new_tokens:
        raise TooLong(
            f"{question_id}: its gold completion has {len(target)} tokens, over generation.max_new_tokens "
            f"{settings.max_new_tokens}: raise it in the config"
        )
    return target
