"""What the benchmarks share: runs that take turns, medians with quartiles, memory, and where their tables go."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finrank.console import say

Row = dict[str, Any]
_PAUSE = 0.1  # seconds: threads of the contender before, which wait for more work, go to sleep
TABLES = Path(__file__).parents[2] / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Timed:
    """Seconds of one contender, in the order of the rounds, and its highest memory above the start in MiB."""

    seconds: list[float]
    peak_mib: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def use_the_cpu() -> None:
    """Hide GPUs from everything that this process runs; to be called before anything looks for one."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def take_turns(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timed]:
    """Run each contender once to warm up, then all of them in turn, `rounds` times: drift hits all alike.

    The warm-up run is the one whose memory counts. A contender that returns a float has measured its seconds itself.
    """
    peaks = {name: peak_above_start(run) for name, run in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders) if number % 2 == 0 else list(contenders)[::-1]
        for name in order:
            time.sleep(_PAUSE)
            began = time.perf_counter()
            own = contenders[name]()
            seconds[name].append(own if isinstance(own, float) else time.perf_counter() - began)
    return {name: Timed(seconds[name], peaks[name]) for name in contenders}


def ratios(peer: Sequence[float], ours: Sequence[float]) -> tuple[float, list[float]]:
    """Median and quartiles of the peer's time over ours, round by round."""
    each = [one / other for one, other in zip(peer, ours, strict=True)]
    return round(statistics.median(each), 3), [round(value, 3) for value in quartiles(each)]


def quartiles(values: Sequence[float]) -> list[float]:
    """The first and the third quartile; of a single value, that value."""
    if len(values) < 2:
        return [values[0], values[0]]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [first, third]


def with_quartiles(middle: float, around: Sequence[float], digits: int = 2) -> str:
    """A median with its quartiles, as the tables show it.

    >>> with_quartiles(2.0, [1.504, 2.5])
    '2.00 (1.50-2.50)'
    """
    return f"{middle:.{digits}f} ({around[0]:.{digits}f}-{around[1]:.{digits}f})"


def peak_above_start(run: Callable[[], object]) -> float:
    """How far resident memory rises over its start while `run` runs, in MiB; nan where the system does not tell."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    gc.collect()
    if not reset.exists():
        run()
        return float("nan")
    ctypes.CDLL(None).malloc_trim(
        0
    )  # memory that an earlier run left with the allocator would hide what this one takes
    reset.write_text("5")  # sets the high-water mark to what is resident now
    before = _kib(status, "VmRSS")
    run()
    return (_kib(status, "VmHWM") - before) / 1024


def resident_mib() -> float:
    """Resident memory of this process now, in MiB."""
    return _kib(Path("/proc/self/status"), "VmRSS") / 1024


def _kib(status: Path, name: str) -> int:
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1])


def device() -> str:
    """The processor and the threads that are used, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        if os.path.exists("/proc/cpuinfo")
        else None
    )
    return f"{model.group(1) if model else platform.machine()}, {torch.get_num_threads()} threads"


def write_results(path: Path | None, rows: Sequence[Row], **facts: Any) -> None:
    """Write rows and facts as JSON, where a path was given; its folder is made where it is missing."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"device": device(), **facts, "rows": list(rows)}, indent=2) + "\n", encoding="utf-8"
        )


def measured_before(path: Path | None, rounds: int) -> list[Row]:
    """The rows of an earlier run on the same device, those of at least so many rounds."""
    if path is None or not path.exists():
        return []
    earlier = json.loads(path.read_text(encoding="utf-8"))
    if earlier["device"] != device():
        raise SystemExit(f"{path} was measured on {earlier['device']}: give another file")
    kept = [row for row in earlier["rows"] if row.get("rounds", 0) >= rounds]
    if kept:
        say(f"{path}: {len(kept)} rows of an earlier run are kept; remove the file to measure them again")
    return kept


def write_section(name: str, text: str, path: Path = TABLES) -> None:
    """Replace the part of docs/benchmarks.md between the markers of this benchmark."""
    begin, end = f"<!-- {name}: written by the command -->", f"<!-- end of {name} -->"
    page = path.read_text(encoding="utf-8")
    if page.count(begin) != 1 or page.count(end) != 1:
        raise SystemExit(f"{path} must hold the lines {begin} and {end} once each")
    head, rest = page.split(begin)
    path.write_text(f"{head}{begin}\n{text.strip()}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def table(heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [heads, ["---"] * len(heads), *lines])
