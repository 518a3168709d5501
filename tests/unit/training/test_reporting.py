"""What one sees of a training that is under way: the terminal, TensorBoard, Weights & Biases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from finrank.errors import UserError
from finrank.training import sft, trainer
from finrank.training.config import TrainingConfig, load_config
from finrank.training.trainer import RankingTrainer, training_arguments
from tests.conftest import REPOSITORY
from tests.helpers.pools import write_pools
from tests.helpers.tiny_models import save_tiny_base

SMALL = ["prompt.max_length=256", "trainer.num_train_epochs=2", "mixed_precision=float32"]


def config_with(base: str, *overrides: str) -> TrainingConfig:
    return load_config(REPOSITORY / "configs/models/minilm.yaml", [*SMALL, *overrides], base_model=base)


def train(tmp_path: Path, *overrides: str) -> Path:
    base = save_tiny_base(tmp_path / "base", "bert")
    data = write_pools(tmp_path / "data")
    return sft.train(config_with(str(base), *overrides), data, tmp_path / "outputs")


def test_each_evaluation_shows_accuracy_and_reward_ratio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path)
    shown = " ".join(capsys.readouterr().out.split())  # lines are wrapped to the terminal's width
    assert len(re.findall(r"selection: accuracy [01]\.\d+ \([\d. -]+\), reward ratio [01]\.\d+ ", shown)) == 2


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(trainer, "get_available_reporting_integrations", lambda: [])
    with pytest.raises(UserError, match=f"{name} is not installed"):
        sft.train(config_with("nowhere", f"trainer.report_to={name}"), tmp_path / "no_data", tmp_path / "outputs")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_report_to_reaches_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(trainer, "get_available_reporting_integrations", lambda: [name])
    asked: list[Any] = []

    def callbacks_of(report_to: list[str]) -> list[type[TrainerCallback]]:
        asked.append(report_to)
        return []

    # Trainer turns its argument into callbacks here; the real ones need the trackers' packages.
    monkeypatch.setattr("transformers.trainer.get_reporting_integration_callbacks", callbacks_of)
    train(tmp_path, f"trainer.report_to={name}", "trainer.max_steps=1")
    assert asked == [[name]]


def test_nothing_is_reported_anywhere_by_default(tmp_path: Path) -> None:
    assert training_arguments(config_with("nowhere"), tmp_path).report_to == []


def test_tensorboard_files_outlive_the_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard itself is no dependency: a callback writes where its callback would."""

    class Writer(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            logs = Path(args.output_dir) / "runs" / "today"
            logs.mkdir(parents=True)
            (logs / "events").write_text("curve")

    make = RankingTrainer.__init__

    def with_writer(self: RankingTrainer, *arguments: Any, callbacks: list[TrainerCallback], **options: Any) -> None:
        make(self, *arguments, callbacks=[*callbacks, Writer()], **options)

    monkeypatch.setattr(RankingTrainer, "__init__", with_writer)
    stage = train(tmp_path, "trainer.max_steps=1")
    assert (stage / "tensorboard/today/events").read_text() == "curve"
    assert not (stage / "checkpoints").exists()


def test_tensorboard_gets_loss_and_accuracy(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stage = train(tmp_path, "trainer.report_to=tensorboard", "trainer.logging_steps=1")
    (folder,) = (stage / "tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert {"train/loss", "eval/accuracy", "eval/reward_ratio"} <= set(events.Tags()["scalars"])
