"""Generation beside classification: the benchmark runs whole, and its rows, steps and claims are what they say."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from finrank.ranker.base_model import load_tokenizer
from finrank.ranker.settings import locate
from finrank.training.config import load_config
from tests.conftest import REPOSITORY
from tests.helpers.pools import make_pool

BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load("generation_vs_classification")


@pytest.fixture(scope="module")
def sides() -> ModuleType:
    return load("generation_sides")


def load(name: str) -> ModuleType:
    """A module of the benchmark, found as when the script runs."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "bfloat16, checkpointing"])
def both(request: Any, script: ModuleType, sides: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A ranker and a generator of toy size on six questions."""
    base = tmp_path_factory.mktemp("base")
    size = replace(sides.SIZES["toy"], lean=request.param)
    tokenizer = load_tokenizer(locate(load_config(script.CONFIGS / "minilm.yaml").base_model))
    tokenizer.eos_token = tokenizer.sep_token
    cpu = torch.device("cpu")
    sides.save_base(base, size, len(tokenizer), 0, cpu)
    config = script.training_config(base, size)
    work = sides.make_work([make_pool(number, candidates=8) for number in range(8)], tokenizer, config, 6, 0)
    torch.manual_seed(0)
    return sides.Classification(config, work, size, cpu), sides.Generation(config, work, size, tokenizer, cpu)


def test_the_benchmark_at_toy_size(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, str(BENCHMARKS / "generation_vs_classification.py"), "--quick", "--json", str(report)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(report.read_text(encoding="utf-8"))
    assert [row["what"] for row in result["rows"]] == ["SFT step", "evaluation", "RL step"]
    for row in result["rows"]:
        low, high = row["ratio_quartiles"]
        assert 0 < low <= row["ratio"] <= high
        assert row["classification_s"] > 0
        assert row["memory_saved"] == pytest.approx(1 - row["classification_mib"] / row["generation_mib"], abs=1e-2)
    # Eight sampled prompts and completions with gradients, against one pool: no machine's noise turns this round.
    assert result["rows"][2]["ratio"] > 1
    assert len(result["claims"]) == 6
    assert result["facts"]["completion"] > 10


def test_the_ratio_is_what_the_two_times_say(script: ModuleType) -> None:
    timing = load("shared.timing")
    timed = {"classification": timing.Timed([1.0, 2.0, 4.0], 10.0), "generation": timing.Timed([5.0, 20.0, 60.0], 30.0)}
    row = script.task_row("x", 2, timed, {"classification": 10.0, "generation": 30.0}, dict.fromkeys(timed, 70.0))
    assert (row["classification_s"], row["generation_s"]) == (1.0, 10.0)
    assert (row["ratio"], row["ratio_quartiles"]) == (10.0, [7.5, 12.5])
    assert (row["classification_mib"], row["generation_mib"], row["memory_saved"]) == (80.0, 100.0, 0.2)


def test_a_claim_holds_only_within_its_bounds(script: ModuleType) -> None:
    def verdicts(ratio: float, saved: float) -> list[str]:
        return [one["verdict"] for one in script.claims([{"what": "x", "ratio": ratio, "memory_saved": saved}])]

    assert verdicts(9.9, 0.39) == ["less", "less"]
    assert verdicts(10.0, 0.45) == ["holds", "holds"]
    assert verdicts(101.0, 0.51) == ["more", "more"]


def test_both_sides_take_the_same_questions(both: Any) -> None:
    ranker, generator = both
    assert ranker.work is generator.work
    assert ranker.work.batch(0, 4) == [0, 1, 2, 3]
    assert ranker.work.batch(1, 4) == [4, 5, 0, 1]
    for item, example in zip(ranker.work.pools, ranker.work.examples, strict=True):
        assert item.pool.id == example.question.id


def test_both_sides_have_the_same_weights_and_adapters(both: Any) -> None:
    ranker, generator = (
        {name.split("model.", 2)[-1].split("layers.")[-1]: value for name, value in one.named_parameters()}
        for one in (both[0].model, both[1].model)
    )
    layers = [name for name in generator if name[0].isdigit()]
    assert any("lora_A" in name for name in layers)
    for name in layers:
        assert ranker[name].shape == generator[name].shape
        if "lora_" not in name:
            assert ranker[name].equal(generator[name])


@pytest.mark.parametrize("side", [0, 1], ids=["classification", "generation"])
@pytest.mark.parametrize("step", ["sft_step", "rl_step"])
def test_a_step_changes_what_is_trained_and_leaves_no_gradient(both: Any, side: int, step: str) -> None:
    one = both[side]
    before = {name: value.detach().clone() for name, value in one.model.named_parameters()}
    getattr(one, step)(0)
    changed = {name for name, value in one.model.named_parameters() if not value.equal(before[name])}
    assert any("lora_B" in name for name in changed)
    assert all("lora_" in name or name.startswith("score_head") for name in changed)
    assert all(value.grad is None for value in one.model.parameters())
    one.evaluation(0)


def test_eight_completions_of_the_mean_length_are_sampled(both: Any, sides: ModuleType) -> None:
    generator = both[1]
    lengths = [len(one.completion) for one in generator.work.examples]
    assert generator.work.completion_length == round(sum(lengths) / len(lengths))
    ids, mask = generator.sample(generator.work.examples[:2])
    longest = max(len(one.prompt) for one in generator.work.examples[:2])
    assert ids.shape == mask.shape == (2 * sides.N, longest + generator.work.completion_length)
    assert (ids[:, longest:] != generator.tokenizer.eos_token_id).all()


@pytest.mark.parametrize("both", [False], ids=["float32"], indirect=True)
def test_the_log_likelihood_is_that_of_the_completion_alone(both: Any) -> None:
    """Padding changes nothing, and each token counts once: held against one sequence at a time without padding."""
    generator = both[1]
    short, long = sorted(generator.work.examples, key=lambda one: len(one.prompt))[:: len(generator.work.examples) - 1]
    short = replace(short, prompt=short.prompt[3:])  # prompts of different length, so that one is padded
    ids, mask = generator.sample([short, long])
    with torch.no_grad():
        found = generator.log_likelihood(ids, mask)
        for place in (0, len(ids) - 1):
            alone = ids[place][mask[place].bool()]
            logp = generator.model(input_ids=alone[None]).logits[0, :-1].log_softmax(dim=1)
            each = logp.gather(1, alone[1:, None]).squeeze(1)
            assert found[place].item() == pytest.approx(
                each[-generator.work.completion_length :].sum().item(), abs=1e-3
            )
    assert mask[0].sum() < mask[-1].sum()


def test_the_peak_is_that_of_the_tensors_of_one_step(script: ModuleType) -> None:
    """Eight tensors of 4 MiB, four alive at once, beside one that was there before."""
    before = torch.ones(2**20)

    def step(number: int) -> None:
        for _ in range(2):
            kept = [before + place for place in range(4)]
            del kept

    one = script.Contender(step, cuda=False)
    assert [one.peak_mib() for _ in range(3)] == pytest.approx([16] * 3, abs=0.1)
    assert one.calls == 3


def test_weights_and_optimizer_are_counted(script: ModuleType) -> None:
    model = torch.nn.Linear(2**10, 2**10, bias=False)
    assert script.held_mib(model, optimizer=False) == 4
    assert script.held_mib(model, optimizer=True) == 12
    assert script.held_mib(model.requires_grad_(False), optimizer=True) == 4


def test_too_few_questions_are_refused(script: ModuleType, sides: ModuleType, tmp_path: Path) -> None:
    config = script.training_config(tmp_path, sides.SIZES["toy"])
    with pytest.raises(SystemExit, match="0 questions with pools of 8 and a gold program: 2 are needed"):
        sides.make_work([make_pool(number, candidates=4) for number in range(4)], None, config, 2, 0)


def test_the_real_shape_is_refused_without_a_gpu(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["generation_vs_classification.py", "--shape", "llama-3-8b"])
    with pytest.raises(SystemExit, match="on a CPU give --shape small"):
        script.main()
