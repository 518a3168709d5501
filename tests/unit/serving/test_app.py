"""Responses of the endpoints to valid requests."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from finrank import Ranker
from finrank.serving.app import make_app
from tests.helpers.serving_model import ASKED, CANDIDATES, DOCUMENTS, QUERY
from tests.helpers.valueless import LOOPED

RERANK = ["/v1/rerank", "/rerank", "/v2/rerank"]


def test_rank_returns_the_answers_of_the_ranker(client: TestClient, ranker: Ranker) -> None:
    response = client.post("/v1/rank", json={**ASKED, "candidates": CANDIDATES, "id": "q1"})
    assert response.status_code == 200
    body = response.json()
    expected = ranker.rank(**ASKED, candidates=CANDIDATES)
    assert [(one["answer"], one["index"], one["indices"], one["programs"]) for one in body["answers"]] == [
        (one.answer, one.index, one.indices, one.programs) for one in expected
    ]
    for name in ("probability", "score"):
        assert [one[name] for one in body["answers"]] == pytest.approx([getattr(one, name) for one in expected])
    assert (body["id"], body["model"], body["abstain"]) == ("q1", "tiny", False)
    assert (body["calibrated"], body["threshold"], body["warnings"]) == (False, None, [])
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 10


def test_evidence_is_where_the_best_program_reads(client: TestClient) -> None:
    body = client.post("/v1/rank", json={**ASKED, "candidates": CANDIDATES}).json()
    found = {one["answer"]: one["evidence"] for one in body["answers"]}
    assert found[94.0] == {"cells": [[1, 1], [1, 2]], "sentences": [0]}
    assert found[23.0] == {"cells": [[2, 0], [2, 1], [2, 2]], "sentences": []}
    alone = client.post("/v1/rank", json={**ASKED, "candidates": [94]}).json()["answers"][0]
    assert (alone["programs"], alone["evidence"]) == ([], {"cells": [], "sentences": []})


def test_cells_may_be_numbers_or_null(client: TestClient) -> None:
    tables = [[None, 2009], ["revenue", 5829], ["costs", 0.5]], [["", "2009"], ["revenue", "5829"], ["costs", "0.5"]]
    asked = {"question": "how much ?", "candidates": ["add(5829, 0.5)", "table_max(costs, none)", "yes"]}
    numbers, texts = (client.post("/v1/rank", json={**asked, "table": table}).json()["answers"] for table in tables)
    assert numbers == texts
    assert {one["answer"]: one["evidence"]["cells"] for one in numbers} == {
        5829.5: [[1, 1], [2, 1]], 0.5: [[2, 0], [2, 1]], "yes": []
    }  # fmt: skip


def test_every_form_of_candidate(client: TestClient) -> None:
    candidates = [5, "12.5%", "yes", {"answer": "no"}, {"program": "add(1, 2)", "answer": 9}, "divide(1, 0)", "what ?"]
    body = client.post("/v1/rank", json={"question": "how ?", "candidates": candidates}).json()
    assert {one["index"]: one["answer"] for one in body["answers"]} == dict(
        enumerate([5.0, 0.125, "yes", "no", 3.0, None, None])
    )
    assert sorted(one["index"] for one in body["answers"] if one["error"]) == [5, 6]


@pytest.mark.parametrize("path", RERANK)
def test_rerank_returns_one_result_per_document(client: TestClient, ranker: Ranker, path: str) -> None:
    asked = {"model": "any name", "query": QUERY, "documents": DOCUMENTS, "return_documents": True}
    body = client.post(path, json=asked).json()
    assert sorted(one["index"] for one in body["results"]) == [0, 1, 2, 3]
    relevance = [one["relevance_score"] for one in body["results"]]
    assert relevance == sorted(relevance, reverse=True)
    assert all(one["document"] == {"text": DOCUMENTS[one["index"]]} for one in body["results"])
    expected = ranker.rank(**ASKED, candidates=[*DOCUMENTS[:3], "table_sum(costs, none)"])
    probability = {index: answer.probability for answer in expected for index in answer.indices}
    assert {one["index"]: one["relevance_score"] for one in body["results"]} == pytest.approx(probability)
    assert probability[0] == probability[2], "equal answers share their probability"
    assert body["results"][0]["index"] == expected[0].index
    assert body["model"] == "tiny"
    assert body["id"]
    assert body["usage"]["total_tokens"] == body["meta"]["tokens"]["input_tokens"] > 10
    assert body["meta"]["api_version"]["version"] == ("2" if path.startswith("/v2") else "1")


@pytest.mark.parametrize("path", RERANK)
def test_a_page_in_another_form_ranks_alike_and_what_is_unclear_is_named(client: TestClient, path: str) -> None:
    def asked(query: str) -> tuple[Any, Any]:
        body = client.post(path, json={"query": query, "documents": DOCUMENTS}).json()
        return body["results"], body["meta"].get("warnings")

    markdown = "| | 2009 | 2008 |\n|---|---|---|\n| revenue | $ 5829 | $ 5735 |\n| costs | 11 | 12 |"
    page = f"**Context:**\nrevenue grew to 5829 .\n{markdown}\nnothing else .\n\n**Question:** {ASKED['question']}"
    results, warnings = asked(QUERY)
    assert asked(page) == (results, warnings)
    assert warnings is None
    results_of_unclear, (warning,) = asked(f"{ASKED['question']}\n{markdown}\nrevenue grew to 5829 .\nnothing else .")
    assert results_of_unclear == results
    assert "query, lines 6, 7" in warning


def test_documents_come_back_as_each_client_expects_it(client: TestClient) -> None:
    asked = {"query": QUERY, "documents": [{"text": "add(1, 2)", "title": "mine"}, "yes"]}
    for path, default in zip(RERANK, (True, True, False), strict=True):
        for given, wanted in ((None, default), (True, True), (False, False)):
            body = client.post(path, json={**asked, "return_documents": given}).json()
            assert all(("document" in one) == wanted for one in body["results"])


@pytest.mark.parametrize(("top_n", "count"), [(None, 4), (0, 4), (1, 1), (3, 3), (99, 4)])
def test_top_n(client: TestClient, top_n: int | None, count: int) -> None:
    everything = client.post("/v1/rerank", json={"query": QUERY, "documents": DOCUMENTS}).json()["results"]
    body = client.post("/v1/rerank", json={"query": QUERY, "documents": DOCUMENTS, "top_n": top_n}).json()
    assert body["results"] == everything[:count]


def test_a_program_counts_by_its_value_and_fields_of_other_servers_are_ignored(client: TestClient) -> None:
    documents = ["add(1, 2) = 9", "3", "divide(1, 0) = 3"]
    extra = {"max_tokens_per_doc": 4096, "priority": 0, "rank_fields": ["text"], "truncation": True, "user": None}
    body = client.post("/v1/rerank", json={"query": "how ?", "documents": documents, **extra}).json()
    assert len({one["relevance_score"] for one in body["results"]}) == 1, "all three have the value 3"


def test_what_has_no_value_is_answered_last_with_its_reason(client: TestClient) -> None:
    candidates = ["divide(1, 0)", "add(1, 2)", LOOPED]
    body = client.post("/v1/rank", json={"question": "how ?", "candidates": candidates}).json()
    assert [(one["index"], one["answer"]) for one in body["answers"]] == [(1, 3.0), (0, None), (2, None)]
    assert [(one["probability"], one["score"]) for one in body["answers"][1:]] == [(0.0, None)] * 2
    assert "division by zero" in body["answers"][1]["error"]
    alone = client.post("/v1/rank", json={"question": "how ?", "candidates": candidates[:1]}).json()
    assert (alone["abstain"], alone["usage"]["total_tokens"]) == (True, 0)


@pytest.mark.parametrize("path", RERANK)
def test_documents_without_a_value_are_last_and_named_in_a_warning(client: TestClient, path: str) -> None:
    documents = ["divide(1, 0)", *DOCUMENTS, LOOPED]
    body = client.post(path, json={"query": QUERY, "documents": documents}).json()
    alone = client.post(path, json={"query": QUERY, "documents": DOCUMENTS}).json()
    pairs = [(one["index"], one["relevance_score"]) for one in body["results"]]
    assert pairs == [*((one["index"] + 1, one["relevance_score"]) for one in alone["results"]), (0, 0.0), (5, 0.0)]
    first, second = body["meta"]["warnings"]
    assert first.startswith("document 0: step 0: ")
    assert re.fullmatch(r"document 5: \d+ tokens, at most \d+ fit beside the question", second)
    assert "warnings" not in alone["meta"]


def test_health_and_the_description(client: TestClient) -> None:
    before = client.get("/health").json()
    client.post("/v1/rank", json={"question": "how ?", "candidates": ["yes"]})
    after = client.get("/health").json()
    assert client.head("/health").status_code == 200
    assert (after["status"], after["model"], after["waiting"]) == ("ok", "tiny", 0)
    assert after["requests"] == before["requests"] + 1
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/v1/rank", *RERANK, "/health"}
    assert all("422" not in route["post"]["responses"] for path, route in paths.items() if path != "/health")


def test_the_pages_need_no_other_server(client: TestClient) -> None:
    for path in ("/", "/index.html", "/docs"):
        response = client.get(path)
        assert response.status_code == client.head(path).status_code == 200
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
    docs = client.get("/docs").text
    assert "<script" not in docs
    assert all(f"POST {path}" in docs for path in ("/v1/rank", *RERANK))
    script = client.get("/page.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert client.get("/page.js", headers={"if-none-match": script.headers["etag"]}).status_code == 304
    assert client.get("/../app.py").status_code == client.get("/%2e%2e/app.py").status_code == 404


def test_the_description_names_the_key_where_one_is_needed(client: TestClient, ranker: Ranker) -> None:
    with TestClient(make_app(ranker, "tiny", key="secret"), base_url="http://localhost") as guarded:
        described = guarded.get("/openapi.json").json()
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path in ("/v1/rank", *RERANK):
        assert described["paths"][path]["post"]["security"] == [{"HTTPBearer": []}]
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


def test_the_origin_of_a_candidate_reaches_the_ranker(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    origins: list[list[str]] = []

    def unlike(prepared: Any) -> list[str]:
        origins.append([candidate.origin for candidate in prepared.candidates])
        return []

    monkeypatch.setattr(ranker, "unlike_fitted", unlike)
    candidates = [{"program": "add(1, 2)", "origin": "sampled"}, {"answer": 5, "origin": "gold"}, "yes"]
    with TestClient(make_app(ranker, "tiny"), base_url="http://localhost") as client:
        assert client.post("/v1/rank", json={"question": "how ?", "candidates": candidates}).status_code == 200
    assert origins == [["sampled", "gold", "imported"]]
