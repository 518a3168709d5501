"""The report: one HTML file with the figures of an evaluation, for people.

`write_html` takes the JSON of an evaluation (`report.evaluate_pools` and what `finrank evaluate` adds). Any part of it
may be absent: the report then says so, or leaves the line out. The file fetches nothing and runs no script; its text
and looks are in `templates/`, its drawings in `pictures.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import ChainableUndefined, Environment, PackageLoader, Undefined
from markupsafe import Markup

from finrank.evaluation.report import pictures
from finrank.evaluation.report.marks import mark_evidence, right_and_picked
from finrank.evaluation.report.pictures import Curve, Dot

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
# Of candidates with equal answers the probability is summed, or the highest taken.
_OF_EQUAL_ANSWERS = ("accuracy_pooled", "accuracy_max")
BREAKDOWNS = {
    "steps": "Steps of the program",
    "operation": "Operation",
    "origin": "Where the needed numbers stand",
    "context_length": "Length of the page",
    "candidates": "Candidates in the pool",
}
# As training writes it into each stage directory of a run.
_TRAINING_MANIFEST = "training_manifest.json"


def write_html(path: Path, result: Mapping[str, Any], run_dir: Path | None = None) -> None:
    """Write the report of `result` to `path`; the training curves are those of the stages found in `run_dir`."""
    page = (
        template_environment(autoescape=True)
        .get_template("report.html")
        .render(
            result=result,
            run=run_dir.name if run_dir else None,
            metrics=present_metrics(result),
            names=METRICS,
            headline=_headline(result),
            rows=scorer_rows(result),
            training=[_training(manifest) for manifest in _manifests(run_dir)],
            confidence=_confidence_pictures(result.get("confidence") or {}),
            positions=_position_pictures(result.get("bias") or {}),
            breakdowns=_breakdowns(result.get("breakdowns") or {}),
            fooled_by=_fooled_by(result.get("breakdowns") or {}),
            examples=[_ranking(item) for item in result.get("examples") or []],
            mistakes=[_ranking(item) for item in result.get("mistakes") or []],
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def run_of(model_dir: Path) -> Path | None:
    """The run that a model folder `run_001/04_sft/best_model` belongs to; None where none trained it."""
    stage = model_dir.resolve().parent
    return stage.parent if (stage / _TRAINING_MANIFEST).is_file() else None


@cache
def template_environment(*, autoescape: bool) -> Environment:
    """Where templates are found and how they write figures; absent parts read as nothing."""
    environment = Environment(
        loader=PackageLoader("finrank.evaluation.report"),
        autoescape=autoescape,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "figure": figure,
        "interval": interval,
        "count": count,
        "value": answer_text,
        "p_value": p_value,
        "label": label,
    }
    return environment


def figure(value: Any) -> str:
    """A share or metric at three decimals, a dash where there is none."""
    return "–" if value is None or isinstance(value, Undefined) else f"{value:.3f}"


def interval(pair: Any) -> str:
    """[0.534, 0.599] as 0.534–0.599; nothing where there is none."""
    return f"{pair[0]:.3f}–{pair[1]:.3f}" if pair else ""


def count(number: Any) -> str:
    """1109 as 1,109."""
    return "–" if number is None or isinstance(number, Undefined) else f"{number:,.0f}"


def p_value(value: Any) -> str:
    """A p-value: "= 0.042", or "< 0.001" where it is smaller; a dash where nothing was tested."""
    if value is None or isinstance(value, Undefined):
        return "–"
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def answer_text(answer: Any) -> str:
    """An answer for people: 1637.5 as 1,637.5, at most five decimals; "yes"; "fails" where there is none.

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


def present_metrics(result: Mapping[str, Any]) -> list[str]:
    """The metrics that a result holds; those of equal answers where answers repeat, or where they differ."""
    names = [name for name in METRICS if result.get(name) is not None]
    if _answers_repeat(result):
        return names
    return [name for name in names if name not in _OF_EQUAL_ANSWERS or result[name] != result.get("accuracy")]


def _answers_repeat(result: Mapping[str, Any]) -> bool:
    """Whether a vote applies, or the pools hold outputs of models: the three accuracies then stand side by side."""
    origins = (result.get("confidence") or {}).get("origins") or {}
    votes = (result.get("baselines") or {}).get("majority_vote")
    return votes is not None or not _OUTPUTS_OF_MODELS.isdisjoint(origins)


def scorer_rows(result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The model, then every baseline that applies."""
    others = result.get("baselines") or {}
    return [("model", result), *((label(name), row) for name, row in others.items() if row is not None)]


def _headline(result: Mapping[str, Any]) -> Markup | None:
    """Accuracy of the model and of the baselines; equal ones (chance and the constant scorer) are one line."""
    lines: list[Dot] = []
    for name, row in scorer_rows(result):
        if row.get("accuracy") is None:
            continue
        pair = (row.get("intervals") or {}).get("accuracy")
        if name == "constant" and any(
            one.name == "chance" and abs(one.value - row["accuracy"]) < 1e-6 for one in lines
        ):
            continue
        lines.append(Dot(name, row["accuracy"], pair, strong=name == "model"))
    if not lines:
        return None
    told = "; ".join(f"{one.name} {one.value:.3f}" for one in lines)
    return Markup(pictures.dots("headline", lines, f"Accuracy of each scorer with its interval: {told}"))


def _manifests(run_dir: Path | None) -> list[dict[str, Any]]:
    """The training manifests of a run, in the order of its stages."""
    found = sorted(run_dir.glob(f"*/{_TRAINING_MANIFEST}")) if run_dir else []
    return [{"directory": path.parent.name, **json.loads(path.read_text(encoding="utf-8"))} for path in found]


def _training(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A trained stage as the page shows it: its curves, its facts, its config as YAML."""
    name, curve = manifest["directory"], manifest.get("curve") or []
    best = manifest.get("best_step")
    drawn = []
    for title, keys in {
        "Loss": {"loss": "training", "eval_loss": "selection pages"},
        "Selection pages": {"eval_accuracy": "accuracy", "eval_reward_ratio": "reward ratio"},
    }.items():
        lines = [Curve(text, _points(curve, key)) for key, text in keys.items() if _points(curve, key)]
        if lines:
            told = "; ".join(f"{one.name} from {one.points[0][1]:.3f} to {one.points[-1][1]:.3f}" for one in lines)
            picture = pictures.curves(f"{name} {title}", lines, f"{title} over training steps: {told}", best)
            drawn.append((title, Markup(picture)))
    config = yaml.safe_dump(manifest.get("config") or {}, sort_keys=False, allow_unicode=True)
    return {"name": name, "pictures": drawn, "manifest": manifest, "config": config}


def _points(curve: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(entry["step"], entry[key]) for entry in curve if entry.get(key) is not None and "step" in entry]


def _confidence_pictures(confidence: Mapping[str, Any]) -> dict[str, Markup]:
    drawn = {}
    bins, points = confidence.get("reliability"), confidence.get("risk_coverage")
    if bins and any(one["n"] for one in bins):
        told = f"Reliability: {sum(one['n'] for one in bins):,} picks in {len(bins)} bins of confidence"
        drawn["reliability"] = Markup(pictures.reliability("reliability", bins, told))
    if points:
        coverage = (confidence.get("threshold") or {}).get("coverage")
        told = f"Accuracy of the answers, from {points[0][1]:.3f} at coverage {points[0][0]:.2f} "
        told += f"to {points[-1][1]:.3f} at coverage {points[-1][0]:.2f}"
        drawn["risk_coverage"] = Markup(pictures.risk_coverage("risk-coverage", points, told, coverage))
    return drawn


def _position_pictures(bias: Mapping[str, Any]) -> dict[str, Markup]:
    drawn = {}
    shares, best = bias.get("picked"), bias.get("best_positions")
    if shares:
        told = "Share of picks at each position: " + ", ".join(f"{share:.3f}" for share in shares)
        drawn["picked"] = Markup(pictures.position_bars("positions", shares, told))
    if best:
        lines = [
            Dot(f"position {row['position']}", row["accuracy"], row.get("interval")) for row in best if _has_figure(row)
        ]
        told = "Accuracy by the position of the best candidate: "
        told += ", ".join(f"{one.name} {one.value:.3f}" for one in lines)
        if lines:
            drawn["best"] = Markup(pictures.dots("best-positions", lines, told))
    return drawn


def _has_figure(row: Mapping[str, Any]) -> bool:
    return row.get("accuracy") is not None


def _breakdowns(breakdowns: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name, title in BREAKDOWNS.items():
        rows = breakdowns.get(name) or []
        lines = [
            Dot(str(row["name"]), row["accuracy"], row.get("interval"), row.get("chance"))
            for row in rows
            if _has_figure(row)
        ]
        if lines:
            told = ", ".join(f"{one.name} {one.value:.3f}" for one in lines)
            picture = pictures.dots(f"breakdown {name}", lines, f"Accuracy by {title.lower()}: {told}")
            found.append({"id": name, "title": title, "rows": rows, "picture": Markup(picture)})
    return found


def _fooled_by(breakdowns: Mapping[str, Any]) -> dict[str, Any] | None:
    """Wrong candidates by what made them (an edit, or an origin): the share of those offered that was picked."""
    rows = breakdowns.get("fooled_by") or []
    lines = [
        Dot(label(str(row["name"])), row["share"], row.get("interval"), row.get("chance"))
        for row in rows
        if row.get("share") is not None
    ]
    if not lines:
        return None
    told = "Share picked of the wrong candidates of each kind: "
    told += ", ".join(f"{one.name} {one.value:.3f}" for one in lines)
    picture = pictures.dots("fooled-by", lines, told, axis="share picked")
    return {"rows": rows, "picture": Markup(picture)}


def _ranking(item: Mapping[str, Any]) -> dict[str, Any]:
    """A ranked question as the page shows it: candidates by score, the evidence of the right and the picked program."""
    right, picked = right_and_picked(item)
    order = sorted(range(len(item["candidates"])), key=lambda index: -item["candidates"][index]["score"])
    candidates = [
        {
            **item["candidates"][index],
            "picked": index == item["picked"],
            "right": item["candidates"][index]["reward"] == 1,
        }
        for index in order
    ]
    return {
        **item,
        "evidence": mark_evidence(item.get("rows") or [], item.get("text") or [], right, picked),
        "candidates": candidates,
        "is_right": item["candidates"][item["picked"]]["reward"] == 1,
        "picked_answer": item["candidates"][item["picked"]]["answer"],
    }
