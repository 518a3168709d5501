"""Concurrent requests, scored together.

One thread owns the model. Whenever it is free it takes, in the order of arrival, as many waiting requests as fit the
token budget. Nothing waits for a batch to fill: a lone request is scored at once, and the next batch gathers while one
is being scored. A batch for which nobody waits any more ends before its next pass.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from finrank.ranker.ranker import Prepared

Scores = NDArray[np.float64]
Score = Callable[[Sequence["Prepared"], Callable[[], None]], list[Scores]]


@dataclass(frozen=True)
class _Job:
    prepared: Prepared
    scores: Future[Scores] = field(default_factory=Future)
    gone: threading.Event = field(default_factory=threading.Event)  # set once nobody waits for the scores


class _NobodyWaits(Exception):
    """The callers of a whole batch were cancelled."""


class Batcher:
    """Gathers requests and scores them on one thread, between `start` and `stop`."""

    def __init__(self, score: Score, batch_tokens: int) -> None:
        """`score` returns one array of scores per request and is called from one thread only.

        It calls its second argument now and then, which raises to end work that nobody waits for.
        """
        self._score, self._batch_tokens = score, batch_tokens
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        # A daemon: work that never ends must not hold up the end of the process.
        self._model_thread = threading.Thread(target=self._score_all, name="model", daemon=True)
        self.requests = 0  # scored so far
        self.batches = 0  # in which they were scored
        self.tokens = 0  # of all these batches

    @property
    def waiting(self) -> int:
        """Requests that wait for the model, those being scored not included."""
        return len(self._waiting)

    def start(self) -> None:
        """Start the thread."""
        self._model_thread.start()

    def stop(self, seconds: float) -> None:
        """Finish the waiting requests, then end the thread; after `seconds` the rest is abandoned."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._model_thread.join(seconds)

    async def score(self, prepared: Prepared) -> Scores:
        """Scores [candidates] of a request, once its batch is done.

        A caller that is cancelled leaves the queue; once all callers of a batch are, its work ends.
        """
        job = _Job(prepared)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()
        try:
            return await asyncio.wrap_future(job.scores)
        except asyncio.CancelledError:
            job.gone.set()
            raise

    def _score_all(self) -> None:
        while batch := self._next_batch():
            self._score_batch(batch)
            batch.clear()  # what a request held is not kept until the next one

    def _next_batch(self) -> list[_Job]:
        """The next requests to score, as soon as there are any; empty once the batcher stops."""
        with self._changed:
            while True:
                batch: list[_Job] = []
                tokens = 0
                while self._waiting and (not batch or tokens + self._waiting[0].prepared.tokens <= self._batch_tokens):
                    job = self._waiting.popleft()
                    if job.scores.set_running_or_notify_cancel():  # false: its client has gone
                        batch.append(job)
                        tokens += job.prepared.tokens
                if batch or self._stopping:
                    return batch
                self._changed.wait()

    def _score_batch(self, batch: list[_Job]) -> None:
        def while_wanted() -> None:
            if all(job.gone.is_set() for job in batch):
                raise _NobodyWaits

        try:
            results = self._score([job.prepared for job in batch], while_wanted)
        except Exception as error:
            if len(batch) == 1:
                batch[0].scores.set_exception(error)
                return
            for job in batch:  # the fault of one request, such as its memory, must not fail the others
                self._score_batch([job])
            return
        self.requests += len(batch)
        self.batches += 1
        self.tokens += sum(job.prepared.tokens for job in batch)
        for job, scores in zip(batch, results, strict=True):
            job.scores.set_result(scores)
