"""Likelihoods by a shared prompt are those of a naive pass per candidate; what cannot be written is not scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finrank.commands.sft import sft
from finrank.evaluation.evaluate import evaluate_pools
from finrank.generator import likelihood
from finrank.generator.likelihood import log_likelihoods, score_by_likelihood
from finrank.generator.model import Generator, load_generation_tokenizer, new_generator
from finrank.generator.saving import save_generator
from finrank.generator.settings import generator_settings
from finrank.generator.text import write_prompt, write_target
from finrank.programs import parse
from finrank.records import Candidate, Pool, RewardedPool
from finrank.training.config import load_config
from tests.conftest import REPOSITORY
from tests.helpers.pools import make_pool, write_pools
from tests.helpers.tiny_generator import CONFIG, SMALL, save_tiny_causal_lm
from tests.helpers.tiny_models import save_tiny_base


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    base = save_tiny_causal_lm(tmp_path_factory.mktemp("base"))
    settings = generator_settings(load_config(CONFIG, SMALL, str(base)))
    return Generator(new_generator(settings).eval(), load_generation_tokenizer(str(base)), settings)


def naive(generator: Generator, pool: Pool, program: str) -> tuple[float, int]:
    """The log-likelihood by one pass over prompt and completion, and the completion's tokens."""
    prompt = write_prompt(pool, generator.tokenizer, generator.settings)
    target = write_target(pool.id, program, generator.tokenizer, generator.settings)
    with torch.no_grad():
        logits = generator.model.get_base_model()(input_ids=torch.tensor([[*prompt, *target]])).logits[0].float()
    predicted = logits[len(prompt) - 1 : -1].log_softmax(dim=-1)
    return float(sum(predicted[position, token] for position, token in enumerate(target))), len(target)


@pytest.mark.parametrize("most_rows", [1, 3, 16])
def test_the_scores_are_those_of_a_naive_loop(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, most_rows: int
) -> None:
    monkeypatch.setattr(likelihood, "_MOST_ROWS", most_rows)
    longer = Candidate(program="add(103, 9), divide(#0, 103)", answer=1.08738, origin="sampled")
    pools = [make_pool(3).model_copy(update={"candidates": [*make_pool(3).candidates, longer]}), make_pool(8)]
    scores = score_by_likelihood(generator, pools)
    for index, pool in enumerate(pools):
        expected = [naive(generator, pool, str(one.program)) for one in pool.candidates]
        sums, lengths = np.array(expected).T
        assert scores["likelihood"][index] == pytest.approx(sums, rel=1e-4)
        assert scores["likelihood_mean"][index] == pytest.approx(sums / lengths, rel=1e-4)
        assert len(set(scores["likelihood"][index].tolist())) == len(pool.candidates)


def test_a_prompt_is_read_once(generator: Generator) -> None:
    base, read = generator.model.get_base_model(), []
    hook = base.get_input_embeddings().register_forward_hook(lambda _, inputs, output: read.append(inputs[0].shape))
    pool = make_pool(3)
    prompt = write_prompt(pool, generator.tokenizer, generator.settings)
    targets = [write_target("", str(one.program), generator.tokenizer, generator.settings) for one in pool.candidates]
    log_likelihoods(base, prompt, targets)
    hook.remove()
    assert [tuple(shape) for shape in read] == [(1, len(prompt) - 1), (4, max(map(len, targets)))]


def test_equal_programs_tie_and_what_cannot_be_written_is_not_scored(generator: Generator) -> None:
    pool = make_pool(3)
    several = [
        Candidate(program="add(103, 10)", answer=113.0, origin="sampled"),
        Candidate(answer=113.0, origin="imported"),  # without a program
        Candidate(program="add(103,  10)", answer=113.0, origin="sampled"),  # written the same
        Candidate(program="divide(103, 0)", error="division by zero", origin="sampled"),
        Candidate(program="113 of them", answer=113.0, origin="imported"),
        Candidate(program=", ".join(["add(103, 10)"] * 40), answer=113.0, origin="imported"),  # over max_new_tokens
        Candidate(program="add(10, 103)", answer=113.0, origin="sampled"),
    ]
    assert str(parse("add(103,  10)")) == "add(103, 10)"
    empty = pool.model_copy(update={"candidates": several[1:2]})
    long = pool.model_copy(update={"question": "why is it so ? " * 200, "candidates": several})
    for scores in score_by_likelihood(
        generator, [pool.model_copy(update={"candidates": several}), empty, long]
    ).values():
        first, second, third = (row.tolist() for row in scores)
        assert first[0] == first[2] != first[6]
        assert [np.isfinite(score) for score in first] == [True, False, True, False, False, False, True]
        assert second == [-np.inf]
        assert third == [-np.inf] * 7


def test_likelihoods_are_rows_beside_the_baselines(generator: Generator) -> None:
    pools: list[RewardedPool] = [make_pool(number) for number in range(6)]
    rows = score_by_likelihood(generator, pools)
    figures = evaluate_pools(
        pools, [np.zeros(4)] * 6, further={**rows, "gold": [np.array(one.rewards) for one in pools]}
    )
    assert figures.accuracy_of("gold") == 1.0
    right = [pool.correct[0] == int(np.argmax(row)) for pool, row in zip(pools, rows["likelihood"], strict=True)]
    assert figures.accuracy_of("likelihood") == pytest.approx(np.mean(right))
    means = figures.baselines["likelihood_mean"]
    assert means is not None
    assert means.p_value is not None
    assert "likelihood" not in evaluate_pools(pools, [np.zeros(4)] * 6).baselines


def test_the_command_names_a_generator(generator: Generator, tmp_path: Path, capsys: Any) -> None:
    from finrank.commands.evaluate import evaluate

    save_generator(generator.model, generator.tokenizer, generator.settings, tmp_path / "generator")
    base, data = save_tiny_base(tmp_path / "base", "bert"), write_pools(tmp_path / "data", dev=12)
    quick = ["prompt.max_length=256", "trainer.max_steps=1", "mixed_precision=float32", "base_model_sha256=null"]
    sft(REPOSITORY / "configs/models/minilm.yaml", data, tmp_path / "outputs", base_model=str(base), overrides=quick)
    result = evaluate(
        tmp_path / "outputs/run_001", data, likelihood=tmp_path / "generator", save_confidence=False,
        html_path=tmp_path / "report.html",
    )  # fmt: skip
    values = result.as_json()["baselines"]
    assert 0 <= values["likelihood"]["accuracy"] <= 1
    assert "likelihood mean" in capsys.readouterr().out
    assert "likelihood mean" in (tmp_path / "report.html").read_text(encoding="utf-8")
