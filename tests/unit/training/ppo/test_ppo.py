"""Stage 05 whole, on tiny random models: what it learns, where it begins and ends, resuming, and what it refuses."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from finrank import Ranker
from finrank.commands.evaluate import evaluate
from finrank.commands.ppo import ppo
from finrank.commands.sft import sft
from finrank.errors import UserError
from finrank.evaluation.survival import Truncation
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.encoding import LeftOut, encode
from finrank.ranker.saving import find_model, load_model
from finrank.training.batches import TrainingPool
from finrank.training.config import PPOSettings, load_config
from finrank.training.data import PoolMeasure, Split, read_splits
from finrank.training.ppo import ppo_trainer
from finrank.training.ppo.ppo import learnable, without_dropout
from finrank.training.ppo.ppo_trainer import log_policy
from finrank.training.ppo.rollouts import PPOState
from finrank.training.ppo.start import newest_sft_model, sft_model_to_begin_with
from finrank.training.run import CHECKPOINTS, TRAINING_MANIFEST, Run
from tests.helpers.pools import make_pool, write_splits
from tests.helpers.tiny_models import save_tiny_base
from tests.helpers.training_runs import CONFIGS, SMALL, check_folder, curve, killed_at, manifest_of, printed, weights

CONFIG = CONFIGS / "llama-3-8b.yaml"
SFT = [*SMALL, "early_stopping_patience=null", "lora.dropout=0.1", "trainer.activation_checkpointing=false"]
PPO = ["ppo.rollout_size=8", "ppo.batch_size=4", "ppo.learning_rate=1e-2", "ppo.kl_coefficient=0.01"]


def write_ragged_pools(directory: Path) -> None:
    """Pools of 2 to 5 candidates, some with tied rewards, one in which all rewards are equal."""
    pools = [make_pool(number, candidates=2 + number % 4) for number in range(38)]
    pools[3] = pools[3].model_copy(update={"rewards": [0.25] * len(pools[3].rewards), "correct": []})
    write_splits(directory, {"train": pools[:22], "selection": pools[22:30], "dev": pools[30:]})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a tiny base and one SFT run."""
    root = tmp_path_factory.mktemp("ppo")
    save_tiny_base(root / "base", "llama")
    write_ragged_pools(root / "data")
    sft(CONFIG, root / "data", root / "outputs", base_model=str(root / "base"), overrides=SFT)
    return root


def train(root: Path, outputs: Path, *more: str, **options: Any) -> Path:
    """Stage 05 in a copy of the SFT run, so that every test has its own."""
    if not outputs.exists():
        shutil.copytree(root / "outputs", outputs)
    overrides = [*SFT, *PPO, f"base_model={root / 'base'}", *more]
    return ppo(CONFIG, root / "data", outputs, overrides=overrides, **options)


def run_of(root: Path, outputs: Path, *more: str, **options: Any) -> Run:
    config = load_config(CONFIG, [*SFT, f"base_model={root / 'base'}", *more])
    return Run(config, root / "data", outputs, **options)


FURTHER = ["ppo.scale_advantages=true", "ppo.entropy_coefficient=0.01", "ppo.reward=correct"]


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "more"), [("sampled", []), ("exact", []), ("sampled", FURTHER)])
def test_the_policy_learns_begins_at_kl_zero_and_is_loaded_by_all(
    root: Path, tmp_path: Path, estimator: str, more: list[str]
) -> None:
    how = [f"ppo.estimator={estimator}", "ppo.num_epochs=6", "ppo.kl_coefficient=0"]
    stage = train(root, tmp_path / "outputs", *how, *more)
    check_folder(stage, "run_001", "05_ppo")
    assert curve(stage, "kl")[0][1] == pytest.approx(0, abs=1e-6)
    rewards = [value for _, value in curve(stage, "expected_reward")]
    assert np.mean(rewards[-6:]) > np.mean(rewards[:6]) + 0.05
    assert manifest_of(stage)["stage"] == "ppo"
    result = evaluate(stage, root / "data", split="dev").as_json()
    assert result["accuracy"] == manifest_of(stage)["metrics"]["dev"]["accuracy"]
    assert find_model(stage.parent) == stage / "best_model"  # of a run, the last stage counts
    page = make_pool(3).model_dump(include={"question", "table", "text"})
    assert len(Ranker.from_pretrained(stage).rank(**page, candidates=["add(103, 10)", "subtract(103, 10)"])) == 2


def test_an_sft_model_that_nothing_beats_stays_the_best_one(root: Path, tmp_path: Path) -> None:
    stage = train(root, tmp_path / "outputs", "ppo.learning_rate=1e-12")
    assert manifest_of(stage)["best_step"] == 0
    before = weights(stage.parent / "04_sft/best_model")
    assert weights(stage / "best_model") == before != weights(stage / "final_model")


def test_pools_of_equal_rewards_stay_out(root: Path) -> None:
    loaded = load_model(root / "outputs" / "run_001", device="cpu")
    split = read_splits(run_of(root, root / "outputs"), loaded.tokenizer)["train"]
    dataset, rewards = learnable(split, PPOSettings(), seed=0)
    pools = split.pools
    assert len(dataset) == len(pools) - 1 == len(rewards)
    assert rewards[pools[0].id].tolist() == pools[0].rewards
    _, rewards = learnable(split, PPOSettings(reward="correct"), seed=0)
    assert rewards[pools[2].id].nonzero()[0].tolist() == pools[2].correct


def test_nothing_is_dropped_out(root: Path) -> None:
    loaded = load_model(root / "outputs" / "run_001", device="cpu")
    pools = [make_pool(1), make_pool(2)]
    encoded = [encode(pool, pool.candidates, loaded.tokenizer, loaded.model.settings.prompt) for pool in pools]
    loaded.model.train()

    def twice() -> float:
        first, second = (log_policy(loaded.model, encoded, "split", 10**6, bf16=False) for _ in range(2))
        return max(float(np.abs(first[name] - second[name]).max()) for name in first)

    assert twice() > 0
    without_dropout(loaded.model)
    assert twice() == 0
    assert loaded.model.settings.lora.dropout == 0.1  # the settings saved with the model stay as they are


# Checkpoints at every third of ten updates an epoch: in the middle of a rollout, which has four.
RESUME = ["ppo.evaluations_per_epoch=4", "ppo.num_epochs=2", "ppo.kl_target=0.001", "trainer.save_total_limit=3"]
Interrupted = Callable[[str], tuple[list[str], Path, Path]]


@pytest.fixture(scope="module")
def interrupted(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """By estimator: settings, a stage that ran through, and the outputs of one killed at step 8, for tests to copy."""

    @functools.cache
    def of(estimator: str) -> tuple[list[str], Path, Path]:
        folder = tmp_path_factory.mktemp(estimator)
        settings = [*RESUME, f"ppo.estimator={estimator}"]
        whole = train(root, folder / "whole", *settings)
        with killed_at(8):
            train(root, folder / "killed", *settings)
        return settings, whole, folder / "killed"

    return of


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["sampled", "exact"])
def test_a_killed_run_resumes_to_the_same_curve(
    root: Path, tmp_path: Path, interrupted: Interrupted, estimator: str
) -> None:
    settings, whole, killed = interrupted(estimator)
    outputs = Path(shutil.copytree(killed, tmp_path / "outputs"))
    assert (outputs / "run_001/05_ppo" / CHECKPOINTS / "checkpoint-6/ppo_state.safetensors").is_file()
    resumed = train(root, outputs, *settings, sft_model=outputs / "run_001", resume=True)
    assert resumed == outputs / "run_001/05_ppo"
    for name in ("loss", "kl", "expected_reward", "kl_coefficient"):
        assert curve(resumed, name) == curve(whole, name)
    assert len({value for _, value in curve(whole, "kl_coefficient")}) > 3
    assert weights(resumed / "final_model") == weights(whole / "final_model")


@pytest.mark.slow
def test_a_resume_that_forgets_the_rollout_is_seen(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: Interrupted
) -> None:
    settings, whole, killed = interrupted("sampled")
    load = PPOState.load
    monkeypatch.setattr(PPOState, "load", lambda directory: replace(load(directory), rollout=(-1, -1)))
    resumed = train(root, Path(shutil.copytree(killed, tmp_path / "outputs")), *settings, resume=True)
    assert curve(resumed)[:6] == curve(whole)[:6]
    assert curve(resumed) != curve(whole)


@pytest.mark.slow
def test_a_moved_output_folder_resumes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: Interrupted
) -> None:
    settings, _, killed = interrupted("exact")
    shutil.copytree(killed, tmp_path / "moved")
    shutil.copytree(killed / "run_001/04_sft", tmp_path / "moved/run_002/04_sft")  # a newer SFT run
    monkeypatch.chdir(tmp_path)
    assert train(root, Path("moved"), *settings, resume=True).resolve() == tmp_path / "moved/run_001/05_ppo"


def test_the_curve_depends_on_the_seed_alone(root: Path, tmp_path: Path) -> None:
    first, second, other = (
        curve(train(root, tmp_path / name, "ppo.estimator=sampled", f"seed={seed}", "trainer.max_steps=2"))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == second != other


WILD = ["ppo.learning_rate=0.1", "ppo.num_epochs=10", "ppo.kl_coefficient=0", "ppo.kl_stop=0.3"]


@pytest.mark.slow
def test_a_policy_that_runs_away_is_stopped_also_after_a_resume(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = train(root, tmp_path / "stopped", *WILD)
    assert manifest_of(stopped)["best_step"] is not None
    assert curve(stopped)[-1][0] < 100

    with monkeypatch.context() as patch:
        patch.setattr(PoolMeasure, "of_the_best", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(root, tmp_path / "killed", *WILD)
    resumed = train(root, tmp_path / "killed", *WILD, resume=True)
    assert curve(resumed) == curve(stopped)
    assert weights(resumed / "final_model") == weights(stopped / "final_model")


@pytest.mark.slow
def test_the_penalty_keeps_the_policy_near(root: Path, tmp_path: Path) -> None:
    near = train(root, tmp_path / "outputs", *WILD, "ppo.learning_rate=1e-3", "ppo.kl_coefficient=10")
    assert curve(near)[-1][0] == 100
    assert max(value for _, value in curve(near, "kl")) < 0.3


@pytest.mark.parametrize("same", [True, False])
def test_the_first_ratio_of_a_rollout_is_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """Under bfloat16 autocast; rollouts in another precision than updates are seen."""
    seen = []
    objective = ppo_trainer.clipped_objective

    def watched(logp: Any, old: Any, *rest: Any) -> Any:
        seen.append((logp - old).detach()[old.isfinite()].abs().max().item())
        return objective(logp, old, *rest)

    if not same:
        monkeypatch.setattr(ppo_trainer, "log_policy", lambda *arguments, bf16: log_policy(*arguments, bf16=False))
    monkeypatch.setattr(ppo_trainer, "clipped_objective", watched)
    train(root, tmp_path / "outputs", "ppo.estimator=sampled", "mixed_precision=bf16", "trainer.max_steps=1")
    assert (seen[0] < 1e-6) == same


def test_the_last_rollouts_kl_counts_too(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wild = ["ppo.learning_rate=0.1", "ppo.kl_coefficient=0", "ppo.kl_stop=0.001", "ppo.rollout_size=64"]
    train(root, tmp_path / "outputs", *wild)
    assert "over ppo.kl_stop" in printed(capsys)


def test_a_policy_that_is_not_finite_any_more_ends_with_advice(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lower (ppo\.)?learning_rate"):
        train(root, tmp_path / "outputs", "ppo.learning_rate=1e30", "ppo.estimator=sampled")


@pytest.mark.slow
def test_pools_that_take_several_passes_give_the_same_curve(root: Path, tmp_path: Path) -> None:
    more = ["ppo.estimator=sampled", "lora.dropout=0.1"]
    whole, cut = (
        curve(train(root, tmp_path / str(tokens), *more, f"tokens_per_pass={tokens}"), "expected_reward")
        for tokens in (10**6, 60)
    )
    np.testing.assert_allclose(cut, whole, atol=1e-4)


def test_the_same_base_model_flag_on_both_stages(root: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"base_model": str(root / "base"), "overrides": [*SFT, *PPO], "quick_test": True}
    sft(CONFIG, root / "data", tmp_path, **options)
    assert ppo(CONFIG, root / "data", tmp_path, **options) == tmp_path / "run_001" / "05_ppo"


def test_a_quick_test_leaves_a_real_run_alone(root: Path, tmp_path: Path) -> None:
    assert train(root, tmp_path / "outputs", quick_test=True) == tmp_path / "outputs" / "run_002" / "05_ppo"


def test_a_folder_within_the_run_names_its_model(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = Path(shutil.copytree(root / "outputs", tmp_path / "outputs"))
    monkeypatch.chdir(outputs / "run_001")
    for named in (Path("."), Path("04_sft"), Path("04_sft/best_model")):
        run = run_of(root, outputs, start=named)
        assert sft_model_to_begin_with(run) == outputs / "run_001/04_sft/best_model"
    (outputs / "run_002" / "05_ppo").mkdir(parents=True)
    with pytest.raises(UserError, match=r"has no 04_sft: .*name .*run_002/05_ppo"):
        sft_model_to_begin_with(run_of(root, outputs, start=outputs / "run_002"))


def test_the_newest_fitting_sft_run_is_taken(root: Path, tmp_path: Path) -> None:
    outputs = Path(shutil.copytree(root / "outputs", tmp_path / "outputs"))
    for number, change in ((2, {}), (3, {"quick_test": True})):
        shutil.copytree(outputs / "run_001", outputs / f"run_{number:03d}")
        manifest = outputs / f"run_{number:03d}" / "04_sft" / TRAINING_MANIFEST
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    (outputs / "run_004" / "04_sft").mkdir(parents=True)  # unfinished
    assert newest_sft_model(run_of(root, outputs)) == outputs / "run_002" / "04_sft" / "best_model"
    assert newest_sft_model(run_of(root, outputs, quick_test=True)) == outputs / "run_003" / "04_sft" / "best_model"
    with pytest.raises(UserError, match=r"run_003 is a quick test\n .*run_002 has other prompt, lora.*--sft_model"):
        newest_sft_model(run_of(root, outputs, "lora.rank=4", "prompt.labels=false"))
    with pytest.raises(UserError, match=r"train one first, with python 04_sft_train\.py"):
        newest_sft_model(run_of(root, tmp_path / "empty"))


def test_a_named_model_keeps_its_own_settings_and_a_second_run_its_place(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = Path(shutil.copytree(root / "outputs", tmp_path / "outputs"))
    short = ["lora.rank=4", "trainer.max_steps=4"]
    stages = [train(root, outputs, *short, sft_model=outputs / "run_001") for _ in range(2)]
    assert [stage.relative_to(outputs).parts for stage in stages] == [("run_001", "05_ppo"), ("run_002", "05_ppo")]
    assert "lora: as in" in printed(capsys)
    manifest = manifest_of(stages[0])
    assert manifest["config"]["lora"]["rank"] == 16
    assert manifest["sft_model"] == str(outputs / "run_001" / "04_sft" / "best_model")
    assert max(row["step"] for row in manifest["curve"]) == 4


@pytest.mark.parametrize("key", ["dataloader_drop_last", "ignore_data_skip", "auto_find_batch_size"])
def test_trainer_arguments_that_take_rollouts_apart_are_refused(root: Path, tmp_path: Path, key: str) -> None:
    with pytest.raises(UserError, match=f"trainer.{key}"):
        train(root, tmp_path / "outputs", f"trainer.{key}=true")


@pytest.mark.parametrize("task", ["generation", "proposing"])
def test_a_config_of_another_task_is_refused(root: Path, tmp_path: Path, task: str) -> None:
    with pytest.raises(UserError, match=f"task: {task} in the config: stage 05 continues a ranking model"):
        train(root, tmp_path / "outputs", f"task={task}")


def test_candidates_that_are_not_scored_are_no_actions() -> None:
    pools = [make_pool(number, candidates=3) for number in range(3)]
    tokens = [[1], [2], [3]]
    encoded = [
        EncodedPool(pools[0].id, [9], tokens),
        EncodedPool(pools[1].id, [9], tokens[:2], left_out={1: "too long"}),  # the correct one
        EncodedPool(pools[2].id, [9], [], left_out=dict.fromkeys(range(3), "no value")),
    ]
    items = [TrainingPool.of(tokens, pool.correct) for tokens, pool in zip(encoded, pools, strict=True)]
    dataset, rewards = learnable(Split(pools, items, Truncation(None, None, None), LeftOut(3, 1, 1)), PPOSettings(), 0)
    assert {name: row.tolist() for name, row in rewards.items()} == {pools[0].id: [1.0, 0.3, 0.3]}
    graded = pools[1].model_copy(update={"rewards": [0.1, 1.0, 0.3]})
    split = Split([graded], items[1:2], Truncation(None, None, None), LeftOut(0, 1, 0))
    dataset, rewards = learnable(split, PPOSettings(), 0)
    assert (rewards[graded.id].tolist(), dataset.pools[0].correct) == ([0.1, 0.3], [])
