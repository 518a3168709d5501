"""Encoding: candidates that cannot be scored are left out with the reason, and change nothing for the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finrank.ranker.encoding import LeftOut, QuestionTooLong, encode, encode_or_leave_out, encode_with_page, write_pairs
from finrank.ranker.prompt import PromptSettings
from finrank.ranker.tokenizer import tokenize
from finrank.records import Candidate, Question
from tests.helpers.pools import make_pool
from tests.helpers.tiny_models import tiny_tokenizer
from tests.helpers.valueless import TOO_LONG, VALUELESS

POOL = make_pool(3)
TOKENIZER = tiny_tokenizer(POOL.model_dump_json().split(), "bert")
SETTINGS = PromptSettings(max_length=192)


def encoded(candidates: Sequence[Candidate], question: Question = POOL, **changes: Any) -> Any:
    return encode(question, candidates, TOKENIZER, SETTINGS.model_copy(update=changes))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([*VALUELESS, TOO_LONG])), max_size=4))
def test_candidates_that_are_left_out_change_nothing_for_the_others(added: list[tuple[int, Candidate]]) -> None:
    candidates = list(POOL.candidates)
    for place, candidate in added:
        candidates.insert(place, candidate)
    pool = encoded(candidates)
    alone = encoded(POOL.candidates)
    assert (pool.prefix, pool.candidates) == (alone.prefix, alone.candidates)
    assert [candidates[index] for index in pool.scored] == POOL.candidates
    assert sorted(pool.left_out) == [index for index, one in enumerate(candidates) if one not in POOL.candidates]


def test_the_reasons_are_those_of_the_candidates_and_their_length() -> None:
    pool = encoded([*VALUELESS, TOO_LONG, *POOL.candidates])
    reasons = [pool.left_out[index] for index in range(len(VALUELESS) + 1)]
    assert reasons[:-1] == [one.error or "no program and no answer" for one in VALUELESS]
    asked = len(tokenize([POOL.question], TOKENIZER)[0])
    assert reasons[-1].endswith(f"at most {192 - asked - 3} fit beside the question")  # [CLS], and twice [SEP]


def test_the_page_has_the_room_that_the_longest_fitting_candidate_leaves() -> None:
    asked = len(tokenize([POOL.question], TOKENIZER)[0]) + 3
    longest = max(map(len, encoded(POOL.candidates).candidates))
    for max_length in range(asked + 1, asked + 2 * longest):
        pool, page = encode_with_page(POOL, POOL.candidates, TOKENIZER, PromptSettings(max_length=max_length))
        lengths = [len(tokens) for tokens in encoded(POOL.candidates).candidates]
        assert pool.scored == [index for index, length in enumerate(lengths) if asked + length <= max_length]
        fits = max((len(tokens) for tokens in pool.candidates), default=0)
        assert len(pool.prefix) + fits <= max_length
        assert page or len(pool.prefix) == asked - 1


def test_a_question_without_room_for_a_candidate_is_named() -> None:
    question = POOL.model_copy(update={"question": "what is the total ? " * 100})
    with pytest.raises(QuestionTooLong, match=r"^TEST/\S+-3: the question \(\d+ tokens\) alone .* max_length 192"):
        encoded(POOL.candidates, question)
    pool, page = encode_or_leave_out(question, POOL.candidates, TOKENIZER, SETTINGS)
    assert (pool.candidates, pool.scored, page) == ([], [], [])
    assert set(pool.left_out) == {0, 1, 2, 3}
    assert all(reason.startswith("the question (") for reason in pool.left_out.values())
    # The control hides the question.
    assert len(encoded(POOL.candidates, question, candidate_only=True).candidates) == 4


def test_what_is_left_out_is_counted() -> None:
    mixed = POOL.model_copy(update={"candidates": [*POOL.candidates, TOO_LONG, VALUELESS[0], VALUELESS[0]]})
    nothing = POOL.model_copy(update={"id": "empty", "candidates": VALUELESS[:1]})
    pools = [POOL, mixed, nothing]
    counts = LeftOut.of(pools, [encoded(pool.candidates, pool) for pool in pools])
    assert counts == LeftOut(3, 1, 1, f"empty: {VALUELESS[0].error}")
    assert str(counts).endswith(
        f"3 without a value, 1 too long for max_length; 1 pools have no other, first {counts.example}"
    )
    assert str(LeftOut.of([POOL], [encoded(POOL.candidates)])) == ""


def test_pairs_have_the_texts_of_the_tokens() -> None:
    """Tokenized part by part, as an exported model's tokenizer does, they are the tokens of `encode`."""
    candidates = [VALUELESS[0], *POOL.candidates]
    pool = encoded(candidates)
    pairs = write_pairs(POOL, candidates, TOKENIZER, SETTINGS)
    assert list(pairs) == pool.scored
    end = [TOKENIZER.sep_token_id]
    for (prefix, text), tokens in zip(pairs.values(), pool.candidates, strict=True):
        question, page = prefix.split("[SEP]")
        rows = [token for row in tokenize(page.split("\n"), TOKENIZER) for token in row]
        assert [TOKENIZER.cls_token_id, *tokenize([question], TOKENIZER)[0], *end, *rows, *end] == pool.prefix
        assert tokenize([text], TOKENIZER)[0] + end == tokens


def test_a_pair_without_a_page_has_the_question_alone_and_no_line_breaks_of_its_own() -> None:
    question = POOL.model_copy(update={"question": "what\nis it ?"})
    pairs = write_pairs(question, POOL.candidates, TOKENIZER, SETTINGS.model_copy(update={"context_tokens": 0}))
    assert {prefix for prefix, _ in pairs.values()} == {"what is it ?"}
