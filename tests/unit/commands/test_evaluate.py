"""`finrank evaluate` on a tiny trained model: its files, its checks on the real model, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finrank.commands import evaluate, sft
from finrank.errors import UserError
from finrank.evaluation.official import read_predictions, score_predictions
from finrank.ranker import scoring
from finrank.ranker.confidence import CONFIDENCE
from finrank.records import RewardedPool
from finrank.store import load_records
from tests.conftest import REPOSITORY
from tests.helpers.pools import make_pool, write_pools
from tests.helpers.tiny_models import save_tiny_base

SMALL = ["prompt.max_length=256", "batch_size=4", "trainer.num_train_epochs=1", "mixed_precision=float32",
         "base_model_sha256=null"]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` and two runs in `outputs`: a tiny model and its candidate-only control."""
    folder = tmp_path_factory.mktemp("evaluate")
    base = save_tiny_base(folder / "base", "bert")
    data = write_pools(folder / "data", dev=40)
    for candidate_only in (False, True):
        sft.sft(
            REPOSITORY / "configs/models/minilm.yaml",
            data,
            folder / "outputs",
            base_model=str(base),
            overrides=SMALL,
            candidate_only=candidate_only,
        )
    return folder


@pytest.fixture(scope="module")
def figures(place: Path) -> dict[str, Any]:
    """The JSON of one evaluation with everything on."""
    evaluate.run(
        place / "outputs/run_001",
        place / "data",
        json_path=place / "new/dev.json",
        html_path=place / "new/report.html",
        predictions_path=place / "new/predictions.json",
        compare_dir=place / "outputs/run_002",
        wanted_accuracy=0.3,
    )
    return json.loads((place / "new/dev.json").read_text(encoding="utf-8"))


def test_the_json_holds_every_part(figures: dict[str, Any]) -> None:
    assert {
        "n", "unanswerable", "accuracy", "accuracy_pooled", "accuracy_max", "reward_ratio", "average_reward", "mrr",
        "ndcg", "execution_accuracy", "program_accuracy", "intervals", "baselines", "positions", "ties", "bias",
        "breakdowns", "mistakes", "examples", "confidence", "comparison", "truncation", "troubles", "model", "data",
        "split", "versions", "data_hashes",
    } <= set(figures)  # fmt: skip
    assert set(figures["breakdowns"]) == {
        "steps", "operation", "origin", "context_length", "candidates", "fooled_by"
    }  # fmt: skip
    assert figures["n"] == 40
    assert figures["split"] == "dev"
    assert set(figures["data_hashes"]) == {"train.jsonl", "selection.jsonl", "dev.jsonl"}
    assert "torch" in figures["versions"]


def test_the_scores_of_the_real_model_do_not_depend_on_the_order(figures: dict[str, Any]) -> None:
    order = figures["bias"]["order_invariance"]
    assert order["checked"] == 32
    assert 0 <= order["max_difference"] < order["tolerance"] == 1e-4


def test_a_model_whose_scores_depend_on_the_order_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = scoring.score_pass

    def with_place(*arguments: Any) -> list[np.ndarray]:
        return [own + np.float32(0.001) * np.arange(len(own), dtype=np.float32) for own in honest(*arguments)]

    monkeypatch.setattr(scoring, "score_pass", with_place)
    result = evaluate.run(place / "outputs/run_001", place / "data", save_confidence=False)
    assert result["bias"]["order_invariance"]["max_difference"] == pytest.approx(0.003, abs=1e-4)
    assert any("scores depend on the order" in sentence for sentence in result["troubles"])


def test_the_other_model_is_the_control_and_is_compared(place: Path, figures: dict[str, Any]) -> None:
    control, comparison = figures["baselines"]["candidate_only"], figures["comparison"]
    assert comparison["other"] == str(place / "outputs/run_002/04_sft/best_model")
    assert comparison["accuracy"] == control["accuracy"]
    assert comparison["difference"] == pytest.approx(figures["accuracy"] - control["accuracy"])
    assert comparison["p_value"] == control["p_value"]


def test_a_model_against_itself_differs_by_nothing(place: Path) -> None:
    model = place / "outputs/run_001"
    result = evaluate.run(model, place / "data", compare_dir=model, save_confidence=False)
    assert result["comparison"]["difference"] == 0.0
    assert result["comparison"]["p_value"] == 1.0


def test_the_predictions_give_the_same_official_figures(place: Path, figures: dict[str, Any]) -> None:
    pools = load_records(place / "data/dev.jsonl", RewardedPool)
    scored = score_predictions(read_predictions(place / "new/predictions.json").tokens, pools, seed=0)
    assert figures["ties"]["top"] == 0  # a file holds one of a tie only
    for name in ("execution_accuracy", "program_accuracy"):
        assert scored[name] == figures[name]
        assert scored["intervals"][name] == figures["intervals"][name]


def test_the_report_is_one_page(place: Path, figures: dict[str, Any]) -> None:
    page = (place / "new/report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "run_001" in page


def test_the_confidence_goes_into_the_model_folder_and_never_from_train(place: Path, figures: dict[str, Any]) -> None:
    copy = Path(shutil.copytree(place / "outputs/run_001/04_sft/best_model", place / "copy", dirs_exist_ok=True))
    saved = json.loads((copy / CONFIDENCE).read_text(encoding="utf-8"))
    assert saved["temperature"] == figures["confidence"]["temperature"]
    assert saved["data_hashes"] == {"dev.jsonl": figures["data_hashes"]["dev.jsonl"]}
    (copy / CONFIDENCE).unlink()
    evaluate.run(copy, place / "data", split="dev", save_confidence=False)
    evaluate.run(copy, place / "data", split="train")
    assert not (copy / CONFIDENCE).exists()


def test_no_confidence_comes_from_test(place: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    model = place / "outputs/run_001/04_sft/best_model"
    before = (model / CONFIDENCE).read_bytes()
    data = write_pools(tmp_path / "data", dev=12)
    (data / "dev.jsonl").rename(data / "test.jsonl")
    evaluate.run(model, data, split="test")
    assert (model / CONFIDENCE).read_bytes() == before


def test_the_shipped_threshold_is_tried_before_it_is_replaced(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(place / "outputs/run_001/04_sft/best_model", tmp_path / "model"))
    (model / CONFIDENCE).unlink(missing_ok=True)
    assert evaluate.run(model, place / "data", wanted_accuracy=0.3)["confidence"]["shipped"] is None
    assert "in place of" not in capfd.readouterr().out
    saved = json.loads((model / CONFIDENCE).read_text(encoding="utf-8"))
    saved["threshold"] = {"wanted_accuracy": 0.3, "value": 0.0, "coverage": 1, "accuracy": 1, "lower_bound": 0.9}
    (model / CONFIDENCE).write_text(json.dumps({**saved, "temperature": 7.0, "pool_sizes": {"20": 9}}))
    result = evaluate.run(model, place / "data")
    assert result["confidence"]["shipped"] == {
        "temperature": 7.0,
        "threshold": 0.0,
        "coverage": 1.0,
        "accuracy": pytest.approx(result["accuracy_pooled"]),
    }
    told = capfd.readouterr()
    assert "fitted on pools of 20 candidates" in " ".join(told.err.split())
    assert "in place of an earlier one (temperature 7.00)" in " ".join(told.out.split())
    (model / CONFIDENCE).write_text("{")
    assert evaluate.run(model, place / "data")["confidence"]["shipped"] is None, "a damaged one is made again"
    assert json.loads((model / CONFIDENCE).read_text(encoding="utf-8"))["temperature"] != 7.0


def test_the_same_seed_gives_the_same_file(place: Path, figures: dict[str, Any]) -> None:
    files = []
    for name in ("again.json", "and_again.json"):
        (place / "outputs/run_001/04_sft/best_model" / CONFIDENCE).unlink(missing_ok=True)  # else it is tried, too
        evaluate.run(
            place / "outputs/run_001",
            place / "data",
            json_path=place / name,
            compare_dir=place / "outputs/run_002",
            wanted_accuracy=0.3,
        )
        files.append((place / name).read_bytes())
    assert files[0] == files[1] == (place / "new/dev.json").read_bytes()


def test_copies_of_a_candidate_tie_whatever_rounding_does(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = scoring.score_pass

    def rounded(*arguments: Any) -> list[np.ndarray]:
        return [own + np.float32(1e-5) * np.arange(len(own), dtype=np.float32) for own in honest(*arguments)]

    monkeypatch.setattr(scoring, "score_pass", rounded)
    data = write_pools(tmp_path / "data", dev=12)
    pools = [make_pool(number) for number in range(12)]
    lines = [
        pool.model_copy(
            update={"candidates": [pool.candidates[pool.correct[0]]] * 4, "correct": [0, 1, 2, 3], "rewards": [1.0] * 4}
        ).model_dump_json()
        for pool in pools
    ]
    (data / "dev.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = evaluate.run(place / "outputs/run_001", data, save_confidence=False)
    assert result["ties"] == {"top": 12, "all": 0}
    assert result["bias"]["picked"] == [0.25] * 4


def test_the_control_is_found_by_what_both_models_were_trained_on(
    place: Path, tmp_path: Path, figures: dict[str, Any]
) -> None:
    model = place / "outputs/run_001"
    other = write_pools(tmp_path / "data", train=0, selection=0, dev=12)
    assert evaluate.run(model, other, save_confidence=False)["baselines"]["candidate_only"] is not None
    # Sibling runs of another shape, and one without a model, are passed over.
    for number, text in enumerate(["{", "[]", '{"config": {}}'], start=5):
        stage = place / f"outputs/run_00{number}/04_sft"
        stage.mkdir(parents=True)
        (stage / "training_manifest.json").write_text(text, encoding="utf-8")
    unfinished = place / "outputs/run_009/04_sft"
    unfinished.mkdir(parents=True)
    shutil.copy(place / "outputs/run_002/04_sft/training_manifest.json", unfinished)
    again = evaluate.run(model, place / "data", save_confidence=False)
    assert again["baselines"]["candidate_only"] == figures["baselines"]["candidate_only"]
    manifest = place / "outputs/run_001/04_sft/training_manifest.json"
    kept = manifest.read_text(encoding="utf-8")
    try:
        manifest.write_text(json.dumps({**json.loads(kept), "data": {"train.jsonl": "other"}}), encoding="utf-8")
        lost = evaluate.run(model, place / "data", save_confidence=False)
    finally:
        manifest.write_text(kept, encoding="utf-8")
    assert lost["baselines"]["candidate_only"] is None


def test_a_model_without_a_manifest_has_a_control_of_the_data_at_hand(place: Path, tmp_path: Path) -> None:
    outputs = Path(shutil.copytree(place / "outputs", tmp_path / "outputs"))
    (outputs / "run_001/04_sft/training_manifest.json").unlink()
    other = write_pools(tmp_path / "data", dev=12)
    same, lost = (
        evaluate.run(outputs / "run_001", data, save_confidence=False)["baselines"]["candidate_only"]
        for data in (place / "data", other)
    )
    assert same is not None
    assert lost is None


def test_a_control_that_sees_the_question_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match=r"trained with question and page[\s\S]*finrank sft --candidate_only"):
        evaluate.run(place / "outputs/run_001", place / "data", candidate_only_dir=place / "outputs/run_001")


def test_what_is_printed_leads_with_the_figures_and_names_the_troubles(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = evaluate.run(place / "outputs/run_001", place / "data", save_confidence=False)
    told = capfd.readouterr()
    assert told.out.index("model") < told.out.index("chance") < told.out.index("MRR") < told.out.index("where it is")
    assert "bias: picked positions" in told.out
    assert result["troubles"]
    for sentence in result["troubles"]:
        assert f"warning: {sentence}" in told.err


@pytest.mark.parametrize("wanted", [0.0, 1.0, 90.0, float("nan")])
def test_a_wanted_accuracy_that_is_no_share_is_refused(place: Path, wanted: float) -> None:
    with pytest.raises(UserError, match="wanted_accuracy is a share between 0 and 1"):
        evaluate.run(place / "outputs/run_001", place / "data", wanted_accuracy=wanted)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=["cuda", "python"])
def test_memory_that_ran_out_is_told_without_keys_of_a_config(
    place: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def exhausted(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(evaluate, "score_pools", exhausted)
    with pytest.raises(UserError, match=r"^Out of memory\. An evaluation .* leave out --compare") as told:
        evaluate.run(place / "outputs/run_001", place / "data", save_confidence=False)
    assert "--set" not in str(told.value)


def test_a_missing_split_an_empty_one_and_a_missing_model_are_named(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no test\.jsonl; it has: train, selection, dev"):
        evaluate.run(place / "outputs/run_001", place / "data", split="test")
    empty = write_pools(tmp_path / "empty", dev=0)
    with pytest.raises(UserError, match=r"dev\.jsonl is empty"):
        evaluate.run(place / "outputs/run_001", empty)
    with pytest.raises(UserError, match="No model in"):
        evaluate.run(place / "outputs/run_001", place / "data", compare_dir=tmp_path)


def test_scores_are_those_of_the_model(place: Path, figures: dict[str, Any]) -> None:
    """The JSON's own mistakes carry the scores of the saved model."""
    assert figures["examples"]
    for example in figures["examples"]:
        scores = np.array([candidate["score"] for candidate in example["candidates"]])
        assert example["picked"] == scores.argmax()
