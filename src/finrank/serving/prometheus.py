"""/metrics: what Prometheus reads of the service, where the package prometheus_client is installed.

    finrank_requests_total{path="/v1/rank",status="200"} 17.0
    finrank_request_seconds_bucket{le="0.05",path="/v1/rank"} 15.0
    finrank_requests_in_progress 2.0          accepted and not yet answered, at most --max_waiting
    finrank_queue_length 1.0                  of these, waiting for the model
    finrank_batch_tokens_sum 5120.0           with _count, the batches: tokens of an average batch
    process_resident_memory_bytes, process_cpu_seconds_total, process_open_fds, …

Paths are those of the endpoints in /openapi.json; whatever else strangers ask for is counted as "other".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

from fastapi import FastAPI, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finrank.serving.batching import Batcher
from finrank.serving.guard import METRICS_PATH, Traffic

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_CLIENT_GONE = 499  # nginx's status for a client that did not wait for its answer


def add_metrics(app: FastAPI, traffic: Traffic, batcher: Batcher) -> str:
    """Count the requests of an app with all its endpoints, and add /metrics; returns where it is, or why it is not."""
    if find_spec("prometheus_client") is None:
        return "none, pip install 'finrank[metrics]' adds them"
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        ProcessCollector,
        generate_latest,
    )

    registry = CollectorRegistry()  # of this app: several of them may be in one process
    requests = Counter("finrank_requests", "Requests answered", ["path", "status"], registry=registry)
    seconds = Histogram("finrank_request_seconds", "Seconds to answer", ["path"], buckets=_SECONDS, registry=registry)
    in_progress = Gauge("finrank_requests_in_progress", "Requests accepted, not yet answered", registry=registry)
    in_progress.set_function(lambda: traffic.waiting)
    queue = Gauge("finrank_queue_length", "Requests that wait for the model", registry=registry)
    queue.set_function(lambda: batcher.waiting)
    registry.register(_BatchTokens(batcher))
    ProcessCollector(registry=registry)

    def count(path: str, status: int, took: float) -> None:
        requests.labels(path, str(status)).inc()
        seconds.labels(path).observe(took)

    app.add_middleware(_Counted, paths=frozenset(app.openapi()["paths"]), count=count)

    @app.get(METRICS_PATH, include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return METRICS_PATH


class _BatchTokens:
    """Reads the batcher's own counts whenever Prometheus asks, so that scoring need not know of it."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import SummaryMetricFamily

        batcher = self._batcher
        yield SummaryMetricFamily("finrank_batch_tokens", "Tokens scored together", batcher.batches, batcher.tokens)


class _Counted:
    """ASGI middleware around all others: hands path, status and seconds of every request to `count`."""

    def __init__(self, app: ASGIApp, *, paths: frozenset[str], count: Callable[[str, int, float], None]) -> None:
        self._app, self._paths, self._count = app, paths, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = time.perf_counter()
        status = _CLIENT_GONE

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            status = 500  # sent by starlette, outside of all middleware
            raise
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._count(path, status, time.perf_counter() - began)
