"""/metrics, as Prometheus reads it."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from finrank import Ranker
from finrank.serving.app import make_app
from tests.helpers.live_server import SlowScoring, running, wait_until
from tests.helpers.serving_model import ASKED, CANDIDATES, DOCUMENTS, QUERY

parser = pytest.importorskip("prometheus_client.parser")
REQUEST: dict[str, Any] = {**ASKED, "candidates": CANDIDATES}
KEY = "a key of sixteen or more characters"


@pytest.fixture
def client(ranker: Ranker) -> Iterator[TestClient]:
    with TestClient(make_app(ranker, "tiny"), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def read(client: Any) -> dict[tuple[str, ...], float]:
    """Every sample of /metrics by its name and the values of its labels."""
    text = client.get("/metrics").text
    families = parser.text_string_to_metric_families(text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_requests_are_counted_by_path_and_status(client: TestClient) -> None:
    for _ in range(3):
        assert client.post("/v1/rank", json=REQUEST).status_code == 200
    assert client.post("/v1/rank", json={}).status_code == 400
    assert client.post("/rerank", json={"query": QUERY, "documents": DOCUMENTS}).status_code == 200
    found = read(client)
    assert found["finrank_requests_total", "/v1/rank", "200"] == 3
    assert found["finrank_requests_total", "/v1/rank", "400"] == 1
    assert found["finrank_requests_total", "/rerank", "200"] == 1
    assert found["finrank_request_seconds_count", "/v1/rank"] == 4
    assert 0 < found["finrank_request_seconds_sum", "/v1/rank"] < 60
    service = client.app.state.service  # type: ignore[attr-defined]
    assert found["finrank_batch_tokens_count",] == 4
    assert found["finrank_batch_tokens_sum",] == service.batcher.tokens > 100
    assert found["process_resident_memory_bytes",] > 1e6


def test_strangers_add_no_labels(client: TestClient) -> None:
    for number in range(5):
        client.get(f"/{number}", headers={"host": "localhost"})
        client.request(f"M{number}", f"/v1/rank/{number}?id={number}")
    labels = {key[1] for key in read(client) if key[0] == "finrank_requests_total"}
    assert labels == {"other"}
    found = read(client)
    assert found["finrank_requests_total", "other", "404"] == 10
    assert found["finrank_requests_total", "other", "200"] == 1, "the first look at /metrics"


def test_a_failure_counts_as_500(client: TestClient, ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(ranker, "score", broken)
    monkeypatch.setattr(client.app.state.service.batcher, "_score", broken)  # type: ignore[attr-defined]
    assert client.post("/v1/rank", json=REQUEST).status_code == 500
    assert read(client)["finrank_requests_total", "/v1/rank", "500"] == 1


def test_the_queue_and_what_is_in_progress(ranker: Ranker, slow: SlowScoring) -> None:
    with running(make_app(ranker, "tiny")) as live, httpx.Client(base_url=live.url) as client:
        asks = partial(httpx.post, f"{live.url}/v1/rank", json=REQUEST)
        senders = [threading.Thread(target=asks) for _ in range(3)]
        senders[0].start()
        assert slow.begun.wait(20)
        for sender in senders[1:]:
            sender.start()
        wait_until(lambda: live.service.batcher.waiting == 2)
        found = read(client)
        slow.go.set()
        for sender in senders:
            sender.join(20)
    assert found["finrank_queue_length",] == 2
    assert found["finrank_requests_in_progress",] == 3


def test_with_a_key_metrics_need_it_and_health_does_not(ranker: Ranker) -> None:
    with TestClient(make_app(ranker, "tiny", key=KEY), base_url="http://localhost") as guarded:
        assert guarded.get("/metrics").status_code == 401
        assert guarded.head("/metrics").status_code == 401
        assert guarded.get("/health").status_code == 200
        right = guarded.get("/metrics", headers={"authorization": f"Bearer {KEY}"})
        assert right.status_code == 200
        assert right.headers["content-type"].startswith("text/plain; version=")
        assert right.headers["cache-control"] == "no-cache"


def test_without_the_library_there_is_no_endpoint(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "finrank.serving.prometheus.find_spec", lambda name: None if name == "prometheus_client" else find(name)
    )
    app = make_app(ranker, "tiny")
    assert "finrank[metrics]" in app.state.metrics
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/metrics").status_code == 404
        assert client.post("/v1/rank", json=REQUEST).status_code == 200


def test_counting_costs_next_to_nothing(ranker: Ranker) -> None:
    """Less than a tenth of a millisecond of a request's milliseconds."""
    app = make_app(ranker, "tiny")
    count: Any = app.user_middleware[0].kwargs["count"]
    began = time.perf_counter()
    for _ in range(2000):
        count("/v1/rank", 200, 0.01)
    assert (time.perf_counter() - began) / 2000 < 1e-4
