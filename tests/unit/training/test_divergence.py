"""Training that goes astray: it stops with the step and the last good checkpoint, which still loads."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from finrank import Ranker
from finrank.commands.ppo import ppo
from finrank.commands.sft import sft
from finrank.errors import UserError
from finrank.training.trainer import CheckpointTrainer
from tests.helpers.pools import write_pools
from tests.helpers.saved_ranker import POOL, save_tiny_ranker
from tests.helpers.tiny_models import save_tiny_base
from tests.helpers.training_runs import CONFIGS, SMALL, printed

EACH_STEP = [*SMALL, "trainer.eval_strategy=steps", "trainer.eval_steps=1", "trainer.max_steps=4", "batch_size=4"]


@contextmanager
def weights_lost_after(step: int) -> Iterator[None]:
    """A weight becomes nan once this step has been counted, as an update with an infinite gradient makes it."""
    evaluate = CheckpointTrainer._maybe_log_save_evaluate

    def lose(self: CheckpointTrainer, *arguments: Any, **options: Any) -> None:
        evaluate(self, *arguments, **options)
        if self.state.global_step == step:
            with torch.no_grad():
                next(value for value in self.job.model.parameters() if value.requires_grad).fill_(math.nan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointTrainer, "_maybe_log_save_evaluate", lose)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 4])
def test_a_model_that_is_lost_in_training_ends_it_and_leaves_the_last_checkpoint(tmp_path: Path, step: int) -> None:
    base, data = save_tiny_base(tmp_path / "base", "bert"), write_pools(tmp_path / "data")
    config, options = CONFIGS / "minilm.yaml", {"overrides": EACH_STEP, "base_model": str(base)}
    with weights_lost_after(step), pytest.raises(UserError, match=f"diverged at step {step}: .*lower") as error:
        sft(config, data, tmp_path / "out", **options)
    stage = tmp_path / "out" / "run_001" / "04_sft"
    named = re.search(r"(\S+/checkpoint-\d) is the model as it was then", str(error.value))
    assert named is not None
    assert not (stage / "training_manifest.json").exists()
    assert not (stage / "best_model").exists()
    answers = Ranker.from_pretrained(named[1], device="cpu").rank(**POOL)
    assert sum(one.probability for one in answers) == pytest.approx(1.0)
    start = sft(config, data, tmp_path / "whole", **options)
    before = sorted((path, path.read_bytes()) for path in start.rglob("*.safetensors"))
    with weights_lost_after(1), pytest.raises(UserError, match=r"diverged at step 1: .*lower"):
        ppo(config, data, tmp_path / "whole", sft_model=start, overrides=EACH_STEP)
    assert sorted((path, path.read_bytes()) for path in start.rglob("*.safetensors")) == before


@pytest.mark.slow
def test_a_learning_rate_that_no_model_survives_is_said(tmp_path: Path) -> None:
    base, data = save_tiny_base(tmp_path / "base", "bert"), write_pools(tmp_path / "data")
    overrides = [*EACH_STEP, "learning_rate=1e38", "trainer.max_grad_norm=0", "trainer.warmup_steps=0"]
    with pytest.raises(UserError, match=r"training diverged.*lower.*learning.rate"):
        sft(CONFIGS / "minilm.yaml", data, tmp_path / "out", base_model=str(base), overrides=overrides)
    assert not (tmp_path / "out" / "run_001" / "04_sft" / "best_model").exists()


@pytest.mark.slow
def test_rewards_that_are_no_numbers_leave_their_pool_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, data = save_tiny_ranker(tmp_path).parent / "base", write_pools(tmp_path / "data", train=8)
    lines = (data / "train.jsonl").read_text().splitlines()
    for number, broken in enumerate(("NaN", "1e999", "-0.1", "null"), 1):
        lines[number] = re.sub(r'"rewards":\[[\d.]+', f'"rewards":[{broken}', lines[number])
        assert f"[{broken}" in lines[number]
    (data / "train.jsonl").write_text("\n".join(lines))
    sft(CONFIGS / "minilm.yaml", data, tmp_path / "out", base_model=str(base), overrides=SMALL, quick_test=True)
    assert re.search(r"4 of 8 lines of .*train\.jsonl are left out: .*train\.jsonl:2 .*rewards\.0", printed(capsys))
