"""Cohere's own Python clients, unchanged, against a live server."""

from __future__ import annotations

import cohere
import pytest

from finrank import Ranker
from finrank.serving.app import make_app
from tests.helpers.live_server import Live, running
from tests.helpers.serving_model import ASKED, CANDIDATES, DOCUMENTS, QUERY

KEY = "any"  # Cohere's clients always send one


def test_the_newer_client(live: Live, ranker: Ranker) -> None:
    client = cohere.ClientV2(KEY, base_url=live.url)
    response = client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS, top_n=3)
    best = ranker.rank(**ASKED, candidates=CANDIDATES)[0]
    assert response.results[0].index == best.index
    assert response.results[0].relevance_score == pytest.approx(best.probability)
    assert len(response.results) == 3
    assert response.id
    assert response.meta is not None
    assert response.meta.tokens is not None
    assert response.meta.tokens.input_tokens


def test_the_older_client(live: Live) -> None:
    client = cohere.Client(KEY, base_url=live.url)
    documents: list[str | dict[str, str]] = [DOCUMENTS[0], {"text": DOCUMENTS[1]}]
    response = client.rerank(model="rerank-v3.5", query=QUERY, documents=documents, return_documents=True)
    assert sorted(result.index for result in response.results) == [0, 1]
    for result in response.results:
        assert result.document is not None
        assert result.document.text == DOCUMENTS[result.index]


def test_errors_become_the_clients_own(live: Live, ranker: Ranker) -> None:
    client = cohere.ClientV2(KEY, base_url=live.url)
    with pytest.raises(cohere.BadRequestError) as bad:
        client.rerank(model="m", query="table:\na | b", documents=["yes"])
    assert "no question" in bad.value.body["error"]["message"]
    with running(make_app(ranker, "tiny", key="secret")) as guarded:
        with pytest.raises(cohere.UnauthorizedError):
            cohere.ClientV2("wrong", base_url=guarded.url).rerank(model="m", query="how ?", documents=["yes"])
        right = cohere.ClientV2("secret", base_url=guarded.url)
        assert right.rerank(model="m", query="how ?", documents=["yes"]).results[0].relevance_score == 1.0
