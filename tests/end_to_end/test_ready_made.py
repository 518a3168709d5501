"""The model that ships inside the package: whole, small, without a path of the computer that trained it, and useful."""

from __future__ import annotations

import re

import pytest

from finrank import Ranker
from finrank.ranker.choosing.chooser import CHOOSER, DEFAULT_CHOOSER, load_chooser
from finrank.ranker.choosing.confidence import CONFIDENCE, load_confidence
from finrank.ranker.hub import CARD
from finrank.ranker.saving import ADAPTER, CONFIG, HEAD, READY_MADE, TOKENIZER, read_settings
from finrank.training.config import load_config
from tests.conftest import REPOSITORY

FOLDER = READY_MADE / "finqa-minilm"


def test_it_has_every_part_and_is_small() -> None:
    files = list(FOLDER.iterdir())
    assert {path.name for path in files} == {CONFIG, *ADAPTER, HEAD, *TOKENIZER, CONFIDENCE, CHOOSER, CARD}
    assert sum(path.stat().st_size for path in files) <= 4_000_000


def test_it_is_intact_and_loads_on_any_computer() -> None:
    settings, default = read_settings(FOLDER), load_config(REPOSITORY / "configs" / "models" / "minilm.yaml")
    assert (settings.base_model, settings.base_model_sha256) == (default.base_model, default.base_model_sha256)
    texts = {
        path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir() if path.suffix in (".json", ".md")
    }
    assert [name for name, text in texts.items() if re.search(r"[\"'`(]/(home|root|tmp|work|Users)\b", text)] == []


def test_its_probabilities_are_calibrated_on_dev() -> None:
    confidence = load_confidence(FOLDER)
    assert confidence is not None
    assert confidence.n > 800
    assert list(confidence.data_hashes) == ["dev.jsonl"]


def test_its_chooser_knows_no_system_and_lets_votes_count_less_than_by_default() -> None:
    chooser = load_chooser(FOLDER)
    assert chooser.systems == {}
    assert chooser.votes < DEFAULT_CHOOSER.votes
    assert chooser.proposed < DEFAULT_CHOOSER.proposed


def test_its_card_has_figures_and_the_command_that_makes_it() -> None:
    card = (FOLDER / CARD).read_text(encoding="utf-8")
    (accuracy,) = re.findall(r"^\| model \| (0\.\d+) ", card, re.MULTILINE)
    assert float(accuracy) > 0.5
    for text in ('Ranker.from_pretrained("finqa-minilm")', "MIT", "`make ready-model FINQA=DIR`"):
        assert text in card
    assert re.search(r"^ready-model:", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.slow
def test_it_ranks_a_question_that_it_has_not_seen() -> None:
    ranker = Ranker.from_pretrained("finqa-minilm", device="cpu")
    answers = ranker.rank(
        question="what was the percentage growth in costs from 2008 to 2009 ?",
        table=[["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["costs", "$ 4210", "$ 4302"]],
        candidates=[
            "subtract(5829, 5735), divide(#0, 5735)",
            "subtract(4210, 4302)",
            "subtract(4210, 4302), divide(#0, 4302)",
            "add(4210, 5735)",
        ],
    )
    assert answers[0].programs == ["subtract(4210, 4302), divide(#0, 4302)"]
    assert answers[-1].programs == ["add(4210, 5735)"]
