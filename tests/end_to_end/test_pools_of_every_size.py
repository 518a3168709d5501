"""Pools without a candidate, with one, and with ten thousand: ranked and learned from, or refused with the reason."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from finrank import Ranker
from finrank.commands.candidates import candidates
from finrank.commands.evaluate import evaluate
from finrank.commands.ppo import ppo
from finrank.commands.rank import rank
from finrank.commands.rewards import rewards
from finrank.commands.sft import sft
from finrank.errors import UserError
from finrank.pools.rewards import reward_pool
from finrank.records import Candidate, Pool, RewardedPool
from finrank.store.json_lines import LONGEST_LINE, encode
from tests.helpers.pools import make_pool, write_splits
from tests.helpers.questions import make_question
from tests.helpers.raw_files import rejects_of
from tests.helpers.saved_ranker import ASKED, save_tiny_ranker
from tests.helpers.training_runs import CONFIGS, SMALL, curve, printed

MANY = 10_000
PROGRAMS = [f"add({number}, 0.5)" for number in range(MANY)]
SHARES = [f"{number / 100:.2f} %" for number in range(MANY)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ranker(tmp_path_factory.mktemp("sizes"))


def test_ten_thousand_candidates_are_ranked_and_none_are_refused(model: Path, tmp_path: Path) -> None:
    sizes = {"none": [], "one": ["add(1, 2)"], "programs": PROGRAMS, "shares": SHARES, "same": ["add(1, 2)"] * MANY}
    lines = [json.dumps({**ASKED, "id": name, "candidates": items}) + "\n" for name, items in sizes.items()]
    (tmp_path / "in.jsonl").write_text("".join(lines))
    began = time.process_time()
    assert rank(str(model), tmp_path / "in.jsonl", tmp_path / "out.jsonl")["ranked"] == 4
    assert time.process_time() - began < 100.0  # 12 s on an idle core
    ranked = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {row["id"]: len(row["answers"]) for row in ranked} == {"one": 1, "programs": MANY, "shares": MANY, "same": 1}
    for row in ranked:
        assert sum(answer["probability"] for answer in row["answers"]) == pytest.approx(1.0)
        assert sorted(index for answer in row["answers"] for index in answer["indices"]) == list(
            range(len(sizes[row["id"]]))
        )
    assert "no candidates" in (tmp_path / "out.rejects.jsonl").read_text()
    with pytest.raises(UserError, match="no candidates"):
        Ranker.from_pretrained(model, device="cpu").rank(question="what ?", candidates=[])


def large_pool(count: int) -> Pool:
    """A pool of so many candidates, one of them right."""
    made = [Candidate(program=f"add({i}, 107)", answer=i + 107.0, origin="imported") for i in range(count)]
    return Pool.of(make_pool(100), id=f"of {count}", candidates=made)


def test_pools_longer_than_a_line_may_be_are_rejects_of_the_stage_that_would_write_them(tmp_path: Path) -> None:
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions" / "dev.jsonl").write_bytes(encode(make_question()))
    with pytest.raises(UserError, match="1 too long"):
        candidates(tmp_path / "questions", tmp_path / "pools", num_candidates=MANY)
    assert not (tmp_path / "pools").exists()
    one, long = (large_pool(count) for count in (1, 8_000))
    assert len(encode(long)) < LONGEST_LINE < len(encode(reward_pool(long)))
    none = encode(one).replace(json.dumps(json.loads(encode(one))["candidates"], separators=(",", ":")).encode(), b"[]")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "dev.jsonl").write_bytes(encode(one) + encode(long) + none)
    rewards(tmp_path / "in", tmp_path / "out")
    assert len((tmp_path / "out" / "dev.jsonl").read_bytes().splitlines()) == 1
    (_, second, _, too_long), (_, third, _, empty) = rejects_of(tmp_path / "out")
    assert (second, third) == (2, 3)
    assert "more than the 1000000" in too_long
    assert "candidates: List should have at least 1 item" in empty


@pytest.mark.slow
def test_pools_of_every_size_are_learned_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [1, 1, 2, 4, 4, 4, 4, 100]
    rewarded: list[RewardedPool] = []
    for number in range(24):
        size = sizes[number % 8]
        rewarded.append(reward_pool(large_pool(size)) if size > 4 else make_pool(number, size))
    data = write_splits(tmp_path / "data", {"train": rewarded[:8], "selection": rewarded[8:16], "dev": rewarded[16:]})
    with (data / "train.jsonl").open("ab") as stream:
        stream.write(encode(reward_pool(large_pool(MANY))))
    base = save_tiny_ranker(tmp_path).parent / "base"
    options = {"overrides": [*SMALL, "trainer.max_steps=1"]}
    stage = sft(CONFIGS / "minilm.yaml", data, tmp_path / "out", base_model=str(base), **options)
    learned = ppo(CONFIGS / "minilm.yaml", data, tmp_path / "out", sft_model=stage, **options)
    assert all(loss is not None for directory in (stage, learned) for _, loss in curve(directory))
    assert "1 of 9 lines" in printed(capsys)
    result = evaluate(learned, data, split="dev", json_path=tmp_path / "dev.json")
    assert result.figures.n == 8
    assert 2 / 8 <= result.figures.model.accuracy <= 1.0  # a pool of one has one answer
