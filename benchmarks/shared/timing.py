"""Timing of contenders that take turns, ratios with quartiles, and memory. Does not import torch."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

_PAUSE_S = 0.1  # lets the previous contender's threads, which spin while they wait for work, go to sleep


@dataclass(frozen=True)
class Timed:
    """Seconds of one contender, in the order of the rounds, and its peak memory above the start in MiB."""

    seconds: list[float]
    peak_mib: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def scaled(self, factor: float) -> Timed:
        """The same rounds, with seconds multiplied by a factor."""
        return replace(self, seconds=[seconds * factor for seconds in self.seconds])


def use_the_cpu() -> None:
    """Hide GPUs from this process; call it before anything looks for one."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def take_turns(contenders: Mapping[str, Callable[[], object]], rounds: int, ends: float = math.inf) -> dict[str, Timed]:
    """Run each contender once to warm up, then all of them in turn, `rounds` times, so that drift affects all alike.

    Memory is that of the warm-up run. A contender that returns a float has measured its seconds itself. After `ends` on
    the monotonic clock no further round starts.
    """
    peaks = {name: peak_above_start(run) for name, run in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        if number and time.monotonic() > ends:
            break
        order = list(contenders) if number % 2 == 0 else list(contenders)[::-1]
        for name in order:
            time.sleep(_PAUSE_S)
            began = time.perf_counter()
            measured = contenders[name]()
            seconds[name].append(measured if isinstance(measured, float) else time.perf_counter() - began)
    return {name: Timed(seconds[name], peaks[name]) for name in contenders}


def ratios(peer: Sequence[float], ours: Sequence[float]) -> tuple[float, list[float]]:
    """Median and quartiles of the peer's time over ours, round by round."""
    by_round = [theirs / our for theirs, our in zip(peer, ours, strict=True)]
    return round(statistics.median(by_round), 3), quartiles(by_round, digits=3)


def quartiles(values: Sequence[float], digits: int | None = None) -> list[float]:
    """First and third quartile, rounded to so many digits; a single value twice."""
    first_and_third = [values[0]] * 2 if len(values) < 2 else statistics.quantiles(values, n=4, method="inclusive")[::2]
    return first_and_third if digits is None else [round(value, digits) for value in first_and_third]


def peak_above_start(run: Callable[[], object]) -> float:
    """How far resident memory rises above its start while `run` runs, in MiB; nan where Linux's /proc is missing."""
    reset = Path("/proc/self/clear_refs")
    gc.collect()
    if not reset.exists():
        run()
        return float("nan")
    ctypes.CDLL(None).malloc_trim(0)  # memory that the allocator kept from an earlier run would hide this one's
    reset.write_text("5")  # sets the high-water mark to the resident memory of now
    before = process_mib("VmRSS")
    run()
    return process_mib("VmHWM") - before


def process_mib(name: str) -> float:
    """Memory of this process in MiB: VmRSS now, VmHWM at its highest; nan where Linux's /proc is missing."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), float("nan"))
