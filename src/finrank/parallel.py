"""One function over many items, in several processes or on a Ray cluster, with the results in the items' order.

Chunks of items go to the workers in turn, and results are taken in the same turns. Only a few chunks are on their way
at a time: memory does not grow with the number of items. One worker means no other process; the results are the same,
as long as the function looks at nothing but its item.

Each worker has its own pipe. A shared queue (`concurrent.futures`, `multiprocessing.Pool`) hangs when a worker is
killed while it writes; here the other end of its pipe sees the end of the file.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import cycle, islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from finrank.errors import UserError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_CHUNK = 32  # items sent at a time: sending one alone costs as much as many an item's work
_CHUNKS_PER_WORKER = 3  # one at work, two waiting
_DIED = "a worker process died (killed, or out of memory?), so nothing was written: try again with fewer --workers"


@contextmanager
def ordered_map(
    function: Callable[[ItemT], ResultT], workers: int = 1, chunk: int = _CHUNK
) -> Iterator[Callable[[Iterable[ItemT]], Iterator[ResultT]]]:
    """`map` with this function in `workers` processes (0: one per core), for the length of a with block.

    Items go to the workers by `chunk`: 1 where each is the work of seconds.
    The function must be one that pickle can name: of a module, or a `partial` of one; it is sent once to each worker.
    Raises UserError when `workers` is negative or a worker dies, RuntimeError with the worker's traceback when the
    function raises there. The workers end with the block, on Ctrl-C, and when this process is killed.

    >>> with ordered_map(len) as lengths:
    ...     list(lengths(["a", "bcd", "ef"]))
    [1, 3, 2]
    """
    count = number_of_workers(workers)
    if count == 1:
        yield partial(map, function)
        return
    started = _start_workers(function, count)
    try:
        yield partial(_map_chunks, started, chunk)
    finally:
        for worker in started:
            worker.pipe.close()
            worker.process.terminate()
        for worker in started:
            worker.process.join()


@contextmanager
def ray_map(
    function: Callable[[ItemT], ResultT], workers: int
) -> Iterator[Callable[[Iterable[ItemT]], Iterator[ResultT]]]:
    """`ordered_map` on a Ray cluster, item by item: that of RAY_ADDRESS or of this machine, or else one for the block.

    Each worker gets the function, which may load a model at its first item, one core, and where the cluster has GPUs
    one of them, or an equal part of one. Ray replaces a worker that dies, and gives its items to the new one. Raises
    what the function raises, and UserError when Ray is not installed or has too few cores, or when an item loses its
    worker four times.
    """
    if workers < 1:
        raise UserError(f"--ray_workers is {workers}: expected 1 worker at least")
    try:
        import ray
    except ImportError as error:
        raise UserError("--ray_workers needs Ray: pip install 'finrank[ray]'") from error
    begins = not ray.is_initialized()
    if begins:
        ray.init(logging_level="warning")
    started = []
    try:
        resources = ray.cluster_resources()
        if workers > (cores := int(resources.get("CPU", 0))):
            raise UserError(f"--ray_workers is {workers}: the Ray cluster has {cores} cores")  # it would wait for more
        gpus = 1 / math.ceil(workers / resources["GPU"]) if resources.get("GPU") else 0
        new_worker = ray.remote(max_restarts=-1, max_task_retries=3, num_cpus=1, num_gpus=gpus)(_RayWorker)
        started += [new_worker.remote(function) for _ in range(workers)]
        yield partial(_map_on_ray, started)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # what the function raised: the text of Ray's error is a traceback
    except ray.exceptions.RayActorError as error:
        raise UserError(f"workers of Ray died again and again: {error}") from error
    finally:
        for worker in started:
            ray.kill(worker)
        if begins:
            ray.shutdown()


class _RayWorker:
    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def apply(self, item: Any) -> Any:
        return self._function(item)


def _map_on_ray(workers: list[Any], items: Iterable[Any]) -> Iterator[Any]:
    import ray

    on_their_way: deque[Any] = deque()
    for item, worker in zip(items, cycle(workers), strict=False):
        on_their_way.append(worker.apply.remote(item))
        if len(on_their_way) == 2 * len(workers):  # one at work, one waiting
            yield ray.get(on_their_way.popleft())
    while on_their_way:
        yield ray.get(on_their_way.popleft())


def number_of_workers(workers: int) -> int:
    """`workers` itself, or for 0 the number of cores that this process may use; UserError for less."""
    if workers < 0:
        raise UserError(f"--workers is {workers}: expected a number of processes, or 0 for one per core")
    if workers > 0:
        return workers
    return allowed_cores()


def allowed_cores() -> int:
    """The number of cores that this process may use: those it may run on, or fewer by a quota of a container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(max(1, min(cores, cpu_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")))))


def cpu_quota(membership: Path, cgroups: Path) -> float:
    """The smallest quota of processor time, in cores, of a process's control groups; infinite without any.

    `membership` lists the groups (/proc/self/cgroup), `cgroups` is where their settings are, of version 1 or 2.
    """
    quotas = [math.inf]
    for line in membership.read_text().splitlines() if membership.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / "cpu" if controllers else cgroups
        group = root / path.strip("/")
        for folder in (group, *group.parents):
            quotas += _quota_of(folder)
            if folder == root:
                break
    return min(quotas)


def _quota_of(group: Path) -> list[float]:
    for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        with suppress(OSError, ValueError):  # another version of control groups, or "max" for no quota
            quota, period = (int(part) for name in files for part in (group / name).read_text().split())
            return [quota / period] if quota > 0 else []
    return []


class _Worker(NamedTuple):
    process: SpawnProcess
    pipe: Connection

    def send(self, chunk: list[Any]) -> None:
        try:
            self.pipe.send(chunk)
        except OSError as error:  # the other end of the pipe is gone
            raise UserError(_DIED) from error

    def receive(self) -> list[Any]:
        try:
            results, failure = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise UserError(_DIED) from error
        if failure:
            raise RuntimeError(f"in a worker process:\n{failure}")
        return list(results)


def _start_workers(function: Callable[[Any], Any], count: int) -> list[_Worker]:
    # Spawned, not forked: a copy of a process with threads (the progress bar has one) can hang.
    context = multiprocessing.get_context("spawn")
    # Ctrl-C reaches every process of the terminal. The workers are born with it blocked, their parent ends them. The
    # tracker, which multiprocessing starts with the first process, would undo the blocking: it goes first.
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        workers = []
        for _ in range(count):
            pipe, other_end = context.Pipe()
            process = context.Process(target=_work, args=(function, other_end), daemon=True)
            process.start()
            other_end.close()  # the worker's alone: when it dies, the pipe ends
            workers.append(_Worker(process, pipe))
        return workers
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _map_chunks(workers: list[_Worker], size: int, items: Iterable[Any]) -> Iterator[Any]:
    rest = iter(items)
    chunks = iter(lambda: list(islice(rest, size)), [])
    on_their_way: deque[_Worker] = deque()
    for chunk, worker in zip(chunks, cycle(workers), strict=False):
        if len(on_their_way) == len(workers) * _CHUNKS_PER_WORKER:
            yield from on_their_way.popleft().receive()
        worker.send(chunk)
        on_their_way.append(worker)
    while on_their_way:
        yield from on_their_way.popleft().receive()


def _work(function: Callable[[Any], Any], pipe: Connection) -> None:
    """The life of a worker, until its parent closes the pipe or is gone."""
    chunks: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
    # A thread takes what comes, so that parent and worker never both wait for the other to read.
    threading.Thread(target=_receive_chunks, args=(pipe, chunks), daemon=True).start()
    while True:
        chunk = chunks.get()
        try:
            answer: tuple[list[Any], str] = ([function(item) for item in chunk], "")
        except Exception:
            answer = ([], traceback.format_exc())
        try:
            pipe.send(answer)
        except OSError:  # the parent is gone, and this thread was the first to notice
            os._exit(0)


def _receive_chunks(pipe: Connection, chunks: queue.SimpleQueue[list[Any]]) -> None:
    while True:
        try:
            chunks.put(pipe.recv())
        except (EOFError, OSError):
            os._exit(0)
