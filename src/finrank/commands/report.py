"""Evaluate a run's model and write what people look at: the HTML report and the model card."""

from __future__ import annotations

from pathlib import Path

from finrank.commands import evaluate
from finrank.evaluation.report.html import run_of
from finrank.ranker.saving import find_model

REPORT = "report.html"


def run(
    run_dir: Path,
    data_dir: Path,
    *,
    split: str = "dev",
    html_path: Path | None = None,
    json_path: Path | None = None,
    candidate_only_dir: Path | None = None,
    wanted_accuracy: float = 0.9,
    save_confidence: bool = True,
    base_model: str | None = None,
    seed: int = 0,
) -> Path:
    """Evaluate as `finrank evaluate` does, which writes the model card, write the report, and give its path.

    `wanted_accuracy` and `save_confidence` as for `evaluate.run`; without the latter there is no card either.

    The report goes to `html_path`, or else to `report.html` in the run (of a model that no run trained: into its own
    folder). Raises UserError for a missing model, split or part.
    """
    model_dir = find_model(run_dir)
    path = html_path or (run_of(model_dir) or model_dir) / REPORT
    evaluate.run(
        model_dir,
        data_dir,
        split=split,
        json_path=json_path,
        html_path=path,
        candidate_only_dir=candidate_only_dir,
        wanted_accuracy=wanted_accuracy,
        save_confidence=save_confidence,
        base_model=base_model,
        seed=seed,
    )
    return path
