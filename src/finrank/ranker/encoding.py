"""From a pool of records to token ids: the prefix with as much of the page as fits, and every candidate whole.

A candidate without a value, or too long for `max_length` beside the question, is left out with the reason: the others
are encoded as if it were not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finrank.errors import UserError
from finrank.page.relevance import Evidence
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.prompt import PromptSettings, choose_context, write_candidates
from finrank.ranker.tokenizer import special_tokens, tokenize
from finrank.records import Candidate, Pool, Question


class QuestionTooLong(UserError):
    """A question that leaves no room for any candidate."""


def encode(
    question: Question, candidates: Sequence[Candidate], tokenizer: Any, settings: PromptSettings
) -> EncodedPool:
    """Token ids of a question with its page (the prefix) and of its candidates, by a transformers tokenizer.

    Rows and sentences of the page are left out where prefix and longest candidate exceed `settings.max_length`. Raises
    QuestionTooLong, naming the question, when it alone does.
    """
    return encode_with_page(question, candidates, tokenizer, settings)[0]


def encode_with_page(
    question: Question, candidates: Sequence[Candidate], tokenizer: Any, settings: PromptSettings
) -> tuple[EncodedPool, list[Evidence]]:
    """As `encode`, and the rows and sentences of the page that are in the prefix."""
    begin, end = special_tokens(tokenizer)
    asked = [] if settings.candidate_only else [*tokenize([question.question], tokenizer)[0], *end]
    separators = len(begin) + len(end)  # `end`: the page's own
    room = settings.page_budget(len(asked), 0, separators)
    if room <= 0:
        raise QuestionTooLong(
            f"{question.id}: the question ({len(asked)} tokens) alone does not fit max_length {settings.max_length}: "
            "raise max_length in the config, or shorten the question"
        )
    left_out = {index: why_no_value(one) for index, one in enumerate(candidates) if one.answer is None}
    valued = [index for index in range(len(candidates)) if index not in left_out]
    texts = write_candidates(question, [candidates[index] for index in valued], settings)
    answers = []
    for index, tokens in zip(valued, tokenize(texts, tokenizer), strict=True):
        answer = [*tokens, *end]
        if len(answer) > room:
            left_out[index] = f"{len(answer)} tokens, at most {room} fit beside the question"
        else:
            answers.append(answer)
    budget = settings.page_budget(len(asked), max(map(len, answers), default=0), separators)
    context = choose_context(question, budget, settings, lambda texts: list(map(len, tokenize(texts, tokenizer))))
    page = [token for tokens in tokenize([item.text for item in context], tokenizer) for token in tokens]
    prefix = [*begin, *asked, *page, *(end if page else [])]
    return EncodedPool(question.id, prefix, answers, left_out), context


def encode_or_leave_out(
    question: Question, candidates: Sequence[Candidate], tokenizer: Any, settings: PromptSettings
) -> tuple[EncodedPool, list[Evidence]]:
    """As `encode_with_page`; where the question is too long, a pool with every candidate left out, and no page."""
    try:
        return encode_with_page(question, candidates, tokenizer, settings)
    except QuestionTooLong as error:
        begin, _ = special_tokens(tokenizer)
        reason = str(error).removeprefix(f"{question.id}: ")
        return EncodedPool(question.id, begin, [], dict.fromkeys(range(len(candidates)), reason)), []


def write_pairs(
    question: Question, candidates: Sequence[Candidate], tokenizer: Any, settings: PromptSettings
) -> dict[int, tuple[str, str]]:
    """The tokens of `encode` as texts: prefix and candidate, by the index of each candidate that is scored.

    A model that `finrank export` wrote reads such pairs. A line break ends a row or sentence of the page, the token's
    own text the question: "what is the change ?[SEP]table : 2009 | 2008 ;\\nrevenue : 5829 | 5735 ;"
    """
    pool, context = encode_with_page(question, candidates, tokenizer, settings)
    _, end = special_tokens(tokenizer)
    after_question = tokenizer.convert_ids_to_tokens(end[0]) if end else "\n"
    page = "\n".join(item.text.replace("\n", " ") for item in context)
    prefix = question.question.replace("\n", " ") + (after_question + page if page else "")
    texts = write_candidates(question, [candidates[index] for index in pool.scored], settings)
    return {index: (prefix, text.replace("\n", " ")) for index, text in zip(pool.scored, texts, strict=True)}


def why_no_value(candidate: Candidate) -> str:
    """The reason why a candidate has no value."""
    return candidate.error or "no program and no answer"


@dataclass(frozen=True)
class LeftOut:
    """Candidates of some pools that are not scored, and pools in which none is."""

    without_value: int
    too_long: int
    pools: int
    example: str | None = None
    """The first of these pools, and why its first candidate is left out."""

    @classmethod
    def of(cls, pools: Sequence[Pool], encoded: Sequence[EncodedPool]) -> LeftOut:
        """The counts of pools and their encoded forms."""
        has_value = [
            pool.candidates[index].answer is not None
            for pool, tokens in zip(pools, encoded, strict=True)
            for index in tokens.left_out
        ]
        empty = [f"{tokens.id}: {tokens.left_out[0]}" for tokens in encoded if not tokens.candidates]
        return cls(has_value.count(False), sum(has_value), len(empty), next(iter(empty), None))

    def __str__(self) -> str:
        """A sentence, empty where nothing is left out.

        >>> str(LeftOut(3, 0, 0)), str(LeftOut(0, 0, 0))
        ('candidates that are not scored: 3 without a value, 0 too long for max_length', '')
        """
        if not self.without_value + self.too_long:
            return ""
        pools = f"; {self.pools} pools have no other, first {self.example}" if self.pools else ""
        counts = f"{self.without_value} without a value, {self.too_long} too long for max_length"
        return f"candidates that are not scored: {counts}{pools}"
