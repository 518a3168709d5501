"""Requests that schemathesis makes up from /openapi.json, valid and invalid: no 5xx, and responses as described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from finrank import Ranker
from finrank.serving.app import make_app
from tests.helpers.live_server import running

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.core.failures import FailureGroup  # noqa: E402  (needs the library)
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def described(ranker: Ranker) -> Iterator[Any]:
    """What a live server says of its endpoints."""
    with running(make_app(ranker, "tiny")) as live:
        yield schemathesis.openapi.from_url(f"{live.url}/openapi.json")


VALID, INVALID = schemathesis.GenerationMode
POST_PATHS = ("/v1/rank", "/v1/rerank", "/rerank", "/v2/rerank")
CASES = [("GET", "/health", VALID), *(("POST", path, mode) for path in POST_PATHS for mode in (VALID, INVALID))]


@pytest.mark.parametrize(("method", "path", "mode"), CASES, ids=str)
def test_made_up_requests(described: Any, method: str, path: str, mode: Any) -> None:
    @settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(described[path][method].as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        # A description cannot say all: a query without a question fits it, and gets a 400.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    call()


def test_a_5xx_is_seen(described: Any, ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranker, "ranking", lambda *_: 1 / 0)
    case = described["/v1/rank"]["POST"].Case(body={"question": "how ?", "candidates": ["add(1, 2)"]})
    with pytest.raises(FailureGroup, match="Server error"):
        case.call_and_validate()
