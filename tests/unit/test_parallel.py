"""Several processes: the results of one, in order, little read ahead, and nothing left running."""

from __future__ import annotations

import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from finrank.errors import UserError
from finrank.parallel import number_of_workers, ordered_map


def add(number: int, more: int) -> int:
    return number + more


def repeat(text: str, times: int) -> str:
    return text * times


def fail_at(number: int, bad: int) -> int:
    if number == bad:
        raise ValueError(f"{number} is bad")
    return number


def die_at(number: int, bad: int) -> int:
    if number == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_items_are_taken_as_they_are_needed(workers: int) -> None:
    items = iter(range(2000))
    with ordered_map(partial(add, more=10), workers) as added:
        results = added(items)
        assert [next(results) for _ in range(100)] == list(range(10, 110))
        assert operator.length_hint(items) >= 1500
        assert list(results) == list(range(110, 2010))
        assert list(added([])) == []
        assert list(added([1])) == [11]  # the same workers again


def process_of(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize(("chunk", "processes"), [(1, 2), (2, 1)])
def test_large_items_go_to_the_workers_one_by_one(chunk: int, processes: int) -> None:
    with ordered_map(process_of, 2, chunk=chunk) as ran_in:
        assert len(set(ran_in([0, 1]))) == processes


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_function_raises_is_raised(workers: int) -> None:
    error = ValueError if workers == 1 else RuntimeError
    with pytest.raises(error, match="70 is bad"), ordered_map(partial(fail_at, bad=70), workers) as tried:
        list(tried(range(1000)))


@pytest.mark.parametrize("bad", [0, 70, 999])
def test_a_worker_that_dies_is_an_error_that_says_what_to_do(bad: int) -> None:
    with pytest.raises(UserError, match="fewer --workers"), ordered_map(partial(die_at, bad=bad), 2) as tried:
        list(tried(range(1000)))


def test_a_worker_killed_while_it_sends_is_an_error_too() -> None:
    with ordered_map(partial(repeat, times=100_000), 2) as repeated:
        results = repeated("ab" * 1000)
        next(results)
        time.sleep(0.5)  # by now both wait for their pipe to be read: it holds less than a chunk of results
        for process in multiprocessing.active_children():
            process.kill()
        with pytest.raises(UserError, match="fewer --workers"):
            list(results)


def test_chunks_larger_than_the_pipe_both_ways_do_not_lock() -> None:
    items = ["x" * 100_000] * 400
    with ordered_map(partial(repeat, times=2), 2) as repeated:
        assert all(len(result) == 200_000 for result in repeated(items))


def test_numbers_of_workers() -> None:
    assert number_of_workers(3) == 3
    assert 1 <= number_of_workers(0) <= (os.cpu_count() or 1)
    with pytest.raises(UserError, match="--workers is -1"):
        number_of_workers(-1)


WAITING = """
import multiprocessing
from functools import partial
from finrank.parallel import ordered_map
from tests.unit.test_parallel import add
if __name__ == "__main__":
    with ordered_map(partial(add, more=1), 2) as added:
        results = added(iter(int, 1))
        next(results)
        print(*(process.pid for process in multiprocessing.active_children()), flush=True)
        for _ in results:
            pass
"""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-C", "killed"])
def test_workers_end_with_their_parent(end: signal.Signals) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", WAITING], text=True, start_new_session=True, **pipes)
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    # a terminal sends Ctrl-C to every process of the group
    (os.killpg if end is signal.SIGINT else os.kill)(process.pid, end)
    _, errors = process.communicate(timeout=30)
    assert errors.count("Traceback") == (1 if end is signal.SIGINT else 0), errors  # the parent's alone
    waited_until = time.monotonic() + 30
    while any(map(_is_alive, workers)) and time.monotonic() < waited_until:
        time.sleep(0.05)
    assert not any(map(_is_alive, workers))
