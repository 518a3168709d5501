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
    """Write a question, its page and its candidates as text, and tokenize it with a transformers tokenizer.

    Returns token ids: the prefix and each candidate, together at most `settings.max_length` for the longest candidate.
    Truncation removes rows and sentences of the page only. Raises UserError naming the question, and the candidate,
    when those two alone exceed `max_length`.
    """
    return encode_with_page(question, candidates, tokenizer, settings)[0]


def encode_with_page(
    question: Question, candidates: Sequence[Candidate], tokenizer: Any, settings: PromptSettings
) -> tuple[EncodedPool, list[Evidence]]:
    """As `encode`, and the rows and sentences of the page that are in the prefix, for those who measure them."""
    begin, end = special_tokens(tokenizer)
    asked = [] if settings.candidate_only else [*tokenize([question.question], tokenizer)[0], *end]
    answers = [[*tokens, *end] for tokens in tokenize(write_candidates(question, candidates, settings), tokenizer)]
    longest = max(range(len(answers)), key=lambda index: len(answers[index]))
    # One more token for the end of the context.
    budget = settings.page_budget(len(asked), len(answers[longest]), len(begin) + len(end))
    if budget < 0:
        raise UserError(
            f"{question.id}: the question ({len(asked)} tokens) and its candidate {longest} ({len(answers[longest])} "
            f"tokens) do not fit max_length {settings.max_length}: raise max_length in the config, or leave the "
            "candidate out"
        )
    context = choose_context(
        question, budget, settings, lambda texts: [len(tokens) for tokens in tokenize(texts, tokenizer)]
    )
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
    """The tokens that begin a prefix and end a part: [CLS] and [SEP] where the tokenizer has them, else BOS and EOS.

    A prefix must not be empty (the control hides all text), so EOS begins it when nothing else can. Raises UserError
    for a tokenizer that has none of them.
    """
    begin = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    begin = end if begin is None else begin
    if begin is None:
        raise UserError(f"{tokenizer.name_or_path}: its tokenizer has neither CLS/SEP nor BOS/EOS tokens")
    return [begin], [] if end is None else [end]
