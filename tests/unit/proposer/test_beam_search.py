"""Beam search: what it finds is what scoring every program finds."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from finrank.programs import parse
from finrank.proposer import grammar
from finrank.proposer.beam_search import search
from finrank.proposer.grammar import END, TOKEN_OF, WORDS, allowed_next, write_program
from finrank.proposer.page_tokens import PageTokens, tokenize_page
from finrank.proposer.proposer_files import LoadedProposer, load_proposer
from finrank.records import Question
from tests.helpers.tiny_proposer import QUESTION, save_tiny_proposer


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedProposer:
    return load_proposer(save_tiny_proposer(tmp_path_factory.mktemp("search")), device="cpu")


def read(loaded: LoadedProposer, table: list[list[str]]) -> PageTokens:
    question = Question(id="1", page="1", question="how much ?", table=table, text=[])
    return tokenize_page(question, loaded.tokenizer, 128)


@torch.inference_mode()
def every_program(loaded: LoadedProposer, page: PageTokens) -> dict[str, float]:
    """Log-probability of every program of the grammar, places of the same number added up."""
    network = loaded.network
    encoded = network.encode([page])
    totals: defaultdict[str, float] = defaultdict(lambda: -math.inf)
    beginnings: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    while beginnings:
        tokens, so_far = beginnings.pop()
        logits = network.next_logits(encoded, torch.tensor([tokens], dtype=torch.long).reshape(1, -1))[0, -1]
        options = allowed_next(tokens, page.n_numbers, len(page.spans))
        scores = logits[options].log_softmax(-1).tolist() if options else []
        for token, score in zip(options, scores, strict=True):
            if token == TOKEN_OF[END]:
                text = write_program(tokens, page.pointed_at)
                totals[text] = torch.logaddexp(torch.tensor(totals[text]), torch.tensor(so_far + score)).item()
            else:
                beginnings.append(((*tokens, token), so_far + score))
    return dict(totals)


def test_a_wide_search_finds_the_likeliest_programs_of_all(
    loaded: LoadedProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar, "MOST_STEPS", 1)
    monkeypatch.setattr(grammar, "_CONSTANT_TOKENS", [])
    page = read(loaded, [["", "a", "b"], ["x", "5", "6"], ["y", "7", "text"]])
    everything = every_program(loaded, page)
    assert math.isclose(sum(map(math.exp, everything.values())), 1.0, rel_tol=1e-4)
    found = search(loaded.network, page, loaded.network.encode([page]), 1000)
    programs = {write_program(tokens, page.pointed_at): score for tokens, score in found}
    assert programs == {text: pytest.approx(score, abs=1e-3) for text, score in everything.items()}
    assert [score for _, score in found] == sorted(programs.values(), reverse=True)


def test_a_number_in_two_places_is_one_way_to_write_a_program(
    loaded: LoadedProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar, "MOST_STEPS", 1)
    page = read(loaded, [["", "a", "b"], ["x", "5", "5"], ["y", "7", "text"]])
    found = search(loaded.network, page, loaded.network.encode([page]), 5000)
    programs = [write_program(tokens, page.pointed_at) for tokens, _ in found]
    assert len(set(programs)) == len(programs)
    # The places add up; only what comes after the likelier of two places is not that after the other.
    everything = every_program(loaded, page)
    for (_, score), program in zip(found, programs, strict=True):
        assert score == pytest.approx(everything[program], abs=0.3)
    assert sum(math.exp(score) for _, score in found) == pytest.approx(1.0, abs=1e-4)


def test_a_narrow_search_returns_its_width_of_programs(loaded: LoadedProposer) -> None:
    page = tokenize_page(QUESTION, loaded.tokenizer, 256)
    encoded = loaded.network.encode([page])
    for width in (1, 4, 20):
        found = search(loaded.network, page, encoded, width)
        assert 1 <= len(found) <= width
        programs = [write_program(tokens, page.pointed_at) for tokens, _ in found]
        assert len(set(programs)) == len(programs)
        assert all(len(parse(program).steps) <= grammar.MOST_STEPS for program in programs)


def test_a_page_without_numbers_has_programs_of_constants_alone(loaded: LoadedProposer) -> None:
    page = read(loaded, [])
    assert page.n_numbers == 0
    for tokens, score in search(loaded.network, page, loaded.network.encode([page]), 8):
        assert all(token < len(WORDS) for token in tokens)
        assert score > -math.inf


def test_the_search_is_the_same_every_time(loaded: LoadedProposer, tmp_path: Path) -> None:
    page = tokenize_page(QUESTION, loaded.tokenizer, 256)
    first, second = (search(loaded.network, page, loaded.network.encode([page]), 16) for _ in range(2))
    assert first == second
