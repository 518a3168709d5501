"""A result with every part that a report can show, small and made up, some of its text hostile on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HOSTILE = '<script>alert("x")</script> & \'quoted\' "text" {{ 1 + 1 }} $ 5 $'
BASELINES = {"chance": 0.125, "constant": 0.125, "medoid": 0.214, "candidate_only": 0.202, "oracle": 1.0}


def ranking(number: int = 0, picked: int = 1) -> dict[str, Any]:
    """A ranked question whose right program is candidate 0."""
    return {
        "id": f"V/2008/page_17.pdf-{number}",
        "page": "V/2008/page_17.pdf",
        "question": f"what is the change in revenue ? {HOSTILE}",
        "rows": [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["costs", "$ 11", "$ 12"], ["tax", "1", "2"]],
        "text": [f"revenue was 5,829 {HOSTILE} .", "nothing here .", "costs were 11 ."],
        "program": "subtract(5829, 5735)",
        "answer": 94.0,
        "candidates": [
            candidate("subtract(5829, 5735)", 94.0, 1.5, 1.0, "gold", []),
            candidate("subtract(5829, 11)", 5818.0, 2.25, 0.3, "corrupted", ["other_row"]),
            candidate(f"add({HOSTILE})", None, -3.0, 0.0, "corrupted", [HOSTILE]),
        ],
        "picked": picked,
        "confidence": 0.68,
    }


def candidate(
    program: str, answer: float | None, score: float, reward: float, origin: str, edits: list[str]
) -> dict[str, Any]:
    return {
        "program": program,
        "answer": answer,
        "score": score,
        "probability": 0.33,
        "reward": reward,
        "origin": origin,
        "edits": edits,
    }


def example_result() -> dict[str, Any]:
    """Every key of an evaluation."""

    def figures(value: float) -> dict[str, Any]:
        names = ["accuracy", "reward_ratio", "average_reward", "mrr", "ndcg", "execution_accuracy", "program_accuracy"]
        low, high = round(max(0.0, value - 0.03), 3), round(min(1.0, value + 0.03), 3)
        return {**dict.fromkeys(names, value), "intervals": {name: [low, high] for name in names}}

    def rows(*names: str) -> list[dict[str, Any]]:
        made = []
        for place, name in enumerate(names):
            value = 0.62 - 0.08 * place
            interval = [value - 0.05, value + 0.05]
            made.append({"name": name, "n": 300 - 40 * place, "accuracy": value, "interval": interval, "chance": 0.125})
        return made

    baselines: dict[str, Any] = {name: {**figures(value), "p_value": 0.0001} for name, value in BASELINES.items()}
    bins = [
        {"low": k / 10, "high": (k + 1) / 10, "n": 10 * k, "confidence": k / 10 + 0.05, "accuracy": k / 10 + 0.02}
        for k in range(10)
    ]
    return {
        "n": 883,
        "unanswerable": 2,
        **figures(0.567),
        "baselines": {**baselines, "majority_vote": None},
        "positions": {"picks": [111.0] * 8, "warning": None},
        "ties": {"top": 0, "all": 0},
        "bias": {
            "best_positions": [
                {"position": k, "n": 110, "accuracy": 0.5 + 0.02 * k, "interval": [0.4, 0.7]} for k in range(8)
            ],
            "picked": [0.125] * 8,
            "p_value": 0.4111,
            "order_invariance": {"checked": 64, "max_difference": 3.1e-7},
        },
        "breakdowns": {
            "steps": rows("1", "2", "3 or more"),
            "operation": rows("divide", HOSTILE, "table_average"),
            "origin": rows("table", "text", "both"),
            "context_length": rows("up to 500", "501 to 1000", "over 1000"),
            "candidates": rows("8"),
            "fooled_by": [{"name": "other_row", "picked": 40, "offered": 1109, "share": 0.0361}],
        },
        "mistakes": [ranking(0), ranking(1)],
        "examples": [ranking(2, picked=0), ranking(3)],
        "confidence": {
            "temperature": 1.234,
            "ece_uncalibrated": 0.101,
            "ece": 0.021,
            "reliability": bins,
            "risk_coverage": [[k / 100, 1.0 - 0.004 * k] for k in range(1, 101)],
            "accuracy_at": {"0.5": 0.801, "0.8": 0.655, "0.95": 0.583},
            "threshold": {
                "wanted_accuracy": 0.9,
                "value": 0.812,
                "coverage": 0.305,
                "accuracy": 0.934,
                "lower_bound": 0.902,
            },
            "pool_sizes": {"8": 883},
            "origins": {"gold": 883, "corrupted": 6181},
        },
        "comparison": {
            "other": "outputs/run_002",
            "accuracy": 0.202,
            "difference": 0.365,
            "interval": [0.33, 0.4],
            "p_value": 0.0001,
        },
        "troubles": [f"gold operands are lost in 31% of the questions: {HOSTILE}"],
        "model": "outputs/run_001/04_sft/best_model",
        "data": "datasets/finqa_with_rewards",
        "split": "dev",
        "versions": {"python": "3.11.7", "finrank": "0.1.0"},
        "data_hashes": {"dev.jsonl": "ab" * 32},
    }


def imported_result() -> dict[str, Any]:
    """The same of pools of imported outputs: votes apply, equal answers repeat, some answers have no program."""
    result = example_result()
    pooled = {"accuracy_pooled": 0.567, "accuracy_max": 0.567}
    intervals = {**result["intervals"], **{name: [0.537, 0.597] for name in pooled}}
    baselines = result["baselines"]
    for name in ("chance", "constant", "oracle"):
        baselines[name]["p_value"] = None
    vote = {**baselines["medoid"], "accuracy": 0.541, "p_value": 0.031}
    order = ["chance", "constant", "medoid", "candidate_only"]
    shown = ranking(0)
    for one in shown["candidates"]:
        one.update(origin="imported", edits=[])
    shown["candidates"].append(
        {**shown["candidates"][1], "program": None, "score": 2.0}  # the same answer, given without a program
    )
    return {
        **result,
        **pooled,
        "intervals": intervals,
        "baselines": {
            **{name: baselines[name] for name in order},
            "majority_vote": vote,
            "oracle": baselines["oracle"],
        },
        "breakdowns": {
            **result["breakdowns"],
            "candidates": result["breakdowns"]["steps"],
            "fooled_by": [{"name": "imported", "picked": 97, "offered": 3402, "share": 0.0285}],
        },
        "mistakes": [shown],
        "examples": [{**shown, "picked": 0}],
        "confidence": {
            **result["confidence"],
            "threshold": None,
            "wanted_accuracy": 0.9,
            "pool_sizes": {"1": 31, "2": 190, "5": 662},
            "origins": {"imported": 3721},
        },
        "comparison": None,
        "data": "datasets/imported_with_rewards",
    }


def write_run(directory: Path) -> Path:
    """A run folder with the training manifest of one stage."""
    curve: list[dict[str, float]] = []
    for step in range(10, 101, 10):
        curve.append({"step": step, "loss": 2.0 - step / 100})
        if step % 50 == 0:
            curve.append(
                {"step": step, "eval_loss": 1.9 - step / 100, "eval_accuracy": step / 200, "eval_reward_ratio": 0.6}
            )
    manifest = {
        "config": {"base_model": "some/base", "trainer": {"max_steps": 100}},
        "curve": curve,
        "best_step": 100,
        "train_seconds": 1234.5,
        "device": "CPU (x86_64)",
        "data": {"train.jsonl": "cd" * 32},
        "versions": {"torch": "2.8.0"},
    }
    stage = directory / "04_sft"
    stage.mkdir(parents=True)
    (stage / "training_manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return directory
