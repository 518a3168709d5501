"""What a training shows while it runs: the terminal, TensorBoard, Weights & Biases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from finrank.commands.sft import sft
from finrank.errors import UserError
from finrank.training import trainer
from finrank.training.config import load_config
from finrank.training.trainer import training_arguments
from tests.conftest import REPOSITORY
from tests.helpers.pools import write_pools
from tests.helpers.tiny_models import save_tiny_base
from tests.helpers.training_runs import added_callback

MINILM = REPOSITORY / "configs/models/minilm.yaml"
SMALL = ["prompt.max_length=256", "trainer.num_train_epochs=2", "mixed_precision=float32"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reporting")
    save_tiny_base(root / "base", "bert")
    write_pools(root / "data")
    return root


def train(root: Path, *overrides: str) -> Path:
    return sft(MINILM, root / "data", root / "outputs", base_model=str(root / "base"), overrides=[*SMALL, *overrides])


def test_each_evaluation_shows_accuracy_and_reward_ratio(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(root)
    shown = " ".join(capsys.readouterr().out.split())  # lines are wrapped to the terminal's width
    assert len(re.findall(r"selection: accuracy [01]\.\d+ \([\d. -]+\), reward ratio [01]\.\d+ ", shown)) == 2


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(trainer, "get_available_reporting_integrations", lambda: [])
    with pytest.raises(UserError, match=f"{name} is not installed"):
        train(tmp_path, f"trainer.report_to={name}")
    assert not (tmp_path / "outputs").exists()


def test_report_to_reaches_the_trainer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "get_available_reporting_integrations", lambda: ["wandb"])
    asked: list[Any] = []

    def callbacks_of(report_to: list[str]) -> list[type[TrainerCallback]]:
        asked.append(report_to)
        return []

    # Trainer turns its argument into callbacks here; the real ones need the trackers' packages.
    monkeypatch.setattr("transformers.trainer.get_reporting_integration_callbacks", callbacks_of)
    train(root, "trainer.report_to=wandb", "trainer.max_steps=1")
    assert asked == [["wandb"]]


def test_nothing_is_reported_anywhere_by_default(tmp_path: Path) -> None:
    assert training_arguments(load_config(MINILM), tmp_path).report_to == []


def test_tensorboard_files_outlive_the_checkpoints(root: Path) -> None:
    """TensorBoard itself is not a dependency: a callback writes where its callback would."""

    class Writer(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            logs = Path(args.output_dir) / "runs" / "today"
            logs.mkdir(parents=True)
            (logs / "events").write_text("curve")

    with added_callback(Writer()):
        stage = train(root, "trainer.max_steps=1")
    assert (stage / "tensorboard/today/events").read_text() == "curve"
    assert not (stage / "checkpoints").exists()


def test_tensorboard_gets_loss_and_accuracy(root: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stage = train(root, "trainer.report_to=tensorboard", "trainer.logging_steps=1")
    (folder,) = (stage / "tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert {"train/loss", "eval/accuracy", "eval/reward_ratio"} <= set(events.Tags()["scalars"])
