"""`finrank report`: the file in the run, and the model card in the model folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from finrank.commands.report import report
from finrank.commands.sft import sft
from finrank.errors import UserError
from tests.conftest import REPOSITORY
from tests.helpers.pools import write_pools
from tests.helpers.tiny_models import save_tiny_base


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run with a tiny model, and its data."""
    folder = tmp_path_factory.mktemp("report")
    base, data = save_tiny_base(folder / "base", "bert"), write_pools(folder / "data")
    overrides = ["prompt.max_length=256", "trainer.num_train_epochs=1", "mixed_precision=float32"]
    config = REPOSITORY / "configs/models/minilm.yaml"
    return sft(config, data, folder / "outputs", base_model=str(base), overrides=overrides).parent, data


def test_the_report_goes_into_the_run_and_the_card_into_the_model_folder(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = trained
    path = report(run, data, json_path=tmp_path / "dev.json")
    assert path == run.resolve() / "report.html"
    page = path.read_text(encoding="utf-8")
    result = json.loads((tmp_path / "dev.json").read_text())
    for text in (f"<strong>{result['accuracy']:.3f}</strong> of 8 questions", "04_sft", "Loss over training steps"):
        assert text in page
    card = run / "04_sft/best_model/README.md"
    assert f"| model | {result['accuracy']:.3f} " in card.read_text(encoding="utf-8")
    shown = capsys.readouterr().out.replace("\n", "")
    assert "report.html" in shown
    assert "README.md" in shown


def test_the_model_folder_can_be_left_alone_and_the_same_run_gives_the_same_file(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, data = trained
    model = Path(shutil.copytree(run / "04_sft/best_model", tmp_path / "model"))
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    pages = [report(model, data, html_path=tmp_path / name, save_confidence=False) for name in ("a.html", "b.html")]
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_a_persons_card_is_kept(trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, data = trained
    model = Path(shutil.copytree(run / "04_sft/best_model", tmp_path / "model"))
    (model / "README.md").write_text("mine", encoding="utf-8")
    path = report(model, data)
    assert path.parent == model
    assert "No training manifest was found" in path.read_text(encoding="utf-8")
    assert (model / "README.md").read_text(encoding="utf-8") == "mine"
    assert "left alone" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match=r"outputs/run_001"):
        report(tmp_path, data)
