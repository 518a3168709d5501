"""No candidate costs its pool: whatever people's files hold in its place, every interface ranks the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from finrank import Ranker
from finrank.commands.evaluate import evaluate
from finrank.commands.ppo import ppo
from finrank.commands.rank import rank
from finrank.commands.sft import sft
from finrank.pools.rewards import reward_pool
from finrank.records import Candidate, Pool, RewardedPool
from finrank.serving.app import make_app
from tests.helpers.pools import make_pool, write_splits
from tests.helpers.saved_ranker import POOL, save_tiny_ranker
from tests.helpers.serving_model import DOCUMENTS, QUERY
from tests.helpers.training_runs import CONFIGS, SMALL, curve, manifest_of, printed
from tests.helpers.valueless import AWFUL, LOOPED, TOO_LONG, VALUELESS

MIXED = {**POOL, "candidates": [*AWFUL[:9], *POOL["candidates"], *AWFUL[9:]]}
"""The request of `POOL` with awful candidates before and behind its own."""
OWN = range(9, 9 + len(POOL["candidates"]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ranker(tmp_path_factory.mktemp("awful"))


def check(answers: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The answers of `MIXED` are those of `POOL`, followed by all awful candidates, each with its reason."""
    assert [(one["answer"], one["probability"], one["score"]) for one in answers[: len(expected)]] == [
        (one["answer"], pytest.approx(one["probability"]), pytest.approx(one["score"], abs=1e-5)) for one in expected
    ]
    without = answers[len(expected) :]
    indices = [index for one in without for index in one["indices"]]
    assert sorted(indices) == [index for index in range(len(MIXED["candidates"])) if index not in OWN]
    assert [one["indices"][0] for one in without] == sorted(one["indices"][0] for one in without)
    for one in without:
        assert (one["answer"], one["probability"], one["score"]) == (None, 0.0, None)
        assert one["error"], one


def test_the_ranker_ranks_the_others(model: Path) -> None:
    ranker = Ranker.from_pretrained(model, device="cpu")
    expected = ranker.rank(**POOL).as_json()["answers"]
    check(ranker.rank(**MIXED).as_json()["answers"], expected)
    first, second, third = ranker.rank_many([POOL, MIXED, {**POOL, "candidates": AWFUL}])
    check(second.as_json()["answers"], first.as_json()["answers"])
    assert third.abstain
    assert all(answer.score is None and answer.probability == 0.0 and answer.error for answer in third)


def test_the_command_ranks_every_line(model: Path, tmp_path: Path) -> None:
    lines = [POOL, MIXED, {**POOL, "candidates": AWFUL}]
    source, output = tmp_path / "pools.jsonl", tmp_path / "ranked.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert rank(str(model), source, output) == {"ranked": 3, "abstained": 1, "rejected": 0}
    text = output.read_text(encoding="utf-8")
    assert not {"NaN", "Infinity"} & set(text.replace(":", " ").replace(",", " ").split())
    first, second, third = map(json.loads, text.splitlines())
    check(second["answers"], first["answers"])
    assert third["abstain"] is True


def test_the_service_answers(model: Path) -> None:
    headers = {"content-type": "application/json"}
    with TestClient(
        make_app(Ranker.from_pretrained(model, device="cpu"), "tiny"), base_url="http://localhost"
    ) as client:
        alone, mixed, nothing = (
            client.post("/v1/rank", content=json.dumps({**POOL, "candidates": candidates}), headers=headers).json()
            for candidates in (POOL["candidates"], MIXED["candidates"], AWFUL)
        )
        check(mixed["answers"], alone["answers"])
        assert (nothing["abstain"], len(nothing["answers"][0]["indices"]) > 0) == (True, True)
        documents = [*AWFUL[:9], *DOCUMENTS, *AWFUL[9:]]
        for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
            body = client.post(
                path, content=json.dumps({"query": QUERY, "documents": documents}), headers=headers
            ).json()
            best = client.post(path, json={"query": QUERY, "documents": DOCUMENTS}).json()["results"]
            assert [one["index"] for one in body["results"][:4]] == [9 + one["index"] for one in best]
            assert [one["relevance_score"] for one in body["results"][4:]] == [0.0] * len(AWFUL)
            named = [warning.split(":")[0] for warning in body["meta"]["warnings"]]
            assert named == [f"document {index}" for index in range(len(documents)) if index not in range(9, 13)]


def test_systems_are_named_from_the_pool_to_the_answer(model: Path) -> None:
    pool = make_pool(1, 3)
    named = [
        one.model_copy(update={"model": name}) for one, name in zip(pool.candidates, ("a", "b", None), strict=True)
    ]
    twin = named[0].model_copy(update={"program": None, "model": "c"})
    pool = reward_pool(Pool.of(pool, candidates=[*named, twin]))
    ranker = Ranker.from_pretrained(model, device="cpu")
    answers = ranker.rank_many([json.loads(pool.model_dump_json())])[0].as_json()["answers"]
    models = {tuple(answer["indices"]): answer.get("models") for answer in answers}
    assert models == {(0, 3): models[0, 3], (1,): ["b"], (2,): None}
    assert sorted(models[0, 3] or []) == ["a", "c"]
    asked = {"question": "how ?", "candidates": [{"answer": 5, "model": "x"}, "add(2, 3)", {"answer": "yes"}]}
    with TestClient(make_app(ranker, "tiny"), base_url="http://localhost") as client:
        answered = client.post("/v1/rank", json=asked).json()["answers"]
    assert {answer["index"] == 2: answer.get("models") for answer in answered} == {False: ["x"], True: None}


def awful_pool(number: int) -> RewardedPool:
    """A pool of two good candidates among others that are not scored; every sixth has none, or a question too long."""
    pool = make_pool(number, 2)
    added: list[Candidate] = [*VALUELESS, TOO_LONG]
    if number % 6 == 5:  # its only correct candidate is too long
        pool = pool.model_copy(update={"candidates": [TOO_LONG] * 2, "rewards": [1.0, 1.0], "correct": [0, 1]})
    if number % 6 == 4:
        pool = pool.model_copy(update={"question": "what is the total ? " * 400})
    return RewardedPool.of(
        pool,
        candidates=[*added, *pool.candidates],
        rewards=[0.0] * 4 + [0.2] + pool.rewards,
        components=[{} for _ in range(7)],
        correct=[index + 5 for index in pool.correct],
    )


def test_training_and_evaluation_leave_out_and_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pools = [awful_pool(number) for number in range(48)]
    data = write_splits(tmp_path / "data", {"train": pools[:24], "selection": pools[24:36], "dev": pools[36:]})
    base = save_tiny_ranker(tmp_path).parent / "base"
    config, options = CONFIGS / "minilm.yaml", {"overrides": [*SMALL], "quick_test": True}
    stage = sft(config, data, tmp_path / "out", base_model=str(base), **options)
    learned = ppo(config, data, tmp_path / "out", sft_model=stage, **options)
    for directory in (stage, learned):
        counts = manifest_of(directory)["left_out"]["train"]
        # Of 24 pools 4 have nothing but candidates that are too long, and the question of 4 is.
        too_long = 24 + 4 * 2 + 4 * 2
        assert counts == {"without_value": 96, "too_long": too_long, "pools": 8, "example": counts["example"]}
        assert pools[4].id in counts["example"]
        assert all(loss is not None for _, loss in curve(directory))
    output = printed(capsys)
    assert output.count(f"96 without a value, {too_long} too long for max_length") == 2
    result = evaluate(learned, data, split="dev", json_path=tmp_path / "dev.json", html_path=tmp_path / "dev.html")
    assert 0.0 < result.figures.model.accuracy <= 8 / 12  # the other four are wrong
    assert "48 without a value" in printed(capsys)
    text = (tmp_path / "dev.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    assert LOOPED[:20] in (tmp_path / "dev.html").read_text(encoding="utf-8")
