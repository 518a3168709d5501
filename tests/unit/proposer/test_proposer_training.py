"""Training of the first stage: it learns questions by heart, resumes to the same weights, and leaves pages out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from finrank import Proposer
from finrank.errors import UserError
from finrank.pools.corruption.fit_likeness import fold_of
from finrank.proposer import proposer_training
from finrank.proposer.grammar import WORDS, tokens_that_write
from finrank.proposer.network import ProposerNetwork
from finrank.proposer.page_tokens import tokenize_page
from finrank.proposer.proposer_files import load_proposer
from finrank.proposer.proposer_training import WritableQuestion, program_loss, rank_of_gold
from finrank.records import RewardedPool
from finrank.store import load_records
from tests.helpers.pools import write_pools
from tests.helpers.tiny_proposer import QUESTION, save_tiny_proposer, train
from tests.helpers.training_runs import check_folder, curve, killed_at, manifest_of, printed, weights

LEARN_BY_HEART = [
    "learning_rate=3e-3", "head_learning_rate=3e-3", "trainer.num_train_epochs=40", "trainer.eval_strategy=steps",
    "trainer.eval_steps=80", "trainer.warmup_steps=0.1",
]  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 questions learned by heart; selection holds the same questions."""
    folder = tmp_path_factory.mktemp("proposer")
    data = write_pools(folder / "data", train=8, selection=1, dev=3)
    shutil.copy(data / "train.jsonl", data / "selection.jsonl")
    return train(folder, *LEARN_BY_HEART)


def test_questions_are_learned_to_the_right_programs(stage: Path) -> None:
    check_folder(stage, "run_001", "04_proposer")
    metrics = manifest_of(stage)["metrics"]["selection"]
    assert metrics["first"] == metrics["among_8"] == metrics["among_32"] == 1.0
    losses = curve(stage)
    assert losses[-1][1] < 0.2 * losses[0][1]
    learned = load_records(stage.parents[2] / "data" / "train.jsonl", RewardedPool)
    proposer = Proposer.from_pretrained(stage.parent)
    for pool, candidates in zip(learned, proposer.propose_many(learned), strict=True):
        assert candidates[0].program == pool.program
        assert rank_of_gold(candidates, pool) == 0


@pytest.mark.parametrize(("precision", "expected"), [("bf16", True), ("float32", False)])
def test_the_loss_has_the_precision_that_is_printed(
    precision: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[bool] = []

    def seen(network: ProposerNetwork, batch: list[WritableQuestion]) -> torch.Tensor:
        rounds.append(torch.is_autocast_enabled(network.start.device.type))
        return program_loss(network, batch)

    monkeypatch.setattr(proposer_training, "program_loss", seen)
    write_pools(tmp_path / "data")
    train(tmp_path, f"mixed_precision={precision}", "trainer.max_steps=2")
    assert rounds == [expected] * 2


def test_a_cut_off_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    write_pools(tmp_path / "data")
    options = ["trainer.num_train_epochs=2", "trainer.eval_strategy=steps", "trainer.eval_steps=4"]
    whole = train(tmp_path, *options)
    with killed_at(6):
        train(tmp_path, *options)
    resumed = train(tmp_path, *options, resume=True)
    assert resumed.parent.name == "run_002"
    assert weights(resumed / "final_model") == weights(whole / "final_model")
    assert [loss for _, loss in curve(resumed)] == [loss for _, loss in curve(whole)]


def test_a_left_out_half_is_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pools(tmp_path / "data", train=24)
    pools = load_records(data / "train.jsonl", RewardedPool)
    kept = sum(fold_of(pool.page) == 1 for pool in pools)
    assert 0 < kept < len(pools)
    stage = train(tmp_path, "proposer.left_out_half=0", "trainer.max_steps=1")
    assert f"train: {kept} of {kept} gold programs can be written" in printed(capsys)
    assert load_proposer(stage).settings.left_out_half == 0


def test_the_loss_is_the_gold_program_with_the_places_of_a_number_added_up(tmp_path: Path) -> None:
    loaded = load_proposer(save_tiny_proposer(tmp_path), device="cpu")
    network, page = loaded.network, tokenize_page(QUESTION, loaded.tokenizer, 256)
    ways = tokens_that_write(str(QUESTION.program), page.pointed_at, page.n_numbers)
    assert ways is not None
    ways[2] = [*ways[2], ways[1][0]]  # as if 5735 were on the page twice
    encoded = network.encode([page])
    operands = {token - len(WORDS) for options in ways for token in options}
    is_operand = torch.tensor([float(index in operands) for index in range(len(page.spans))])
    guesses = network.is_operand(encoded.pointers_BPD)[0, :, 0]
    second = binary_cross_entropy_with_logits(guesses, is_operand, reduction="sum")
    expected = []
    for read in ways[2]:  # either place may be what the decoder reads
        tokens = torch.tensor([[options[0] for options in ways]])
        tokens[0, 2] = read
        log_probabilities = network.next_logits(encoded, tokens[:, :-1]).log_softmax(-1)[0]
        of_tokens = [log_probabilities[place, options].logsumexp(0) for place, options in enumerate(ways)]
        expected.append((0.3 * second - sum(of_tokens)).item())
    assert abs(expected[0] - expected[1]) > 1e-4
    losses = {round(program_loss(network, [WritableQuestion(page, ways)]).item(), 4) for _ in range(30)}
    assert sorted(losses) == pytest.approx(sorted(expected), abs=2e-4)


def test_quick_test_goes_through_every_step(tmp_path: Path) -> None:
    write_pools(tmp_path / "data")
    stage = train(tmp_path, quick_test=True)
    assert manifest_of(stage)["quick_test"] is True
    assert len(curve(stage)) == 4


@pytest.mark.parametrize(
    ("split", "message"), [("train", "no question with a gold program to learn from"), ("selection", "to choose")]
)
def test_data_without_gold_says_what_is_missing(tmp_path: Path, split: str, message: str) -> None:
    data = write_pools(tmp_path / "data")
    pools = load_records(data / f"{split}.jsonl", RewardedPool)
    lines = [pool.model_copy(update={"program": None}).model_dump_json() + "\n" for pool in pools]
    (data / f"{split}.jsonl").write_text("".join(lines))
    with pytest.raises(UserError, match=message):
        train(tmp_path)


def test_a_config_of_another_task_is_refused(tmp_path: Path) -> None:
    write_pools(tmp_path / "data")
    with pytest.raises(UserError, match="a proposer needs task: proposing"):
        train(tmp_path, "task=ranking")
