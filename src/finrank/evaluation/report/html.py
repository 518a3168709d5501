"""The report: one HTML file with the figures of an evaluation, which fetches nothing and runs no script."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from finrank.evaluation.report.marks import MarkedPage, mark_page
from finrank.evaluation.report.pictures import Curve, Dot, curves, dots, position_bars, reliability, risk_coverage
from finrank.evaluation.result import BreakdownRow, Breakdowns, EvaluationResult, Figures, ScorerFigures, WrongKind
from finrank.records import Answer
from finrank.store import write_text

METRICS = {
    "accuracy": "accuracy",
    "accuracy_pooled": "accuracy, pooled",
    "accuracy_max": "accuracy, by best",
    "reward_ratio": "reward ratio",
    "average_reward": "average reward",
    "mrr": "MRR",
    "ndcg": "nDCG",
    "execution_accuracy": "execution accuracy",
    "program_accuracy": "program accuracy",
}
_OUTPUTS_OF_MODELS = {"imported", "sampled"}  # origins
_OF_EQUAL_ANSWERS = ("accuracy_pooled", "accuracy_max")
BREAKDOWNS = {
    "steps": "Steps of the program",
    "operation": "Operation",
    "origin": "Where the needed numbers stand",
    "context_length": "Length of the page",
    "candidates": "Candidates in the pool",
}
_CURVES = {
    "Loss": {"loss": "training", "eval_loss": "selection pages"},
    "Selection pages": {"eval_accuracy": "accuracy", "eval_reward_ratio": "reward ratio"},
}
_TRAINING_MANIFEST = "training_manifest.json"  # in each stage directory of a run


class ShownBreakdown(NamedTuple):
    """A breakdown as the page shows it."""

    title: str
    rows: Sequence[BreakdownRow | WrongKind]
    picture: Markup


def write_html(path: Path, result: EvaluationResult, model_dir: Path) -> None:
    """Write the report of `result` to `path`, with the training curves of the run that trained the model."""
    run = run_of(model_dir)
    template = template_environment(autoescape=True).get_template("report.html")
    page = template.render(
        result=result,
        figures=result.figures,
        source=result.source,
        run=run and run.name,
        metrics=present_metrics(result),
        names=METRICS,
        rows=scorer_rows(result.figures),
        training=[_stage(manifest) for manifest in sorted(run.glob(f"*/{_TRAINING_MANIFEST}"))] if run else [],
        drawn={name: Markup(picture) for name, picture in _pictures(result).items()},
        breakdowns=_breakdowns(result.breakdowns),
        fooled_by=_fooled_by(result.breakdowns.fooled_by),
    )
    write_text(path, page)


def run_of(model_dir: Path) -> Path | None:
    """The run that a model folder `run_001/04_sft/best_model` belongs to; None where none trained it."""
    stage = model_dir.resolve().parent
    return stage.parent if (stage / _TRAINING_MANIFEST).is_file() else None


@cache
def template_environment(*, autoescape: bool) -> Environment:
    """The templates, and how they write figures."""
    environment = Environment(
        loader=PackageLoader("finrank.evaluation.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., str | MarkedPage]] = {
        "figure": lambda value: "–" if value is None else f"{value:.3f}",
        "interval": lambda pair: f"{pair[0]:.3f}–{pair[1]:.3f}" if pair else "",
        "p_value": lambda p: "–" if p is None else "< 0.001" if p < 0.001 else f"= {p:.3f}",
        "count": "{:,.0f}".format,
        "value": answer_text,
        "label": label,
        "evidence": lambda ranked: mark_page(ranked.rows, ranked.text, ranked.right_program, ranked.pick.program),
    }
    environment.filters |= filters
    return environment


def answer_text(answer: Answer | None) -> str:
    """An answer for people: 1637.5 as 1,637.5, at most five decimals; "yes"; "fails" for None.

    >>> answer_text(1637.5), answer_text(0.016390), answer_text(-94.0), answer_text(None)
    ('1,637.5', '0.01639', '-94', 'fails')
    """
    if answer is None or isinstance(answer, str):
        return answer or "fails"
    if abs(answer) >= 1e15:
        return f"{answer:.5g}"
    return f"{answer:,.5f}".rstrip("0").rstrip(".")


def label(name: str) -> str:
    """candidate_only as candidate only."""
    return name.replace("_", " ")


def present_metrics(result: EvaluationResult) -> list[str]:
    """The metrics that apply; those of equal answers where answers repeat, or where they differ from accuracy."""
    means, votes = result.figures.model.means, result.figures.baselines["majority_vote"]
    names = [name for name in METRICS if means[name] is not None]
    if votes is not None or not _OUTPUTS_OF_MODELS.isdisjoint(result.confidence.origins):
        return names  # answers repeat: the three accuracies are shown side by side
    return [name for name in names if name not in _OF_EQUAL_ANSWERS or means[name] != means["accuracy"]]


def scorer_rows(figures: Figures) -> list[tuple[str, ScorerFigures]]:
    return [("model", figures.model), *((label(name), row) for name, row in figures.baselines.items() if row)]


def _in_words(rows: Sequence[Dot], between: str = ", ") -> str:
    return between.join(f"{row.name} {row.value:.3f}" for row in rows)


def _stage(path: Path) -> dict[str, Any]:
    """A training manifest as the page shows it, with its curves drawn and its config as YAML."""
    name, manifest = path.parent.name, json.loads(path.read_text(encoding="utf-8"))
    drawn = []
    entries = [entry for entry in manifest["curve"] if "step" in entry]
    for title, keys in _CURVES.items():
        points_of = {
            text: [(entry["step"], entry[key]) for entry in entries if entry.get(key) is not None]
            for key, text in keys.items()
        }
        if lines := [Curve(text, points) for text, points in points_of.items() if points]:
            words = "; ".join(f"{line.name} from {line.points[0][1]:.3f} to {line.points[-1][1]:.3f}" for line in lines)
            picture = curves(f"{name} {title}", lines, f"{title} over training steps: {words}", manifest["best_step"])
            drawn.append((title, Markup(picture)))
    config = yaml.safe_dump(manifest["config"], sort_keys=False, allow_unicode=True)
    return {**manifest, "name": name, "pictures": drawn, "config": config}


def _pictures(result: EvaluationResult) -> dict[str, str]:
    # The constant scorer is at chance, which is drawn.
    scorers = [(name, row) for name, row in scorer_rows(result.figures) if name != "constant"]
    rows = [Dot(name, row.accuracy, row.interval, strong=name == "model") for name, row in scorers]
    headline = f"Accuracy of each scorer with its interval: {_in_words(rows, '; ')}"
    bins, points = result.confidence.reliability, result.confidence.risk_coverage
    threshold, bias = result.confidence.threshold, result.bias
    words = f"Reliability: {sum(one.n for one in bins):,} picks in {len(bins)} bins of confidence"
    answered = (
        f"Accuracy of the answers, from {points[0][1]:.3f} at coverage {points[0][0]:.2f} "
        f"to {points[-1][1]:.3f} at coverage {points[-1][0]:.2f}"
    )
    shares = "Share of picks at each position: " + ", ".join(f"{share:.3f}" for share in bias.picked)
    drawn = {
        "headline": dots("headline", rows, headline),
        "reliability": reliability("reliability", bins, words),
        "risk_coverage": risk_coverage("risk-coverage", points, answered, threshold.coverage if threshold else None),
        "picked": position_bars("positions", bias.picked, bias.even, shares),
    }
    if rows := [Dot(f"position {row.position}", row.accuracy, row.interval) for row in bias.best_positions]:
        words = f"Accuracy by the position of the best candidate: {_in_words(rows)}"
        drawn["best"] = dots("best-positions", rows, words)
    return drawn


def _breakdowns(breakdowns: Breakdowns) -> list[ShownBreakdown]:
    sections = []
    for name, title in BREAKDOWNS.items():
        groups: list[BreakdownRow] = getattr(breakdowns, name)
        if rows := [Dot(group.name, group.accuracy, group.interval, group.chance) for group in groups]:
            picture = dots(f"breakdown {name}", rows, f"Accuracy by {title.lower()}: {_in_words(rows)}")
            sections.append(ShownBreakdown(title, groups, Markup(picture)))
    return sections


def _fooled_by(kinds: Sequence[WrongKind]) -> ShownBreakdown | None:
    if not kinds:
        return None
    rows = [Dot(label(kind.name), kind.share, None, kind.chance) for kind in kinds]
    words = f"Share picked of the wrong candidates of each kind: {_in_words(rows)}"
    picture = dots("fooled-by", rows, words, axis="share picked")
    return ShownBreakdown("Wrong candidates that were picked", kinds, Markup(picture))
