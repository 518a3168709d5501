"""Training steps of Llama 3 8B's shape on one GPU, with one lever at a time: what each is worth in speed and memory.

Model, pools, steps and figures are those of llama_8b_gpu.py, on route `mask` without activation checkpointing; the
levers are those of shared/levers.py. Each, and `plain` (as finrank trains), has its own best number of questions a
step, since one that saves memory fits more. Then each has two blocks of steps, in the order A B C C B A; ratios are of
tokens a second over plain's. `difference` is that of the gradient of one batch from plain's, as a share of its length:
in bfloat16 rounding alone gives some hundredths.

    python benchmarks/levers_gpu.py --json levers_gpu.json
    python benchmarks/levers_gpu.py --shape toy --quick
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from shared import llama_steps as steps
from shared.device_memory import free_memory, within_memory
from shared.levers import LEVERS, gradients, why_not
from shared.shapes import peak_tflops
from shared.tables import Report, device, parser

SIZES, QUICK_SIZES = (2, 4, 8, 16), (1, 2)  # questions per step
STEPS, QUICK_STEPS = 10, 2
SEARCH_SHARE = 0.6  # of the time: compilers take theirs then


def main() -> None:
    """Measure plain steps and those with each lever; print the rows, and write them with --json."""
    began = time.monotonic()
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    arguments = parser(__doc__, "few sizes and steps: to see whether it runs", docs=False)
    arguments.add_argument("--shape", choices=("llama-3-8b", "toy"), default="llama-3-8b", help="on a CPU only toy")
    arguments.add_argument("--levers", nargs="+", choices=LEVERS, default=[*LEVERS], help="which to measure")
    arguments.add_argument("--seed", type=int, default=0, help="of weights, tokens and batches")
    arguments.add_argument("--budget_s", type=float, default=480, help="seconds in all; what does not fit is left out")
    options = arguments.parse_args()
    on_gpu = torch.cuda.is_available()
    if not on_gpu and options.shape != "toy":
        raise SystemExit(f"--shape {options.shape} needs a CUDA device, and there is none: on a CPU give --shape toy")
    name = device("torch")
    ends = began + options.budget_s
    where = torch.device("cuda" if on_gpu else "cpu")
    bench = steps.make_bench(options.shape, where, options.seed, peak_tflops(name), ends)
    bench.report = Report(options.json, device=name, shape=options.shape, seed=options.seed, skipped=bench.skipped)
    levers: list[str | None] = [None]
    for lever in options.levers:
        if reason := why_not(lever, bench.learner.model):
            bench.skip(f"{lever}: {reason}")
        else:
            levers.append(lever)
    points = best_points(bench, levers, QUICK_SIZES if options.quick else SIZES)
    plain = next((point for point in points if point.lever is None), None)
    steps.measure_points(bench, points, QUICK_STEPS if options.quick else STEPS, plain)
    bench.report.facts["differences"] = differences(bench, [lever for lever in levers if lever])
    bench.report.facts["took_s"] = round(time.monotonic() - began)
    bench.report.write()
    print(f"{bench.report.facts['took_s']} s in all")


def best_points(bench: steps.Bench, levers: Sequence[str | None], sizes: Sequence[int]) -> list[steps.Point]:
    """Each lever's fastest number of questions a step; plain comes first."""
    points = []
    with bench.within(SEARCH_SHARE):
        for number, lever in enumerate(levers):
            with bench.within(1 / (len(levers) - number)), surviving(bench, lever):
                if lever:  # compilers take their time in the first step
                    first = steps.Point("fastest", "mask", sizes[0], False, lever=lever)
                    within_memory(partial(steps.train_step, bench, first, bench.pools[: sizes[0]]))
                rates = steps.search(bench, "mask", sizes, False, lever)
                if rates:
                    points.append(max(rates, key=lambda point: rates[point]))
    return points


@contextmanager
def surviving(bench: steps.Bench, lever: str | None) -> Iterator[None]:
    """Inside, a lever that fails is left out, whatever its library raises; plain steps must work."""
    try:
        yield
    except Exception as error:
        if lever is None:
            raise
        bench.skip(f"{lever}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        free_memory()


def differences(bench: steps.Bench, levers: Sequence[str]) -> dict[str, float]:
    """By how much a batch's gradient with each lever differs from the plain one, as a share of its length."""
    pools = [item.pool for item in next(steps.batches(bench, 1))]
    learner = bench.learner

    def scores() -> torch.Tensor:
        return learner.scores(pools, "mask")

    plain = gradients(learner.model, None, scores)
    found = {}
    for lever in levers:
        if bench.fits(0, f"difference by {lever}"):
            with surviving(bench, lever):
                found[lever] = ((gradients(learner.model, lever, scores) - plain).norm() / plain.norm()).item()
                print(f"{lever}: the gradient of a batch differs by {found[lever]:.2g} of its length", flush=True)
    return found


if __name__ == "__main__":
    main()
