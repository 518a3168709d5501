"""A folder of another stage in place of the right one: an error that says what it is and what makes the right one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finrank.commands.audit import audit
from finrank.commands.candidates import candidates
from finrank.commands.check import check
from finrank.commands.evaluate import evaluate
from finrank.commands.fit import fit
from finrank.commands.generation import generation
from finrank.commands.ppo import ppo
from finrank.commands.prepare import prepare
from finrank.commands.proposer import proposer
from finrank.commands.rewards import rewards
from finrank.commands.sample import sample
from finrank.commands.sample_data import sample_data
from finrank.commands.sft import sft
from finrank.errors import UserError
from finrank.training.run import data_hashes
from tests.helpers.saved_ranker import save_tiny_ranker
from tests.helpers.training_runs import CONFIGS, printed

LATER = ["processed", "candidates", "rewarded"]  # in the order in which they are made
ELSEWHERE = {"outputs": "training runs", "outputs/run_001": "a trained model", "model": "a trained model"}
NO_REWARDS = {"processed": "questions without candidates", "candidates": "pools without rewards"}
MINILM, LLAMA = CONFIGS / "minilm.yaml", CONFIGS / "llama-3-8b.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of every stage, of a run and of a model."""
    folder = tmp_path_factory.mktemp("folders")
    sample_data(folder / "raw", train=20, dev=8, test=0)
    prepare(folder / "raw", folder / "processed", selection_share=0.3)
    candidates(folder / "processed", folder / "candidates", num_candidates=4)
    rewards(folder / "candidates", folder / "rewarded")
    save_tiny_ranker(folder)
    shutil.copytree(folder / "model", folder / "outputs" / "run_001" / "04_sft" / "best_model")
    return folder


def ranker(folder: Path) -> Path:
    return folder.parent / "model" if folder.name != "run_001" else folder.parents[1] / "model"


# What each command reads, the folders that lack it and what they hold, and the step that makes the right one.
COMMANDS: dict[str, tuple[Callable[[Path, Path], Any], dict[str, str], str]] = {
    "check": (lambda data, _: check(data), dict.fromkeys(LATER, "the output of a data stage"), "finrank download"),
    "prepare": (prepare, dict.fromkeys(LATER, "the output of a data stage"), "--output_dir datasets/finqa_raw"),
    "candidates": (candidates, {"raw": "raw FinQA files"}, "01_prepare_dataset.py"),
    "sample": (
        lambda data, out: sample(["x"], "http://127.0.0.1:9/v1", data, out),
        {"raw": "raw FinQA files"},
        "01_prepare_dataset.py",
    ),
    "rewards": (rewards, {"raw": "raw FinQA files", "processed": NO_REWARDS["processed"]}, "02_generate_candidates.py"),
    "sft": (lambda data, out: sft(MINILM, data, out), NO_REWARDS, "03_build_rewards.py"),
    "ppo": (
        lambda data, out: ppo(MINILM, data, out, sft_model=ranker(data)),
        NO_REWARDS,
        "03_build_rewards.py",
    ),
    "generation": (lambda data, out: generation(LLAMA, data, out), NO_REWARDS, "03_build_rewards.py"),
    "proposer": (lambda data, out: proposer(Path("proposer"), data, out), NO_REWARDS, "03_build_rewards.py"),
    "evaluate": (lambda data, _: evaluate(ranker(data), data), NO_REWARDS, "03_build_rewards.py"),
    "fit": (lambda data, out: fit(ranker(data), data, output_dir=out), NO_REWARDS, "03_build_rewards.py"),
    "audit": (
        lambda data, _: audit(data, candidate_only="skip"),
        {"processed": NO_REWARDS["processed"]},
        "02_generate_candidates.py",
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_another_stages_folder_is_named_with_what_makes_the_right_one(folder: Path, tmp_path: Path, name: str) -> None:
    command, wrong, step = COMMANDS[name]
    for other, holds in {**wrong, **ELSEWHERE}.items():
        with pytest.raises(UserError) as raised:
            command(folder / other, tmp_path / "out")
        first, *commands = str(raised.value).splitlines()
        assert str(folder / other) in first
        assert f"holds {holds}: " in first
        assert step in " ".join(commands)
        assert str(folder) not in " ".join(commands)  # nothing is to be written into the wrong folder
    assert not (tmp_path / "out").exists()


def test_records_of_a_later_stage_serve_and_what_is_not_read_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewards(folder / "rewarded", tmp_path / "again")
    assert "unknown keys are ignored: 'rewards'" in printed(capsys)
    assert (tmp_path / "again" / "dev.jsonl").read_bytes() == (folder / "rewarded" / "dev.jsonl").read_bytes()


@pytest.mark.parametrize("mixed", ["manifest.json", "dev.jsonl"])
def test_files_of_two_runs_in_one_folder_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], mixed: str
) -> None:
    """The manifest of another folder, or one split of another run."""
    candidates(folder / "processed", tmp_path / "other", num_candidates=3, seed=5)
    copy = Path(shutil.copytree(folder / "candidates", tmp_path / "copy"))
    shutil.copy(tmp_path / "other" / mixed, copy / mixed)
    capsys.readouterr()
    rewards(copy, tmp_path / "out")
    warned = printed(capsys)
    for split in ("train", "selection", "dev"):
        said = f"{copy / split}.jsonl is not the file that the manifest.json beside it lists" in warned
        assert said == (mixed in ("manifest.json", f"{split}.jsonl"))
    capsys.readouterr()
    data_hashes(copy)  # as trainings read a folder; the same files are named once
    assert printed(capsys) == ""


def test_a_split_without_rewards_among_rewarded_ones_is_named(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder / "rewarded", tmp_path / "copy"))
    shutil.copy(folder / "candidates" / "dev.jsonl", copy / "dev.jsonl")
    with pytest.raises(UserError, match=r"dev\.jsonl holds pools without rewards: run steps 02 and 03"):
        sft(MINILM, copy, tmp_path / "out")


def test_a_first_record_without_candidates_costs_no_other(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder / "candidates", tmp_path / "copy"))
    question = (folder / "processed" / "dev.jsonl").read_text().splitlines(keepends=True)[0]
    pools = (copy / "dev.jsonl").read_text().splitlines(keepends=True)
    (copy / "dev.jsonl").write_text(question + "".join(pools[1:]))
    rewards(copy, tmp_path / "out")
    assert len((tmp_path / "out" / "dev.jsonl").read_text().splitlines()) == len(pools) - 1
    assert "candidates: Field required" in (tmp_path / "out" / "rejects.jsonl").read_text()
