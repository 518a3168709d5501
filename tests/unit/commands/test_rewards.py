"""Stage 03 on small directories: output, rejects, messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finrank.commands.rewards import reward_bin, rewards
from finrank.errors import UserError
from finrank.records import Candidate, Pool, RewardedPool
from finrank.store import load_records
from finrank.store.json_lines import encode
from tests.helpers.questions import make_question

GOLD = Candidate(program="divide(637, const_5)", answer=127.4, origin="gold")
WRONG = Candidate(program="divide(637, const_10)", answer=63.7, origin="corrupted", edits=["operand"])
FAILED = Candidate(program="divide(637, 0)", error="division by zero", origin="corrupted", edits=["operand"])
LYING = Candidate(program="divide(637, const_10)", answer=127.4, origin="imported")


def pool(identifier: str, *candidates: Candidate, answer: float | None = 127.4) -> Pool:
    question = make_question(identifier, "divide(637, const_5)", answer=answer)
    return Pool.of(question, candidates=list(candidates))


@pytest.fixture
def candidates_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "finqa_candidates"
    directory.mkdir()
    train = [pool("a", WRONG, GOLD), pool("unknown", GOLD, answer=None), pool("b", FAILED, WRONG)]
    dev = [pool("lying", GOLD, LYING), pool("same", FAILED, FAILED), pool("two", GOLD, GOLD, FAILED)]
    (directory / "train.jsonl").write_bytes(b"".join(map(encode, train)) + b'{"id": "broken"}\n')
    (directory / "dev.jsonl").write_bytes(b"".join(map(encode, dev)))
    return directory


def test_pools_get_rewards_and_nothing_disappears(candidates_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "finqa_with_rewards"
    rewards(candidates_dir, output)
    train = load_records(output / "train.jsonl", RewardedPool)
    dev = load_records(output / "dev.jsonl", RewardedPool)
    assert [(record.id, record.correct) for record in train] == [("a", [1]), ("b", [])]
    assert [(record.id, record.correct) for record in dev] == [("same", []), ("two", [0, 1])]
    assert train[0].candidates == [WRONG, GOLD]
    rejects = [json.loads(line) for line in (output / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["file"], row["line"], row["id"]) for row in rejects] == [
        ("train.jsonl", 2, "unknown"),
        ("train.jsonl", 4, "broken"),
        ("dev.jsonl", 1, "lying"),
    ]
    assert "gold answer unknown" in rejects[0]["reason"]
    assert "candidate 1" in rejects[2]["reason"]


def test_the_manifest_holds_the_printed_numbers(
    candidates_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewards(candidates_dir, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    counts = manifest["rewards"].pop("rewards")
    assert {name: count for name, count in counts.items() if count} == {"0": 4, "0.4-0.5": 2, "1": 3}
    assert manifest["rewards"] == {
        "pools": 4,
        "candidates": 9,
        "mean_best": pytest.approx((1 + 0.416667 + 0 + 1) / 4, abs=1e-6),
        "mean_of_others": pytest.approx((0.416667 + 0 + 0 + 1 + 0) / 5, abs=1e-6),
        "pools_tied_at_top": 2,
        "pools_with_several_correct": 1,
        "pools_without_correct": 2,
        "pools_without_spread": 1,
        "first_ids_without_spread": ["same"],
    }
    assert manifest["rejected"] == 3
    printed = capsys.readouterr().err
    assert "1 pools have no spread" in printed
    assert "first ids: same" in printed


def test_weights_reach_rewards_and_manifest(candidates_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "weights.yaml"
    config.write_text("closeness: 0\noperations: 0\nexecution: 1\n")
    rewards(candidates_dir, tmp_path / "out", config)
    assert load_records(tmp_path / "out" / "train.jsonl", RewardedPool)[0].rewards == [0.5, 1.0]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["arguments"]["weights"] == {"closeness": 0.0, "operations": 0.0, "execution": 1.0}


def test_missing_input_names_the_steps_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)elsewhere.*02_generate_candidates\.py"):
        rewards(tmp_path / "elsewhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_to_reward_is_an_error_that_says_why(candidates_dir: Path, tmp_path: Path) -> None:
    (candidates_dir / "train.jsonl").write_text("", encoding="utf-8")
    (candidates_dir / "dev.jsonl").write_text("\n\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"all files of .*finqa_candidates are empty.*02_generate_candidates\.py"):
        rewards(candidates_dir, tmp_path / "out")
    unknown = pool("unknown", GOLD, answer=None).model_dump_json()
    (candidates_dir / "dev.jsonl").write_text(f"\n{unknown}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no pool of .* the first, .*dev\.jsonl:2 \(id unknown\): gold answer unknown"):
        rewards(candidates_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bins_include_their_upper_end() -> None:
    bins = [reward_bin(reward) for reward in (0.0, 0.000001, 0.1, 0.100001, 0.2, 0.3, 0.4, 0.5, 1.0)]
    assert " ".join(bins) == "0 0.0-0.1 0.0-0.1 0.1-0.2 0.1-0.2 0.2-0.3 0.3-0.4 0.4-0.5 1"
