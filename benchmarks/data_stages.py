"""How many questions a second the data stages take, and how much memory, as the data set grows.

A data set of each size is made like the embedded sample, in which no two questions and no two pages are the same. With
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
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from finrank.commands import candidates, prepare, rewards
from finrank.programs import execute, parse
from finrank.sources.finqa import Example, read_examples
from finrank.sources.made_up import generate
from finrank.store import REJECTS, sha256

STAGES: dict[str, Callable[..., None]] = {
    "prepare": prepare.prepare,
    "candidates": candidates.candidates,
    "rewards": rewards.rewards,
}
FOLDERS = ("raw", *STAGES)  # a stage reads the folder before its own
SIZES, QUICK_SIZES = (1_000, 10_000, 100_000), (200, 1_000)
REPEATS, QUICK_REPEATS = 5, 3  # of the smallest size
WORKERS = 2
PROGRAMS = 2_000  # parsed and executed in each repeat
CHUNK = 2_000  # questions of the sample made at a time; a sample of 100,000 would run out of page names

Row = dict[str, Any]
Questions = Callable[[], Iterator[dict[str, Any]]]  # starts an endless run of examples in the official layout


def main() -> None:
    """Measure what the arguments ask for; print a line per figure, and write them all with --json."""
    options = arguments()
    if options.run_stage:
        stage, source, target, workers = options.run_stage
        print(json.dumps(measure_here(stage, Path(source), Path(target), int(workers))))
        return
    sizes = options.sizes or (QUICK_SIZES if options.quick else SIZES)
    repeats = QUICK_REPEATS if options.quick else REPEATS
    questions, data = question_source(options.input_dir)
    rows = language_rows(questions, repeats)
    for row in rows:
        show(row)
    with tempfile.TemporaryDirectory(prefix="data_stages-") as place:
        for size in sizes:
            for row in stage_rows(Path(place), questions, size, repeats if size == sizes[0] else 1):
                rows.append(row)
                show(row)
        for row in worker_rows(Path(place), sizes[-1]):
            rows.append(row)
            show(row)
    if options.json:
        result = {"device": device(), "data": data, "rows": rows}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"sizes {QUICK_SIZES} and {QUICK_REPEATS} repeats")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument(
        "--input_dir", type=Path, help="folder with train.json (default: questions made like the embedded sample)"
    )
    parser.add_argument("--sizes", type=int, nargs="+", help=f"numbers of questions (default: {SIZES})")
    parser.add_argument("--run_stage", nargs=4, help=argparse.SUPPRESS)  # what the measured processes are started with
    return parser.parse_args()


def question_source(input_dir: Path | None) -> tuple[Questions, str]:
    """The questions with a program that data sets are made of, and what they are, in words."""
    if input_dir is None:
        return distinct_questions, "made like the embedded sample, all questions distinct"
    elements = json.loads((input_dir / "train.json").read_text(encoding="utf-8"))
    examples = [element for element in elements if element["qa"].get("program")]
    return partial(repeated, examples), f"{input_dir}: {len(examples)} questions, then repeated"


def distinct_questions() -> Iterator[dict[str, Any]]:
    """Questions of one made-up sample after another, each of another seed."""
    for seed in count():
        for example in generate(train=CHUNK, dev=0, test=0, seed=seed)["train"]:
            yield renamed(example, seed)


def repeated(examples: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The examples again and again without end, each time with other ids and pages."""
    for copy in count():
        for example in examples:
            yield renamed(example, copy)


def renamed(example: dict[str, Any], number: int) -> dict[str, Any]:
    """The example with the number in its id and in the name of its page."""
    return example | {"id": f"{example['id']}~{number}", "filename": f"{example['filename']}~{number}"}


def stage_rows(place: Path, questions: Questions, size: int, repeats: int) -> Iterator[Row]:
    """A row per stage for a data set of so many questions, which stays in `place`."""
    raw = place / "raw"
    raw.mkdir(exist_ok=True)
    with (raw / "train.json").open("w", encoding="utf-8") as stream:
        for index, example in enumerate(islice(questions(), size)):
            stream.write(("," if index else "[") + json.dumps(example) + "\n")
        stream.write("]\n")
    for stage, before in zip(STAGES, FOLDERS, strict=False):
        runs = [measure(stage, place / before, place / stage) for _ in range(repeats)]
        read = size if stage == "prepare" else runs[0]["questions"]
        rates = [read / run["cpu_s"] for run in runs]
        yield {
            "what": stage,
            "n": size,
            "workers": 1,
            "per_s_per_core": round(statistics.median(rates)),
            "quartiles": [round(value) for value in quartiles(rates)],
            "repeats": repeats,
            "peak_mib": round(max(run["peak_mib"] for run in runs), 1),
        }


def worker_rows(place: Path, size: int) -> Iterator[Row]:
    """Wall time with one worker over that with two, for the data set that lies in `place`; runs take turns."""
    for stage, before in zip(STAGES, FOLDERS, strict=False):
        one = measure(stage, place / before, place / "one")
        several = measure(stage, place / before, place / "several", WORKERS)
        same = all(sha256(place / "one" / path.name) == sha256(path) for path in (place / "several").glob("*.jsonl"))
        yield {
            "what": stage,
            "n": size,
            "workers": WORKERS,
            "wall_1_s": round(one["wall_s"], 3),
            "wall_s": round(several["wall_s"], 3),
            "speed_up": round(one["wall_s"] / several["wall_s"], 2),
            "same_files": same,
        }


def measure(stage: str, source: Path, target: Path, workers: int = 1) -> dict[str, float]:
    """Run a stage in a process of its own; what `measure_here` returns there."""
    command = [sys.executable, __file__, "--run_stage", stage, str(source), str(target), str(workers)]
    # No stage needs several threads, and a library's would blur processor time.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout))


def measure_here(stage: str, source: Path, target: Path, workers: int) -> dict[str, float]:
    """Run a stage in this process: questions read, processor and wall seconds, highest memory in MiB."""
    cpu, wall = time.process_time(), time.perf_counter()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        STAGES[stage](source, target, workers=workers)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = peak_mib()
    questions = sum(1 for path in source.glob("*.jsonl") if path.name != REJECTS for _ in path.open("rb"))
    return {"questions": questions, "cpu_s": cpu, "wall_s": wall, "peak_mib": peak}


def peak_mib() -> float:
    """The highest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss counts what the parent had when it started this process
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def language_rows(questions: Questions, repeats: int) -> list[Row]:
    """Programs parsed a second, and parsed programs executed a second, on their own tables."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "train.json"
        path.write_text(json.dumps(list(islice(questions(), PROGRAMS))), encoding="utf-8")
        found = [example for example in read_examples(path) if isinstance(example, Example)]
    texts = [example.qa.program for example in found if example.qa.program]
    parsed = [(parse(example.qa.program), example.table) for example in found if example.qa.program]

    def parse_all() -> None:
        for text in texts:
            parse(text)

    def execute_all() -> None:
        for program, table in parsed:
            execute(program, table)

    return [rate_row("parse", parse_all, len(texts), repeats), rate_row("execute", execute_all, len(texts), repeats)]


def rate_row(what: str, work: Callable[[], None], items: int, repeats: int) -> Row:
    """How many items a second of processor time; one run before those that count."""
    work()
    rates = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        rates.append(items / (time.process_time() - began))
    middle = [round(value) for value in quartiles(rates)]
    return {"what": what, "n": items, "per_s_per_core": round(statistics.median(rates)), "quartiles": middle}


def quartiles(values: list[float]) -> tuple[float, float]:
    """The lower and the upper one; of a single value, that value twice."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def show(row: Row) -> None:
    """Print a row for people."""
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def device() -> str:
    """The processor, its cores and the Python that ran."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
