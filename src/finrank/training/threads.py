"""How many threads torch trains with: one for each core that other programs leave free.

The threads of a product wait for each other. On two cores, one of them busy with another program, two threads take
many times as long as one (docs/experiments.md). torch counts cores, and sees neither what else runs nor a quota.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import torch

from finrank.console import say
from finrank.parallel import allowed_cores
from finrank.training.processes import number_of_processes
from finrank.training.run import threads_of

_MEASURED_S = 0.5


def use_free_cores() -> None:
    """Lower torch's number of threads to that of free cores, and say so.

    It stays as it is on a GPU, where OMP_NUM_THREADS is set, and where a launcher has started several processes.
    """
    before = torch.get_num_threads()
    if torch.cuda.is_available() or "OMP_NUM_THREADS" in os.environ or number_of_processes() > 1 or before == 1:
        return
    allowed, busy = allowed_cores(), busy_cores()
    torch.set_num_threads(max(1, min(before, allowed - busy)))
    if (threads := torch.get_num_threads()) < before:
        use = f"other programs keep {busy} busy" if busy else "as a quota allows"
        say(f"threads: {threads}, not {before}: of {allowed} cores {use} (set OMP_NUM_THREADS for another number)")


def use_threads_of(stage: Path) -> None:
    """As many threads as the stage began with: a resumed run then has the curve of an uninterrupted one."""
    if (threads := threads_of(stage)) != torch.get_num_threads():
        say(f"threads: {threads}, as the interrupted run had")
        torch.set_num_threads(threads)


def busy_cores() -> int:
    """How many of this process's cores other programs keep busy, now and on average in the last minute."""
    used = psutil.cpu_percent(_MEASURED_S, percpu=True)  # while this process sleeps
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(used))
    return round(min(sum(used[core] for core in mine if core < len(used)) / 100, os.getloadavg()[0]))
