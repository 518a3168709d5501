"""10,000 damaged requests (a tenth without FINRANK_FUZZ=full): a 2xx or a 4xx of the one error shape, never a 5xx."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from fastapi.testclient import TestClient

from finrank import Ranker
from tests.helpers.json_mutations import damaged_line, rounds
from tests.helpers.serving_model import ASKED, CANDIDATES, DOCUMENTS, QUERY

pytestmark = pytest.mark.slow

RANK = {**ASKED, "id": "q", "candidates": [*CANDIDATES, {"program": "add(1, 2)", "model": "a"}]}
RERANK = {"query": QUERY, "documents": [*DOCUMENTS, {"text": "94"}], "top_n": 2, "return_documents": True}
TARGETS = [("/v1/rank", RANK), ("/v1/rerank", RERANK), ("/v2/rerank", RERANK), ("/rerank", RERANK)]
ODD_HEADERS = [
    *({"content-type": kind} for kind in ("text/plain", "application/json; charset=utf-16", "", "\xff", "x" * 5000)),
    *({"content-encoding": "gzip"}, {"transfer-encoding": "chunked"}, {"content-length": "-1"}, {"host": "\xff"}),
    *({"authorization": "Bearer \xff"}, {"accept": "text/html"}, {"x-request-id": "\x1b[31m"}, {"origin": "null"}),
]


def complaint(response: Any) -> str | None:
    """What is wrong with a response; None for a right one."""
    if response.is_success:
        body = json.loads(response.content, parse_constant=lambda name: f"not JSON: {name}")
        return None if "not JSON" not in str(body) and (body.get("answers") or body.get("results")) else "no answers"
    error = response.json().get("error", {}) if 400 <= response.status_code < 500 else {}
    whole = set(error) == {"type", "message", "field"} and error["message"]
    return None if whole else f"{response.status_code} {response.text[:200]}"


def test_damaged_requests_get_an_answer_or_a_4xx(client: TestClient) -> None:
    rng = random.Random(0)
    statuses: Counter[int] = Counter()
    for _ in range(rounds(10_000)):
        path, valid = rng.choice(TARGETS)
        headers = {"content-type": "application/json"} | (rng.choice(ODD_HEADERS) if rng.random() < 0.1 else {})
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        body = damaged_line(valid, rng)
        response = client.post(path, content=body, headers=encoded)
        assert complaint(response) is None, (path, headers, body[:2000], complaint(response))
        statuses[response.status_code] += 1
    assert min(statuses[200], statuses[400]) > statuses.total() // 10


def test_a_5xx_would_be_seen(client: TestClient, ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranker, "ranking", lambda *_: 1 / 0)
    response = client.post("/v1/rank", json=RANK)
    assert str(complaint(response)).startswith("500")
