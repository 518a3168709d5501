"""The pointer network: beams in one row are scored as each alone, and pages in a batch as each alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finrank.proposer.grammar import TOKEN_OF, WORDS
from finrank.proposer.network import ProposerNetwork
from finrank.proposer.page_tokens import PageTokens, tokenize_page
from finrank.proposer.proposer_files import LoadedProposer, load_proposer
from finrank.ranker.settings import RankerSettings
from tests.helpers.tiny_models import save_tiny_base
from tests.helpers.tiny_proposer import QUESTION, save_tiny_proposer


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedProposer:
    return load_proposer(save_tiny_proposer(tmp_path_factory.mktemp("network")), device="cpu")


def page_of(loaded: LoadedProposer, text: tuple[str, ...] = ("we paid $ 1,637 in tax .",)) -> PageTokens:
    return tokenize_page(QUESTION.model_copy(update={"text": list(text)}), loaded.tokenizer, 256)


BEGINNINGS = torch.tensor([[TOKEN_OF["add"], len(WORDS)], [TOKEN_OF["divide"], len(WORDS) + 1]])


@torch.inference_mode()
def test_beams_in_one_row_do_not_see_each_other(loaded: LoadedProposer) -> None:
    network, page = loaded.network, page_of(loaded)
    encoded = network.encode([page])
    together = network.next_logits_of_beams(encoded, BEGINNINGS)
    for row, beginning in enumerate(BEGINNINGS):
        alone = network.next_logits(encoded, beginning[None])[0, -1]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@torch.inference_mode()
def test_a_page_is_read_alike_alone_and_beside_a_longer_one(loaded: LoadedProposer) -> None:
    network, short, long = loaded.network, page_of(loaded), page_of(loaded, ("we paid $ 1,637 in tax .",) * 8)
    both = network.next_logits(network.encode([short, long]), BEGINNINGS)
    alone = network.next_logits(network.encode([short]), BEGINNINGS[:1])
    width = alone.shape[-1]
    torch.testing.assert_close(both[:1, :, :width], alone, atol=1e-5, rtol=1e-5)
    assert (both[:1, :, width:] < -1000).all()  # the short page has no such pointers


@torch.inference_mode()
def test_a_token_does_not_depend_on_those_after_it(loaded: LoadedProposer) -> None:
    network = loaded.network
    encoded = network.encode([page_of(loaded)])
    logits = network.next_logits(encoded, BEGINNINGS[:1])
    changed = BEGINNINGS[:1].clone()
    changed[0, 1] += 1
    other = network.next_logits(encoded, changed)
    torch.testing.assert_close(logits[:, :2], other[:, :2])
    assert not torch.allclose(logits[:, 2], other[:, 2], atol=1e-3)


def test_all_but_the_word_embeddings_is_trained(tmp_path: Path) -> None:
    network = ProposerNetwork.new(RankerSettings(base_model=str(save_tiny_base(tmp_path / "base", "bert"))))
    frozen = [name for name, value in network.named_parameters() if not value.requires_grad]
    assert frozen == ["encoder.embeddings.word_embeddings.weight"]
    assert {module.p for name, module in network.named_modules() if name.endswith("attention.self.dropout")} == {0.0}
