"""Generation and classification: both sides do the same work, and rows, memory and claims are counted as documented."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from finrank.ranker.settings import locate
from finrank.ranker.tokenizer import load_tokenizer
from finrank.training.config import load_config
from tests.helpers.pools import make_pool
from tests.helpers.scripts import load_benchmark

script, sides, tables, timing = map(
    load_benchmark, ("generation_vs_classification", "shared.sides", "shared.tables", "shared.timing")
)


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "bfloat16, checkpointing"])
def both(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A ranker and a generator of toy size on six questions."""
    base = tmp_path_factory.mktemp("base")
    size = replace(sides.SIZES["toy"], lean=request.param)
    tokenizer = load_tokenizer(locate(load_config(script.CONFIGS / "minilm.yaml").base_model))
    tokenizer.eos_token = tokenizer.sep_token
    cpu = torch.device("cpu")
    sides.save_base(base, size, len(tokenizer), 0, cpu)
    config = script.training_config(base, size)
    questions = sides.draw_questions([make_pool(number, candidates=8) for number in range(8)], tokenizer, config, 6, 0)
    torch.manual_seed(0)
    return sides.Classification(config, questions, size, cpu), sides.Generation(config, questions, size, tokenizer, cpu)


def test_ratio_and_memory_of_a_row() -> None:
    timed = {"classification": timing.Timed([1.0, 2.0, 4.0], 10.0), "generation": timing.Timed([5.0, 20.0, 60.0], 30.0)}
    row = script.task_row("x", 2, timed, {"classification": 10.0, "generation": 30.0}, dict.fromkeys(timed, 70.0))
    assert (row["classification_s"], row["generation_s"]) == (1.0, 10.0)
    assert (row["ratio"], row["ratio_quartiles"]) == (10.0, [7.5, 12.5])
    assert (row["classification_mib"], row["generation_mib"], row["memory_saved"]) == (80.0, 100.0, 0.2)


def test_a_claim_holds_only_within_its_bounds() -> None:
    values = ((9.9, 0.39), (10.0, 0.45), (101.0, 0.51))
    claims = script.claims([{"what": "x", "ratio": ratio, "memory_saved": saved} for ratio, saved in values])
    assert [claim["verdict"] for claim in claims] == ["less", "less", "holds", "holds", "more", "more"]


def test_both_sides_take_the_same_questions(both: Any) -> None:
    ranker, generator = both
    assert ranker.questions is generator.questions
    assert [ranker.questions.batch("abcdef", number, 4) for number in (0, 1)] == [[*"abcd"], [*"efab"]]
    for item, example in zip(ranker.questions.pools, ranker.questions.examples, strict=True):
        assert item.pool.id == example.question.id


def test_both_sides_have_the_same_weights_and_adapters(both: Any) -> None:
    ranker, generator = (
        {name.split("model.", 2)[-1].split("layers.")[-1]: value for name, value in side.model.named_parameters()}
        for side in both
    )
    layers = [name for name in generator if name[0].isdigit()]
    assert any("lora_A" in name for name in layers)
    for name in layers:
        assert ranker[name].shape == generator[name].shape
        assert "lora_" in name or ranker[name].equal(generator[name])


@pytest.mark.parametrize("side", [0, 1], ids=["classification", "generation"])
@pytest.mark.parametrize("step", ["sft_step", "rl_step"])
def test_a_step_changes_trained_weights_alone_and_leaves_no_gradient(both: Any, side: int, step: str) -> None:
    owner = both[side]
    before = {name: value.detach().clone() for name, value in owner.model.named_parameters()}
    getattr(owner, step)(0)
    changed = {name for name, value in owner.model.named_parameters() if not value.equal(before[name])}
    assert any("lora_B" in name for name in changed)
    assert all("lora_" in name or name.startswith("score_head") for name in changed)
    assert all(value.grad is None for value in owner.model.parameters())
    owner.evaluation(0)


def test_eight_completions_of_the_mean_length_are_sampled(both: Any) -> None:
    generator = both[1]
    lengths = [len(example.completion) for example in generator.questions.examples]
    assert generator.questions.completion_length == round(sum(lengths) / len(lengths))
    ids, mask = generator.sample(generator.questions.examples[:2])
    longest = max(len(example.prompt) for example in generator.questions.examples[:2])
    assert ids.shape == mask.shape == (2 * sides.N, longest + generator.questions.completion_length)
    assert (ids[:, longest:] != generator.tokenizer.eos_token_id).all()


@pytest.mark.parametrize("both", [False], ids=["float32"], indirect=True)
def test_the_log_likelihood_is_that_of_the_completion_alone_without_padding(both: Any) -> None:
    generator = both[1]
    long = max(generator.questions.examples, key=lambda example: len(example.prompt))
    short = replace(long, prompt=long.prompt[3:])  # so that one prompt is padded
    ids, mask = generator.sample([short, long])
    with torch.no_grad():
        likelihoods = generator.log_likelihood(ids, mask)
        for index in (0, len(ids) - 1):
            alone = ids[index][mask[index].bool()]
            logp = generator.model(input_ids=alone[None]).logits[0, :-1].log_softmax(dim=1)
            each = logp.gather(1, alone[1:, None]).squeeze(1)[-generator.questions.completion_length :]
            assert likelihoods[index].item() == pytest.approx(each.sum().item(), abs=1e-3)
    assert mask[0].sum() < mask[-1].sum()


def test_the_peak_is_that_of_the_tensors_of_one_step() -> None:
    """Eight tensors of 4 MiB, four alive at once, and one from before the step."""
    before = torch.ones(2**20)

    def step(_: int) -> None:
        for _ in range(2):
            kept = [before + number for number in range(4)]
            del kept

    contender = script.Contender(step, cuda=False)
    assert [contender.peak_mib() for _ in range(3)] == pytest.approx([16] * 3, abs=0.1)
    assert contender.calls == 3


def test_weights_and_optimizer_are_counted() -> None:
    model = torch.nn.Linear(2**10, 2**10, bias=False)
    assert script.held_mib(model, optimizer=False) == 4
    assert script.held_mib(model, optimizer=True) == 12
    assert script.held_mib(model.requires_grad_(False), optimizer=True) == 4


@pytest.mark.parametrize("both", [False], ids=["float32"], indirect=True)
def test_tasks_share_the_time_and_one_that_fails_leaves_the_others(
    both: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tables.Report(tmp_path / "report.json", rounds=5000, claims=[], skipped=[])

    def full(_: int) -> None:
        raise torch.OutOfMemoryError("simulated")

    monkeypatch.setattr(both[1], "evaluation", full)
    script.measure(*both, report, time.monotonic() + 9)  # the first step of a busy machine takes seconds
    assert report.facts["skipped"][0] == "evaluation: out of memory"
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["rows"][0]["what"] == "SFT step"
    assert 1 <= written["rows"][0]["rounds"] < 5000
    assert len(written["claims"]) == 2 * len(written["rows"])
    script.measure(*both, report, time.monotonic())
    assert report.facts["skipped"][-3:] == [f"{what}: no time is left" for what in script.TASKS]


def test_too_few_questions_are_refused(tmp_path: Path) -> None:
    config = script.training_config(tmp_path, sides.SIZES["toy"])
    with pytest.raises(SystemExit, match="0 questions with pools of 8 and a gold program: 2 are needed"):
        sides.draw_questions([make_pool(number, candidates=4) for number in range(4)], None, config, 2, 0)
