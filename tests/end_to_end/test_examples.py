"""The scripts in examples/, each run whole in a process of its own, on the ready-made models."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finrank.commands.rank import rank
from tests.conftest import REPOSITORY
from tests.helpers.endpoint_stub import Answer, serving
from tests.helpers.pools import make_pool

EXAMPLES = REPOSITORY / "examples"
RIGHT = "subtract(4210, 4302), divide(#0, 4302)"  # for the question in the examples
MOST_LINES = 40

pytestmark = pytest.mark.slow


def run_example(name: str, *arguments: object, **environment: str) -> list[str]:
    """The lines that an example prints; it must succeed."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=540, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_every_example_is_short_and_tested() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in names if f'run_example("{name}"' not in tests] == []
    lengths = {name: len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) for name in names}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}
    assert len(names) == 5


def test_samples_of_a_language_model() -> None:
    samples = [RIGHT, f"Program: {RIGHT}", "subtract(5829, 5735), divide(#0, 5735)", "I am not sure.", "-2.1 %"]

    def answer(request: dict[str, Any], _: int) -> Answer:
        assert request["n"] == 8
        assert "costs | $ 4210 | $ 4302" in request["messages"][0]["content"]
        return Answer(samples)

    with serving(answer) as stub:
        shown = run_example("rank_llm_samples.py", "my-llm", OPENAI_BASE_URL=stub.url, OPENAI_API_KEY="any")
    assert shown[0].startswith("-0.02139 ")
    assert f"3 samples: ['{RIGHT}']" in shown[0]
    assert len(shown) == 3


def test_training_on_labelled_answers(tmp_path: Path) -> None:
    lines = []
    for number in range(40):
        pool = json.loads(make_pool(number).model_dump_json())
        said = [candidate["program"] for candidate in pool["candidates"]]
        wanted = {name: pool[name] for name in ("id", "page", "question", "table", "text", "answer")}
        lines.append(json.dumps({**wanted, "candidates": [*said, f"about {pool['answer']}", "no idea"]}))
    (tmp_path / "answers.jsonl").write_text("\n".join(lines), encoding="utf-8")
    quick = ["trainer.max_steps=2", "prompt.max_length=128", "mixed_precision=float32"]
    shown = run_example("train_on_your_answers.py", tmp_path / "answers.jsonl", tmp_path / "run", *quick)
    assert "answer=10.0" in shown[-1]
    assert (tmp_path / "run" / "run_001" / "04_sft" / "best_model").is_dir()
    splits = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in (tmp_path / "run/data").iterdir()}
    assert len(splits["train"]) + len(splits["selection"]) == 40
    pages = {split: {json.loads(line)["page"] for line in of_it} for split, of_it in splits.items()}
    assert pages["train"]
    assert pages["selection"]
    assert not pages["train"] & pages["selection"]
    assert len(json.loads(splits["train"][0])["correct"]) == 2, "the right program and the text that says its value"


def test_serving_and_cohere() -> None:
    shown = run_example("serve_and_call_with_cohere.py")
    assert len(shown) == 3
    assert {line.partition(" ")[2] for line in shown[:2]} == {RIGHT, "-2.1 %"}


def test_solving_without_a_language_model() -> None:
    first, *others = run_example("solve_without_llm.py")
    assert first.startswith("-0.02139 ")
    assert first.endswith(f": {RIGHT}")
    assert len(others) == 2


def test_ranking_with_two_ray_workers(tmp_path: Path) -> None:
    """The bytes are those of one process."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'finrank[ray]'")
    pools = tmp_path / "pools.jsonl"
    pools.write_text("".join(make_pool(number).model_dump_json() + "\n" for number in range(150)), encoding="utf-8")
    # Without a password for the cluster, which Ray would write into the home folder; it listens on loopback alone.
    shown = run_example("rank_with_ray.py", pools, tmp_path / "with_ray.jsonl", 2, RAY_AUTH_MODE="disabled")
    assert shown[-1].startswith("150 ranked")
    assert rank("finqa-minilm", pools, tmp_path / "alone.jsonl")["ranked"] == 150
    assert (tmp_path / "with_ray.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
