"""One reader of candidates: every case of the table of readings, through every interface, is read as the table says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from finrank import Ranker
from finrank.commands.import_predictions import import_predictions
from finrank.commands.rank import rank
from finrank.commands.sample import sample
from finrank.page.query_text import write_query
from finrank.records import Candidate, Pool, Question
from finrank.serving.app import make_app
from finrank.store import load_records
from tests.helpers.endpoint_stub import Answer, serving
from tests.helpers.readings import QUESTION, READINGS, TABLE, Reading, name_of
from tests.helpers.sampling import rejects
from tests.helpers.saved_ranker import save_tiny_ranker

# A text of 100,000 characters is read, but makes a slow request; the unit tests have it.
CASES = [case for case in READINGS if len(str(case.given)) < 1_000]
PAGE: dict[str, Any] = {"question": QUESTION, "table": TABLE, "text": []}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ranker(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def ranker(model: Path) -> Ranker:
    return Ranker.from_pretrained(model, device="cpu")


@pytest.fixture(scope="module")
def client(ranker: Ranker) -> Iterator[TestClient]:
    with TestClient(make_app(ranker, "tiny"), base_url="http://localhost") as client:
        yield client


def request_of(case: Reading) -> dict[str, Any]:
    return {**PAGE, "candidates": [case.given]}


def check(case: Reading, answer: Any, programs: list[str], error: str | None) -> None:
    """The one answer of a request with the case as its only candidate."""
    assert answer == case.answer, name_of(case)
    if case.answer is None:
        assert error, name_of(case)
    elif case.program is not None:
        assert programs == [case.program], name_of(case)
    else:
        assert error or not programs, name_of(case)  # a program that fails beside the answer


def test_ranker(ranker: Ranker) -> None:
    for case, answers in zip(CASES, ranker.rank_many(map(request_of, CASES)), strict=True):
        (answer,) = answers
        check(case, answer.answer, answer.programs, answer.error)


def test_finrank_rank(model: Path, tmp_path: Path) -> None:
    source, ranked = tmp_path / "requests.jsonl", tmp_path / "ranked.jsonl"
    source.write_text("".join(json.dumps(request_of(case)) + "\n" for case in CASES), encoding="utf-8")
    assert rank(str(model), source, ranked)["ranked"] == len(CASES)
    for case, line in zip(CASES, ranked.read_text(encoding="utf-8").splitlines(), strict=True):
        (answer,) = json.loads(line)["answers"]
        check(case, answer["answer"], answer["programs"], answer.get("error"))


def test_v1_rank(client: TestClient) -> None:
    for case in CASES:
        response = client.post("/v1/rank", json=request_of(case))
        assert response.status_code == 200, response.text
        (answer,) = response.json()["answers"]
        check(case, answer["answer"], answer["programs"], answer["error"])


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank(client: TestClient, path: str) -> None:
    """Documents of equal answers share their relevance: with a program of the expected value, and with no other."""
    for case in CASES if path == "/rerank" else CASES[::5]:
        same = f"add({case.answer}, 0)" if isinstance(case.answer, float) else "greater(2, 1)"
        if case.answer == "no":
            same = "greater(1, 2)"
        documents = [case.given, same, "add(777, 0)"]
        response = client.post(path, json={"query": write_query(**PAGE), "documents": documents})
        assert response.status_code == 200, response.text
        results = {result["index"]: result["relevance_score"] for result in response.json()["results"]}
        assert len(results) == 3
        assert (results[0] == results[1]) == (case.answer is not None), name_of(case)
        assert results[0] != results[2], name_of(case)


def predictions_of(case: Reading) -> list[dict[str, Any]]:
    """The case in each of the forms in which a file of predictions may hold it."""
    if isinstance(case.given, str):
        return [{key: case.given} for key in ("program", "answer", "text")]
    if isinstance(case.given, dict):
        return [case.given] if case.given and "programme" not in case.given else []
    return [{"predicted": case.given}] if isinstance(case.given, list) and case.given else [{"answer": case.given}]


def test_finrank_import(tmp_path: Path) -> None:
    asked = [(case, said) for case in CASES for said in predictions_of(case)]
    questions = [Question(id=f"q{number}", page="p", **PAGE) for number in range(len(asked))]
    data = tmp_path / "data"
    data.mkdir()
    (data / "dev.jsonl").write_text("".join(question.model_dump_json() + "\n" for question in questions))
    lines = [json.dumps({"id": f"q{number}", **said}) for number, (_, said) in enumerate(asked)]
    (tmp_path / "said.jsonl").write_text("\n".join(lines))
    import_predictions([tmp_path / "said.jsonl"], tmp_path / "pools", data=data)
    for (case, _), pool in zip(asked, load_records(tmp_path / "pools" / "dev.jsonl", Pool), strict=True):
        check_candidate(case, *pool.candidates)


def test_finrank_sample(tmp_path: Path) -> None:
    cases = [case for case in CASES if isinstance(case.given, str)]
    questions = [
        Question(id=f"q{number}", page="p", **PAGE | {"question": f"number {number} ?"}) for number in range(len(cases))
    ]
    data = tmp_path / "data"
    data.mkdir()
    (data / "dev.jsonl").write_text("".join(question.model_dump_json() + "\n" for question in questions))

    def written(request: dict[str, Any], _: int) -> Answer:
        number = int(request["messages"][1]["content"].rpartition("number ")[2].removesuffix(" ?"))
        return Answer([cases[number].given])

    with serving(written) as stub:
        sample(["my-llm"], stub.url, data, tmp_path / "pools", num_candidates=1, max_failures=0)
    pools = {pool.id: pool for pool in load_records(tmp_path / "pools" / "dev.jsonl", Pool)}
    reasons = {identifier: reason for _, _, identifier, reason in reversed(rejects(tmp_path / "pools"))}
    for question, case in zip(questions, cases, strict=True):
        if question.id in pools:
            check_candidate(case, *pools[question.id].candidates)
        else:
            assert case.answer is None, name_of(case)
            assert str(case.error) in reasons[question.id]


def check_candidate(case: Reading, made: Candidate) -> None:
    """The candidate of the case in a pool: its system and its origin apart, as the table says."""
    check(case, made.answer, [] if made.program is None or made.stated else [made.program], made.error)
