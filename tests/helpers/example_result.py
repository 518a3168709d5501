"""Results of small evaluations with every part that a report can show, some of their text hostile on purpose."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from finrank.evaluation.evaluate import Rivals, ScoredPools, evaluate
from finrank.evaluation.result import EvaluationResult, Source
from finrank.evaluation.survival import Truncation
from finrank.ranker.choosing.chooser import VOTE
from finrank.records import RewardedPool
from tests.helpers.evaluated_pools import RANKER_ALONE, by_chance, make_pool

HOSTILE = '<script>alert("x")</script> & \'quoted\' "text" {{ 1 + 1 }} $ 5 $'


def _pool(number: int, origin: str) -> RewardedPool:
    """A pool of five; imported ones repeat an answer, once without a program."""
    first, second = 5829 + number, 5735
    gold, wrong = f"subtract({first}, {second})", f"subtract({first}, 11)"
    programs: list[str | None] = [gold, wrong, f"add({HOSTILE})", "divide(11, 12)", f"add({first}, 12)"]
    answers = [float(first - second), float(first - 11), None, 0.91667, float(first + 12)]
    if origin == "imported":
        programs[4], answers[4] = None, answers[1]
    if number % 3 == 1:
        programs[0] = gold = "table_average(costs, none)"
    shift = number % 5
    order = [*range(shift, 5), *range(shift)]
    edits = [[], ["other_row"], [HOSTILE], ["operation"], ["sign"]]
    return make_pool(
        [answers[index] for index in order],
        [order.index(0)] if number % 20 else [],
        programs=[programs[index] for index in order],
        page=f"V/2008/page_{number // 2}.pdf",
        identifier=f"V/2008/page_{number // 2}.pdf-{number}",
        edits=[edits[index] for index in order] if origin == "corrupted" else None,
        origin=origin,
        question=f"how did revenue change ? {HOSTILE}",
        table=[["", "2009", "2008"], ["revenue", f"$ {first}", "$ 5735"], ["costs", "$ 11", "$ 12"], ["tax", "1", "2"]],
        text=[f"revenue was {first} {HOSTILE} .", "nothing here .", "costs were 11 ." * (number % 7)],
        program=gold,
        answer=answers[0],
    )


def evaluated(origin: str) -> EvaluationResult:
    """60 pools on 30 pages, three of them without a correct candidate."""
    pools = [_pool(number, origin) for number in range(60)]
    model = ScoredPools(
        by_chance(pools, 0.5),
        lambda others: by_chance(others, 0.5),
        1e-4,
        Truncation(0.5, 0.6, 0.31),
        chooser=RANKER_ALONE,
    )
    data_hashes = {"dev.jsonl": "ab" * 32}
    source = Source("outputs/run_001/04_sft/best_model", f"datasets/{origin}", "dev", {"python": "3.11.7"}, data_hashes)
    control = by_chance(pools, 0.1)
    rivals = Rivals(control, control if origin == "corrupted" else model.scores, "outputs/run_002", VOTE)
    wanted = 0.5 if origin == "corrupted" else 0.99  # within reach, and out of it
    return evaluate(pools, model, rivals, source, wanted_accuracy=wanted)


def example_result() -> EvaluationResult:
    """A result of corrupted pools, with a second model, a threshold, and a hostile sentence among the troubles."""
    result = evaluated("corrupted")
    return replace(result, troubles=[*result.troubles, f"a sentence: {HOSTILE}"])


def imported_result() -> EvaluationResult:
    """A result of imported pools: equal answers repeat, some have no program; no threshold.

    The second model has the same scores; its chooser is the vote.
    """
    return evaluated("imported")


def write_run(directory: Path) -> Path:
    """A run folder with the training manifest of one stage; returns the path of its model folder."""
    curve = [{"step": step, "loss": 2.0 - step / 100} for step in range(10, 101, 10)]
    measured = {"eval_loss": 1.4, "eval_accuracy": 0.25, "eval_reward_ratio": 0.6}
    curve += [{"step": 50, **measured}, {"step": 100, **measured, "eval_accuracy": 0.5}]
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
    stage.mkdir(parents=True, exist_ok=True)
    (stage / "training_manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return stage / "best_model"
