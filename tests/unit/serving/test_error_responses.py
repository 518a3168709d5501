"""Malformed requests of every kind get a 4xx that says what to do, and never a 5xx."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from finrank.serving.schemas import RankRequest, RerankRequest
from tests.helpers.serving_model import ASKED, QUERY

JSON = {"content-type": "application/json"}


def error_of(response: Any) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"type", "message", "field"}
    assert body["error"]["message"]
    return dict(body["error"])


RANK_FAULTS = [
    ({"question": ""}, "question", "at least 1 character"),
    ({"question": 5}, "question", "valid string"),
    ({"question": "\ud800"}, "question", "unicode"),
    ({"table": "a | b"}, "table", "valid list"),
    ({"table": [["a", True]]}, "table.0.1", "valid string"),
    ({"text": "a sentence ."}, "text", "valid list"),
    ({"candidates": []}, "candidates", "at least 1 item"),
    ({"question": " \n"}, "question", "not blank"),
    ({"table": 5, "text": 5}, "table", "and 1 more fault"),
    ({"question": "how ? " * 1000}, None, "alone does not fit max_length"),
    ({"id": 5}, "id", "valid string"),
    ({"id": "q\ud800"}, "id", "half a surrogate pair"),
    ({"candidate": "yes"}, "candidate", "Extra inputs"),
]
RERANK_FAULTS = [
    ({"query": None}, "query", "valid string"),
    ({"query": "table:\na | b"}, "query", "no question"),
    ({"query": " | 2009\nrevenue | 5"}, "query", "no question"),
    ({"documents": "yes"}, "documents", "valid list"),
    ({"documents": []}, "documents", "at least 1 item"),
    ({"top_n": -1}, "top_n", "greater than or equal to 0"),
    ({"top_n": "many"}, "top_n", "valid integer"),
    ({"top_n": "2"}, "top_n", "valid integer"),
    ({"top_n": True}, "top_n", "valid integer"),
    ({"return_documents": 0.0}, "return_documents", "valid boolean"),
]
PATHS = {"/v1/rank": RANK_FAULTS, **dict.fromkeys(["/v1/rerank", "/rerank", "/v2/rerank"], RERANK_FAULTS)}


@pytest.mark.parametrize(("path", "fault"), [(path, fault) for path, faults in PATHS.items() for fault in faults])
def test_a_field_at_fault_is_named(client: TestClient, path: str, fault: tuple[Any, str | None, str]) -> None:
    change, field, message = fault
    valid = {**ASKED, "candidates": ["yes"]} if path == "/v1/rank" else {"query": QUERY, "documents": ["yes"]}
    response = client.post(path, content=json.dumps({**valid, **change}), headers=JSON)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["type"], error["field"]) == ("invalid_request", field)
    assert message in error["message"]


def test_a_candidate_that_cannot_be_read_costs_no_request(client: TestClient) -> None:
    odd: list[Any] = [
        True,
        None,
        [],
        {},
        {"programme": "add(1, 2)"},
        {"answer": "many"},
        {"error": "timeout"},
        "?",
    ]
    odd += [{"program": "add(1, 2)", "origin": "mine"}, {"origin": "gold"}, float("nan"), 10**400, [[]], "\ud800", "+5"]
    body = json.dumps({**ASKED, "candidates": odd})
    response = client.post("/v1/rank", content=body, headers=JSON)
    assert response.status_code == 200, response.text
    answers = {answer["answer"]: answer for answer in response.json()["answers"] if answer["answer"] is not None}
    assert {value: answer["indices"] for value, answer in answers.items()} == {"yes": [0], 3.0: [8], 5.0: [14]}
    assert all(answer["error"] for answer in response.json()["answers"] if answer["answer"] is None)
    for path in ("/v1/rerank", "/rerank", "/v2/rerank"):
        response = client.post(path, content=json.dumps({"query": QUERY, "documents": odd}), headers=JSON)
        assert response.status_code == 200, response.text
        assert {result["index"] for result in response.json()["results"]} == set(range(len(odd)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Field required"),
        (b"{", "not JSON"),
        (b"[]", "dictionary"),
        (b"\xff\xfe{", "send JSON in UTF-8"),
        (b"[" * 100_000, "nesting"),
        (b'{"candidates": [1' + b"0" * 5000 + b"]}", "numbers beyond reason"),
        (b'{"question": "a", "\\ud800": 1, "candidates": ["a"]}', ""),
        (b'{"question": "a", "question": "b", "candidates": ["a"]}', "'question' occurs twice"),
        (b'{"question": "a", "candidates": [{"answer": 1, "answer": 2}]}', "'answer' occurs twice"),
        (json.dumps({str(number): 1 for number in range(100)}).encode(), "100 names"),
    ],
)
def test_a_body_that_is_no_request(client: TestClient, body: bytes, message: str) -> None:
    response = client.post("/v1/rank", content=body, headers=JSON)
    assert response.status_code == 400
    assert message in error_of(response)["message"]


def test_other_paths_methods_and_types(client: TestClient) -> None:
    for method, path, status, kind in [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v3/rerank", 404, "not_found"),
        ("GET", "/v1/rank", 405, "method_not_allowed"),
        ("PUT", "/v1/rerank", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
    ]:
        response = client.request(method, path, headers=JSON)
        assert (response.status_code, error_of(response)["type"]) == (status, kind)
    for headers, message in [
        ({"content-type": "text/plain"}, "application/json"),
        ({**JSON, "content-encoding": "gzip"}, "'gzip'"),
    ]:
        response = client.post("/v1/rank", content=b"{}", headers=headers)
        assert response.status_code == 415
        assert message in error_of(response)["message"]
    asked = json.dumps({**ASKED, "candidates": ["yes"]})
    assert client.post("/v1/rank", content=asked, headers={**JSON, "content-encoding": "identity"}).is_success


@pytest.mark.parametrize("field", ["table", "text", "candidates", "documents"])
def test_faults_without_number_are_not_all_written_down(field: str) -> None:
    everywhere: list[list[Any]] = [[[]] * 9_000, [5.5] * 9_000, [[5.5] * 9_000], [None] * 9_000]
    for faults in everywhere:
        body = {"question": "a", "query": "a", "candidates": ["a"], "documents": ["a"], field: faults}
        for model in (RankRequest, RerankRequest):
            relevant = {name: value for name, value in body.items() if name in model.model_fields}
            assert number_of_faults(model, relevant) <= 5  # the forms of one candidate


def number_of_faults(model: type[BaseModel], body: dict[str, Any]) -> int:
    try:
        model.model_validate(body)
        return 0
    except ValidationError as error:
        return error.error_count()


PROGRAMS = "add(1, 2)|divide(1, 0)|exp(9, 99999)|table_sum(a, none)|yes|1e999|= 5|a\ntable:\nb|#0|"
TEXTS = st.text(max_size=8) | st.sampled_from(PROGRAMS.split("|"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMED = st.fixed_dictionaries({}, optional={"program": TEXTS | VALUES, "answer": TEXTS | VALUES, "text": TEXTS})
CANDIDATES = st.lists(TEXTS | st.floats() | NAMED | VALUES, max_size=4)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "question": TEXTS,
    "table": st.lists(st.lists(TEXTS, max_size=3), max_size=3),
    "text": st.lists(TEXTS, max_size=3),
    "candidates": CANDIDATES,
    "query": TEXTS,
    "documents": CANDIDATES,
    "top_n": st.integers(),
    "return_documents": VALUES,
    "id": VALUES,
}
LIKE_A_REQUEST = st.fixed_dictionaries({}, optional={name: field | VALUES for name, field in FIELDS.items()})


@settings(max_examples=300, deadline=None)
@given(path=st.sampled_from(["/v1/rank", "/v1/rerank", "/v2/rerank"]), body=LIKE_A_REQUEST | VALUES)
def test_no_body_of_json_breaks_the_server(client: TestClient, path: str, body: Any) -> None:
    response = client.post(path, content=json.dumps(body), headers=JSON)
    assert response.status_code in (200, 400), response.text
    if response.status_code == 400:
        error_of(response)


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-16")))
def test_no_bytes_break_the_server(client: TestClient, body: bytes) -> None:
    response = client.post("/v1/rank", content=body, headers=JSON)
    assert response.status_code == 400, response.text
    error_of(response)
