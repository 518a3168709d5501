"""`FinrankRerank` in LlamaIndex's own classes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from finrank import Ranker, UserError
from tests.helpers.serving_model import ASKED, DOCUMENTS, QUERY

schema = pytest.importorskip("llama_index.core.schema")
from finrank.integrations.llama_index import FinrankRerank  # noqa: E402  (needs the library)


def nodes_of(metadata: dict[str, Any]) -> list[Any]:
    nodes = [schema.TextNode(text=text, id_=str(index), metadata=metadata) for index, text in enumerate(DOCUMENTS)]
    return [schema.NodeWithScore(node=node, score=0.5) for node in nodes]


def test_nodes_come_back_in_order_with_their_relevance(ranker: Ranker) -> None:
    given = nodes_of({"source": "my-llm"})
    found = FinrankRerank(ranker=ranker, top_n=3).postprocess_nodes(given, query_str=QUERY)
    answers = ranker.rank(**ASKED, candidates=DOCUMENTS)
    assert len(found) == 3
    assert found[0].text == DOCUMENTS[answers[0].index]
    assert found[0].score == pytest.approx(answers[0].probability)
    assert found[0].metadata == {"source": "my-llm", "answer": answers[0].answer}
    assert found[0].node.node_id == str(answers[0].index)
    assert all(one.score == 0.5 and one.metadata == {"source": "my-llm"} for one in given), "unchanged"


def test_in_a_query_engine_with_the_page_in_the_metadata(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    from llama_index.core import Settings
    from llama_index.core.base.response.schema import Response
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.response_synthesizers import ResponseMode
    from llama_index.core.retrievers import BaseRetriever

    question, page = QUERY.split("\n", 1)

    class Samples(BaseRetriever):
        def _retrieve(self, query_bundle: Any) -> list[Any]:
            return nodes_of({"report_page": page})

    reranker = FinrankRerank(ranker=ranker)
    monkeypatch.setattr(Settings, "_llm", MockLLM())  # never called
    engine = RetrieverQueryEngine.from_args(
        Samples(), response_mode=ResponseMode.NO_TEXT, node_postprocessors=[reranker]
    )
    response = engine.query(question)
    assert isinstance(response, Response)
    plain = reranker.postprocess_nodes(nodes_of({}), query_str=QUERY)
    assert [(one.text, one.score) for one in response.source_nodes] == [(one.text, one.score) for one in plain]
    waited = asyncio.run(reranker.apostprocess_nodes(nodes_of({}), query_str=QUERY))
    assert [one.text for one in waited] == [one.text for one in plain]


def test_what_is_missing_is_an_error(ranker: Ranker) -> None:
    with pytest.raises(UserError, match="no query"):
        FinrankRerank(ranker=ranker).postprocess_nodes(nodes_of({}))
    with pytest.raises(ValueError, match="top_n"):
        FinrankRerank(ranker=ranker, top_n=0)
    assert FinrankRerank(ranker=ranker).postprocess_nodes([], query_str=QUERY) == []
