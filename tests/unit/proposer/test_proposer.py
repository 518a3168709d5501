"""`Proposer`: distinct values, likeliest first, the same from a saved model; a damaged folder is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from finrank import Proposer
from finrank.errors import UserError
from finrank.pools.corruption.fit_likeness import fold_of
from finrank.programs import execute, parse
from finrank.proposer.proposer_files import PROPOSER_CONFIG, WEIGHTS, load_proposer, save_proposer
from tests.helpers.tiny_models import save_tiny_base
from tests.helpers.tiny_proposer import QUESTION, save_tiny_proposer

ASKED = {"question": QUESTION.question, "table": QUESTION.table, "text": QUESTION.text}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_proposer(tmp_path_factory.mktemp("proposer"))


def test_candidates_have_distinct_values_the_likeliest_first(folder: Path) -> None:
    candidates = Proposer.from_pretrained(folder).propose(**ASKED, num_candidates=12)
    assert 1 < len(candidates) <= 12
    assert len({candidate.answer for candidate in candidates}) == len(candidates)
    scores = [candidate.log_probability for candidate in candidates]
    assert scores == sorted(scores, reverse=True)
    assert all(score is not None and score <= 1e-6 for score in scores)
    for candidate in candidates:
        assert candidate.origin == "proposed"
        assert execute(parse(str(candidate.program)), QUESTION.table) == candidate.answer


def test_a_page_without_numbers_gets_no_proposals(folder: Path) -> None:
    assert Proposer.from_pretrained(folder).propose(question="was it large ?", table=[], text=["nothing here ."]) == []


def test_gold_is_not_looked_at(folder: Path) -> None:
    proposer = Proposer.from_pretrained(folder)
    without = QUESTION.model_copy(update={"program": None, "answer": None})
    assert proposer.propose_many([without]) == proposer.propose_many([QUESTION])


def test_what_was_saved_proposes_the_same(folder: Path, tmp_path: Path) -> None:
    loaded = load_proposer(folder)
    save_proposer(loaded.network, loaded.tokenizer, loaded.settings, tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    copies = [Proposer.from_pretrained(path).propose(**ASKED) for path in (folder, tmp_path / "again")]
    assert copies[0] == copies[1]


def test_eight_bits_are_a_quarter_of_the_size_and_near_the_weights(folder: Path, tmp_path: Path) -> None:
    loaded = load_proposer(folder)
    before = {name: value.clone() for name, value in loaded.network.named_parameters()}
    save_proposer(loaded.network, loaded.tokenizer, loaded.settings, tmp_path / "small", eight_bit=True)
    assert (tmp_path / "small" / WEIGHTS).stat().st_size < 0.5 * (folder / WEIGHTS).stat().st_size  # a tiny model
    for name, value in load_proposer(tmp_path / "small").network.named_parameters():
        assert value.dtype == torch.float32
        rows = before[name].abs().amax(-1, keepdim=True)
        assert ((value - before[name]).abs() <= rows / 127).all()
        assert value.ndim != 1 or torch.equal(value, before[name])
    again = load_proposer(tmp_path / "small")
    save_proposer(again.network, again.tokenizer, again.settings, tmp_path / "again", eight_bit=True)
    copies = [Proposer.from_pretrained(tmp_path / name).propose(**ASKED) for name in ("small", "again")]
    assert copies[0] == copies[1]


@pytest.mark.parametrize("name", [WEIGHTS, PROPOSER_CONFIG, "tokenizer.json"])
def test_a_missing_or_exchanged_part_is_refused(tmp_path: Path, name: str) -> None:
    folder = save_tiny_proposer(tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(b"{}")
    with pytest.raises(UserError, match="damaged" if name == PROPOSER_CONFIG else "is not the file that was saved"):
        Proposer.from_pretrained(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match="No proposer in" if name == PROPOSER_CONFIG else "missing"):
        Proposer.from_pretrained(folder)
    (folder / name).write_bytes(content)
    assert Proposer.from_pretrained(folder).propose(**ASKED)


def test_weights_of_another_size_are_refused(folder: Path, tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "other", "bert")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(UserError, match="does not fit this base model"):
        Proposer.from_pretrained(folder, base_model=str(base))


def test_a_model_knows_the_pages_that_it_never_saw(tmp_path: Path) -> None:
    pages = [f"page {number}" for number in range(20)]
    half = Proposer.from_pretrained(save_tiny_proposer(tmp_path / "half", left_out_half=1))
    assert [half.has_seen(page) for page in pages] == [fold_of(page) != 1 for page in pages]
    assert len({half.has_seen(page) for page in pages}) == 2
    assert all(map(Proposer.from_pretrained(save_tiny_proposer(tmp_path / "all")).has_seen, pages))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"question": ""}, "question"), ({"table": "a"}, "table must be a list"), ({"text": [7]}, "text")],
)
def test_malformed_input_says_what_is_wrong(folder: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Proposer.from_pretrained(folder).propose(**{**ASKED, **change})  # type: ignore[arg-type]
