"""From a pool of records to token ids: the prefix with as much of the page as fits, and every candidate whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finrank.errors import UserError
from finrank.page.relevance import Evidence
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.prompt import PromptSettings, choose_context, write_candidates
from finrank.records import Candidate, Question


def encode(
    question: Question, candidates: Sequence[Candidate], tokenizer: Any, settings: PromptSettings
) -> EncodedPool:
    """Token ids of a question with its page (the prefix) and of its candidates, by a transformers tokenizer.

    Rows and sentences of the page are left out where prefix and longest candidate exceed `settings.max_length`. Raises
    UserError naming question and candidate when those two alone do, or the question where it alone does.
    """
    return encode_with_page(question, candidates, tokenizer, settings)[0]


def encode_with_page(
    question: Question, candidates: Sequence[Candidate], tokenizer: Any, settings: PromptSettings
) -> tuple[EncodedPool, list[Evidence]]:
    """As `encode`, and the rows and sentences of the page that are in the prefix."""
    begin, end = special_tokens(tokenizer)
    asked = [] if settings.candidate_only else [*tokenize([question.question], tokenizer)[0], *end]
    if settings.page_budget(len(asked), 0, len(begin) + len(end)) <= 0:
        raise UserError(
            f"{question.id}: the question ({len(asked)} tokens) alone does not fit max_length {settings.max_length}: "
            "raise max_length in the config, or shorten the question"
        )
    answers = [[*tokens, *end] for tokens in tokenize(write_candidates(question, candidates, settings), tokenizer)]
    longest = max(range(len(answers)), key=lambda index: len(answers[index]))
    budget = settings.page_budget(len(asked), len(answers[longest]), len(begin) + len(end))  # `end`: the page's own
    if budget < 0:
        raise UserError(
            f"{question.id}: the question ({len(asked)} tokens) and its candidate {longest} ({len(answers[longest])} "
            f"tokens) do not fit max_length {settings.max_length}: raise max_length in the config, or leave the "
            "candidate out"
        )
    context = choose_context(question, budget, settings, lambda texts: list(map(len, tokenize(texts, tokenizer))))
    page = [token for tokens in tokenize([item.text for item in context], tokenizer) for token in tokens]
    prefix = [*begin, *asked, *page, *(end if page else [])]
    return EncodedPool(question.id, prefix, answers), context


def tokenize(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Token ids of each text, without special tokens."""
    if not texts:
        return []
    # verbose=False: a page longer than the window is expected here, selection comes after counting.
    return list(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"])


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens that begin a prefix and end a part: [CLS] and [SEP] where the tokenizer has them, else BOS and EOS."""
    begin = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    begin = end if begin is None else begin  # a prefix must not be empty, and the control hides all text
    if begin is None:
        raise UserError(f"{tokenizer.name_or_path}: its tokenizer has neither CLS/SEP nor BOS/EOS tokens")
    return [begin], [] if end is None else [end]
