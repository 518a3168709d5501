"""How many questions a second the data stages take, and how much memory, as the data set grows.

A data set of each size is made like the embedded data, in which no two questions and no two pages are the same. With
`--input_dir`, a folder in the official layout, it has the questions of its train file, repeated under new ids and pages
where they are too few. Stages 01 to 03 run on it, each in a process of its own, which measures itself: processor time
(so that other programs on the machine count little), wall time, and the highest memory. Rates are questions of a
stage's input per second of processor time, imports aside. The smallest size is run several times, for median and
quartiles.

    python benchmarks/data_stages.py --json data_stages.json
    python benchmarks/data_stages.py --quick --input_dir datasets/finqa_raw
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from itertools import count, islice, repeat
from pathlib import Path
from typing import Any

from shared.tables import Row, parser, show, write_results
from shared.timing import process_mib, quartiles

from finrank.cli import app
from finrank.programs import execute, parse
from finrank.sources.finqa import Example, read_examples
from finrank.sources.made_up import generate
from finrank.store import REJECTS, sha256

STAGES = {"prepare": "raw", "candidates": "prepare", "rewards": "candidates"}  # and the folder that each reads
SIZES, QUICK_SIZES = (1_000, 10_000, 100_000), (200, 1_000)
REPEATS, QUICK_REPEATS = 5, 3  # of the smallest size
WORKERS = 2
PROGRAMS = 2_000  # parsed and executed in each repeat
CHUNK = 2_000  # made-up questions per seed; 100,000 of one seed would run out of page names

Questions = Callable[[], Iterator[dict[str, Any]]]  # starts an endless run of examples in the official layout


def main() -> None:
    """Measure language, stages and workers; print the rows, and write them with --json."""
    arguments = parser(__doc__, f"sizes {QUICK_SIZES} and {QUICK_REPEATS} repeats", docs=False)
    arguments.add_argument(
        "--input_dir", type=Path, help="folder with train.json (default: questions made like the embedded data)"
    )
    arguments.add_argument("--sizes", type=int, nargs="+", help=f"numbers of questions (default: {SIZES})")
    arguments.add_argument("--run_stage", nargs=4, help=argparse.SUPPRESS)  # starts the processes that are measured
    options = arguments.parse_args()
    if options.run_stage:
        stage, source, target, workers = options.run_stage
        print(json.dumps(measure_here(stage, Path(source), Path(target), workers)))
        return
    sizes = options.sizes or (QUICK_SIZES if options.quick else SIZES)
    repeats = QUICK_REPEATS if options.quick else REPEATS
    questions, data = question_source(options.input_dir)
    rows = language_rows(questions, repeats)
    with tempfile.TemporaryDirectory(prefix="data_stages-") as folder:
        for size in sizes:
            rows += stage_rows(Path(folder), questions, size, repeats if size == sizes[0] else 1)
        rows += worker_rows(Path(folder), sizes[-1])
    write_results(options.json, rows, data=data)


def question_source(input_dir: Path | None) -> tuple[Questions, str]:
    """The questions with a program that data sets are made of, and a description of them."""
    if input_dir is None:
        return distinct_questions, "made like the embedded sample, all questions distinct"
    elements = json.loads((input_dir / "train.json").read_text(encoding="utf-8"))
    examples = [element for element in elements if element["qa"].get("program")]
    return partial(renamed, repeat(examples)), f"{input_dir}: {len(examples)} questions, then repeated"


def distinct_questions() -> Iterator[dict[str, Any]]:
    """Endless made-up questions, CHUNK of each seed."""
    return renamed(generate(train=CHUNK, dev=0, test=0, seed=seed)["train"] for seed in count())


def renamed(chunks: Iterable[list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The examples of all chunks, with the chunk's number in their ids and pages."""
    for number, chunk in enumerate(chunks):
        for example in chunk:
            yield example | {"id": f"{example['id']}~{number}", "filename": f"{example['filename']}~{number}"}


def stage_rows(folder: Path, questions: Questions, size: int, repeats: int) -> Iterator[Row]:
    """A row per stage for a data set of so many questions, which stays in the folder."""
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    with (raw / "train.json").open("w", encoding="utf-8") as stream:
        for index, example in enumerate(islice(questions(), size)):
            stream.write(("," if index else "[") + json.dumps(example) + "\n")
        stream.write("]\n")
    for stage, before in STAGES.items():
        runs = [measure(stage, folder / before, folder / stage) for _ in range(repeats)]
        read = size if stage == "prepare" else runs[0]["questions"]
        row = {"what": stage, "n": size, "workers": 1, **rates([read / run["cpu_s"] for run in runs])}
        peak = round(max(run["peak_mib"] for run in runs), 1)
        yield show({**row, "repeats": repeats, "peak_mib": peak})


def rates(per_s: list[float]) -> Row:
    """Median and quartiles of rates per second of processor time."""
    return {"per_s_per_core": round(statistics.median(per_s)), "quartiles": [round(rate) for rate in quartiles(per_s)]}


def worker_rows(folder: Path, size: int) -> Iterator[Row]:
    """Wall time with one worker over that with two, for the data set in the folder; runs take turns."""
    for stage, before in STAGES.items():
        alone = measure(stage, folder / before, folder / "alone")
        several = measure(stage, folder / before, folder / "several", WORKERS)
        same = all(
            sha256(folder / "alone" / path.name) == sha256(path) for path in (folder / "several").glob("*.jsonl")
        )
        walls = {"wall_1_s": round(alone["wall_s"], 3), "wall_s": round(several["wall_s"], 3)}
        speed_up = round(alone["wall_s"] / several["wall_s"], 2)
        row = {"what": stage, "n": size, "workers": WORKERS, **walls}
        yield show({**row, "speed_up": speed_up, "same_files": same})


def measure(stage: str, source: Path, target: Path, workers: int = 1) -> dict[str, float]:
    """Run a stage in a process of its own; returns the figures of `measure_here`."""
    command = [sys.executable, __file__, "--run_stage", stage, str(source), str(target), str(workers)]
    # No stage needs several threads, and a library's would blur processor time.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout))


def measure_here(stage: str, source: Path, target: Path, workers: str) -> dict[str, float]:
    """Run a stage in this process: questions read, processor and wall seconds, highest memory in MiB."""
    import_module(f"finrank.commands.{stage}")  # the command imports it when it runs; its time does not count
    arguments = [stage, "--input_dir", str(source), "--output_dir", str(target), "--workers", workers]
    cpu, wall = time.process_time(), time.perf_counter()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        app(arguments, standalone_mode=False)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = process_mib("VmHWM")
    questions = sum(1 for path in source.glob("*.jsonl") if path.name != REJECTS for _ in path.open("rb"))
    return {"questions": questions, "cpu_s": cpu, "wall_s": wall, "peak_mib": peak}


def language_rows(questions: Questions, repeats: int) -> list[Row]:
    """Programs parsed a second, and parsed programs executed a second, on their own tables."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.json"
        path.write_text(json.dumps(list(islice(questions(), PROGRAMS))), encoding="utf-8")
        examples = [example for example in read_examples(path) if isinstance(example, Example)]
    texts = [(example.qa.program, example.table) for example in examples if example.qa.program]
    parsed = [(parse(text), table) for text, table in texts]
    return [
        rate_row("parse", lambda: [parse(text) for text, _ in texts], len(texts), repeats),
        rate_row("execute", lambda: [execute(program, table) for program, table in parsed], len(texts), repeats),
    ]


def rate_row(what: str, work: Callable[[], object], items: int, repeats: int) -> Row:
    """How many items a second of processor time; one run before those that count."""
    work()
    per_s = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        per_s.append(items / (time.process_time() - began))
    return show({"what": what, "n": items, **rates(per_s)})


if __name__ == "__main__":
    main()
