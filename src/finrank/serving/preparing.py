"""Work on requests that needs no model: a thread for ordinary requests, and one for large ones.

A large request takes a thousand times as long to read as an ordinary one, which therefore never waits behind it. Work
for a caller that has gone is skipped or, where it goes from item to item, stops at the next one.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

_LARGE = 32 * 1024  # bytes of a body; a page of a report with its candidates has 5 to 10 KiB

T = TypeVar("T")
Item = TypeVar("Item")


class WhileWanted(Protocol):
    """Hands on items as long as somebody waits for what is made of them."""

    def __call__(self, items: Iterable[Item], /) -> Iterator[Item]:
        """The items; raises in between once nobody waits."""


class Preparing:
    """Runs work in the order of arrival, that for ordinary and for large requests side by side."""

    def __init__(self) -> None:
        self._ordinary, self._large = _Lane("preparing"), _Lane("preparing large ones")

    def start(self) -> None:
        """Start both threads."""
        self._ordinary.thread.start()
        self._large.thread.start()

    def stop(self, seconds: float) -> None:
        """Finish what waits, then end both threads; after `seconds` the rest is abandoned."""
        until = time.monotonic() + seconds
        for lane in (self._ordinary, self._large):
            lane.waiting.put(None)
        for lane in (self._ordinary, self._large):
            lane.thread.join(max(0.0, until - time.monotonic()))

    async def run(self, size: int, work: Callable[[WhileWanted], T]) -> T:
        """The result of work for a request of this many bytes.

        `work` gets a function for the items that it goes through: once the caller is cancelled, it ends the work.
        """
        done: Future[T] = Future()
        gone = threading.Event()

        def while_wanted(items: Iterable[Item]) -> Iterator[Item]:
            for item in items:
                if gone.is_set():
                    raise _NobodyWaits
                yield item

        lane = self._large if size > _LARGE else self._ordinary
        lane.waiting.put((lambda: work(while_wanted), done))
        try:
            return await asyncio.wrap_future(done)
        except asyncio.CancelledError:
            gone.set()
            raise


class _NobodyWaits(Exception):
    """The caller was cancelled."""


class _Lane:
    """A thread and the work that waits for it."""

    def __init__(self, name: str) -> None:
        self.waiting: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        # A daemon: work that never ends must not hold up the end of the process.
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)

    def _work(self) -> None:
        while (item := self.waiting.get()) is not None:
            work, done = item
            if done.set_running_or_notify_cancel():  # false: its caller has gone
                try:
                    done.set_result(work())
                except BaseException as error:
                    done.set_exception(error)
            del item, work, done  # what a request held is not kept until the next one
