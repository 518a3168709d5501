"""`finrank evaluate` on a tiny trained model: its files, its checks on the real model, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from finrank.commands.evaluate import evaluate
from finrank.commands.sft import sft
from finrank.errors import UserError
from finrank.evaluation.official import read_predictions, score_predictions
from finrank.evaluation.report import screen
from finrank.evaluation.result import EvaluationResult, ScorerFigures, ShippedConfidence
from finrank.ranker import scoring
from finrank.ranker.choosing.confidence import CONFIDENCE
from finrank.records import RewardedPool
from finrank.store import load_records
from tests.conftest import REPOSITORY
from tests.helpers.pools import make_pool, write_pools, write_splits
from tests.helpers.tiny_models import save_tiny_base

SMALL = ["prompt.max_length=256", "batch_size=4", "trainer.num_train_epochs=1", "mixed_precision=float32",
         "base_model_sha256=null"]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` and two runs in `outputs`: a tiny model and its candidate-only control."""
    folder = tmp_path_factory.mktemp("evaluate")
    base, data = save_tiny_base(folder / "base", "bert"), write_pools(folder / "data", dev=40)
    config = REPOSITORY / "configs/models/minilm.yaml"
    for hidden in (False, True):
        sft(config, data, folder / "outputs", base_model=str(base), overrides=SMALL, candidate_only=hidden)
    return folder


@pytest.fixture(scope="module")
def result(place: Path) -> EvaluationResult:
    """The result of one evaluation with everything on."""
    return evaluate(
        place / "outputs/run_001",
        place / "data",
        json_path=place / "new/dev.json",
        html_path=place / "new/report.html",
        predictions_out=place / "new/predictions.json",
        compare=place / "outputs/run_002",
        wanted_accuracy=0.3,
    )


def unsaved(place: Path, data: Path | None = None, **options: Any) -> EvaluationResult:
    """Evaluate run_001 without a trace in its folder."""
    return evaluate(place / "outputs/run_001", data or place / "data", save_confidence=False, **options)


def control_of(result: EvaluationResult) -> ScorerFigures | None:
    return result.figures.baselines["candidate_only"]


def test_the_json_is_that_of_the_result(place: Path, result: EvaluationResult) -> None:
    written = json.loads((place / "new/dev.json").read_text(encoding="utf-8"))
    assert written == result.as_json()
    assert (written["n"], written["split"]) == (40, "dev")
    assert set(written["data_hashes"]) == {"train.jsonl", "selection.jsonl", "dev.jsonl"}
    assert "torch" in written["versions"]
    assert "run_001" in (place / "new/report.html").read_text(encoding="utf-8")


def test_the_scores_of_the_real_model_do_not_depend_on_the_order(result: EvaluationResult) -> None:
    order = result.bias.order_invariance
    assert order.checked == 32
    assert 0 <= order.max_difference < order.tolerance == 1e-4


def drifting(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """Let each candidate's score grow with its position."""
    honest = scoring.score_pass

    def with_place(*arguments: Any) -> list[np.ndarray]:
        return [scores + np.arange(len(scores), dtype=np.float32) * np.float32(step) for scores in honest(*arguments)]

    monkeypatch.setattr(scoring, "score_pass", with_place)


def test_a_model_whose_scores_depend_on_the_order_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drifting(monkeypatch, 0.001)
    result = unsaved(place)
    assert result.bias.order_invariance.max_difference == pytest.approx(0.003, abs=1e-4)
    assert any("scores depend on the order" in sentence for sentence in result.troubles)


def test_the_other_model_is_the_control_and_is_compared(place: Path, result: EvaluationResult) -> None:
    control, comparison = control_of(result), result.comparison
    assert control is not None
    assert comparison is not None
    assert comparison.other == str(place / "outputs/run_002/04_sft/best_model")
    assert (comparison.accuracy, comparison.p_value) == (control.accuracy, control.p_value)
    assert comparison.difference == pytest.approx(result.figures.model.accuracy - control.accuracy)


def test_the_predictions_give_the_same_official_figures(place: Path, result: EvaluationResult) -> None:
    pools = load_records(place / "data/dev.jsonl", RewardedPool)
    scored = score_predictions(read_predictions(place / "new/predictions.json").tokens, pools, seed=0)
    assert result.figures.ties.top == 0  # a file holds one of a tie only
    means, intervals = result.figures.model.means, result.figures.model.intervals
    assert (scored.execution_accuracy, scored.program_accuracy) == tuple(means[name] for name in scored.intervals)
    assert scored.intervals == {name: intervals[name] for name in scored.intervals}


def test_the_confidence_goes_into_the_model_folder_from_dev_alone(
    place: Path, tmp_path: Path, result: EvaluationResult
) -> None:
    model = Path(shutil.copytree(place / "outputs/run_001/04_sft/best_model", tmp_path / "model"))
    saved = json.loads((model / CONFIDENCE).read_text(encoding="utf-8"))
    assert saved["temperature"] == result.confidence.temperature
    assert saved["data_hashes"] == {"dev.jsonl": result.source.data_hashes["dev.jsonl"]}
    (model / CONFIDENCE).unlink()
    (model / "README.md").unlink()
    data = write_pools(tmp_path / "data", dev=12)
    (data / "dev.jsonl").rename(data / "test.jsonl")
    evaluate(model, place / "data", split="dev", save_confidence=False)
    evaluate(model, data, split="train")
    evaluate(model, data, split="test")
    assert not {CONFIDENCE, "README.md"} & {path.name for path in model.iterdir()}


def test_the_shipped_threshold_is_tried_before_it_is_replaced(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(place / "outputs/run_001/04_sft/best_model", tmp_path / "model"))
    (model / CONFIDENCE).unlink(missing_ok=True)
    assert evaluate(model, place / "data", wanted_accuracy=0.3).confidence.shipped is None
    assert "in place of" not in capfd.readouterr().out
    saved = json.loads((model / CONFIDENCE).read_text(encoding="utf-8"))
    saved["threshold"] = {"wanted_accuracy": 0.3, "value": 0.0, "coverage": 1, "accuracy": 1, "lower_bound": 0.9}
    (model / CONFIDENCE).write_text(json.dumps({**saved, "temperature": 7.0, "pool_sizes": {"20": 9}}))
    result = evaluate(model, place / "data")
    pooled = pytest.approx(result.figures.model.means["accuracy_pooled"])
    assert result.confidence.shipped == ShippedConfidence(7.0, threshold=0.0, coverage=1.0, accuracy=pooled)
    shown = capfd.readouterr()
    assert "fitted on pools of 20 candidates" in " ".join(shown.err.split())
    assert "in place of an earlier one (temperature 7.00)" in " ".join(shown.out.split())
    (model / CONFIDENCE).write_text("{")
    assert evaluate(model, place / "data").confidence.shipped is None, "a damaged one is made again"
    assert json.loads((model / CONFIDENCE).read_text(encoding="utf-8"))["temperature"] != 7.0


def test_the_same_seed_writes_the_same_file(place: Path, result: EvaluationResult) -> None:
    (place / "outputs/run_001/04_sft/best_model" / CONFIDENCE).unlink(missing_ok=True)  # else it is tried, too
    options = {"compare": place / "outputs/run_002", "wanted_accuracy": 0.3}
    unsaved(place, json_path=place / "again.json", **options)
    assert (place / "again.json").read_bytes() == (place / "new/dev.json").read_bytes()


def test_copies_of_a_candidate_tie_whatever_rounding_does(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drifting(monkeypatch, 1e-5)
    data = write_pools(tmp_path / "data", dev=12)
    copies = {"correct": [0, 1, 2, 3], "rewards": [1.0] * 4}
    lines = [
        pool.model_copy(update={"candidates": [pool.candidates[pool.correct[0]]] * 4, **copies}).model_dump_json()
        for pool in map(make_pool, range(12))
    ]
    (data / "dev.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = unsaved(place, data)
    assert (result.figures.ties.top, result.figures.ties.all) == (12, 0)
    assert result.bias.picked == [0.25] * 4


def test_the_control_is_found_by_what_both_models_were_trained_on(
    place: Path, tmp_path: Path, result: EvaluationResult
) -> None:
    moved = tmp_path / "moved"
    outputs, data = Path(shutil.copytree(place / "outputs", moved / "outputs")), place / "data"
    other = write_pools(tmp_path / "data", train=0, selection=0, dev=12)
    assert control_of(unsaved(moved, other)) is not None
    # Sibling runs of another shape, and one without a model, are passed over.
    for number, text in enumerate(["{", "[]", '{"config": {}}'], start=5):
        stage = outputs / f"run_00{number}/04_sft"
        stage.mkdir(parents=True)
        (stage / "training_manifest.json").write_text(text, encoding="utf-8")
    (outputs / "run_009/04_sft").mkdir(parents=True)
    shutil.copy(outputs / "run_002/04_sft/training_manifest.json", outputs / "run_009/04_sft")
    assert control_of(unsaved(moved, data)) == control_of(result)
    manifest = outputs / "run_001/04_sft/training_manifest.json"
    changed = {**json.loads(manifest.read_text(encoding="utf-8")), "data": {"train.jsonl": "other"}}
    manifest.write_text(json.dumps(changed), encoding="utf-8")
    assert control_of(unsaved(moved, data)) is None
    manifest.unlink()  # such a model counts as trained on the given data
    assert control_of(unsaved(moved, data)) == control_of(result)
    assert control_of(unsaved(moved, other)) is None


def hostile(data: Path, folder: Path) -> Path:
    """The data, with markup and a control sequence as the edits of wrong candidates."""
    shutil.copytree(data, folder)
    pools = load_records(data / "dev.jsonl", RewardedPool)
    edited = [
        pool.model_copy(update={"candidates": [
            one if one.origin == "gold" else one.model_copy(update={"edits": ["[/red]\x1b[2J"]})
            for one in pool.candidates
        ]})
        for pool in pools
    ]  # fmt: skip
    write_splits(folder, {"dev": edited})
    return folder


def test_markup_and_control_characters_in_the_data_are_shown(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated = unsaved(place, hostile(place / "data", tmp_path / "data"), json_path=tmp_path / "dev.json")
    assert [kind.name for kind in evaluated.breakdowns.fooled_by] == ["[/red]\x1b[2J"]
    assert (tmp_path / "dev.json").is_file()
    shown = capsys.readouterr().out
    assert r"[/red]\x1b[2J" in shown
    assert "\x1b" not in shown


def test_a_failing_screen_loses_no_file_and_a_failing_file_no_figures(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(place / "outputs/run_001/04_sft/best_model", model, ignore=shutil.ignore_patterns("conf*", "*.md"))
    (tmp_path / "a file").touch()
    with pytest.raises(UserError, match=r"a file.* cannot be written"):
        evaluate(model, place / "data", json_path=tmp_path / "a file" / "dev.json", save_confidence=False)
    assert "reward ratio" in capsys.readouterr().out
    monkeypatch.setattr(screen, "print_table", Mock(side_effect=BrokenPipeError))
    files = {name: tmp_path / name for name in ("dev.json", "report.html", "predictions.json")}
    with pytest.raises(BrokenPipeError):
        evaluate(
            model,
            place / "data",
            json_path=files["dev.json"],
            html_path=files["report.html"],
            predictions_out=files["predictions.json"],
        )
    assert all(path.is_file() for path in [*files.values(), model / CONFIDENCE, model / "README.md"])


def test_a_control_that_sees_the_question_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match=r"trained with question and page[\s\S]*finrank sft --candidate_only"):
        unsaved(place, candidate_only=place / "outputs/run_001")


def test_figures_are_printed_first_and_all_troubles_are_warnings(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = unsaved(place)
    shown = capfd.readouterr()
    parts = [shown.out.index(text) for text in ("model", "chance", "MRR", "bias: picked positions", "where it is")]
    assert parts == sorted(parts)
    assert result.troubles
    assert all(f"warning: {sentence}" in shown.err for sentence in result.troubles)


@pytest.mark.parametrize("wanted", [0.0, 90.0, float("nan")])
def test_a_wanted_accuracy_must_be_a_share(place: Path, wanted: float) -> None:
    with pytest.raises(UserError, match="wanted_accuracy is a share between 0 and 1"):
        unsaved(place, wanted_accuracy=wanted)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=["cuda", "python"])
def test_out_of_memory_is_reported_without_keys_of_a_config(
    place: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def exhausted(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(scoring, "score_pass", exhausted)
    with pytest.raises(UserError, match=r"^Out of memory\. An evaluation .* leave out --compare") as raised:
        unsaved(place)
    assert "--set" not in str(raised.value)


def test_a_missing_split_an_empty_one_and_a_missing_model_are_named(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no test\.jsonl; it has: train, selection, dev"):
        unsaved(place, split="test")
    with pytest.raises(UserError, match=r"dev\.jsonl is empty"):
        unsaved(place, write_pools(tmp_path / "empty", dev=0))
    with pytest.raises(UserError, match="No model in"):
        unsaved(place, compare=tmp_path)
