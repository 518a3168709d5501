"""`FinrankRerank` in LangChain's own classes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from finrank import Ranker
from tests.helpers.serving_model import ASKED, DOCUMENTS, QUERY

documents = pytest.importorskip("langchain_core.documents")
from finrank.integrations.langchain import FinrankRerank  # noqa: E402  (needs the library)


def test_documents_come_back_in_order_with_their_relevance(ranker: Ranker) -> None:
    given = [documents.Document(text, id=str(index), metadata={"n": index}) for index, text in enumerate(DOCUMENTS)]
    found = FinrankRerank(ranker=ranker, top_n=3).compress_documents(given, QUERY)
    answers = ranker.rank(**ASKED, candidates=DOCUMENTS)
    assert len(found) == 3
    assert found[0].page_content == DOCUMENTS[answers[0].index]
    assert found[0].metadata == {
        "n": answers[0].index, "relevance_score": pytest.approx(answers[0].probability), "answer": answers[0].answer
    }  # fmt: skip
    assert found[0].id == str(answers[0].index)
    assert [one.metadata for one in given] == [{"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}], "the given ones are unchanged"


def test_in_a_chain_with_the_page_in_the_metadata(ranker: Ranker) -> None:
    """Samples of a language model are the documents of a retriever, and the reranker is a step behind it."""
    from langchain_core.runnables import RunnableLambda

    question, page = QUERY.split("\n", 1)

    def sampled(query: str) -> dict[str, Any]:
        samples = [documents.Document(text, metadata={"report_page": page}) for text in DOCUMENTS]
        return {"documents": samples, "query": query}

    reranker = FinrankRerank(ranker=ranker)
    chain = RunnableLambda(sampled) | RunnableLambda(lambda given: reranker.compress_documents(**given))
    plain = reranker.compress_documents([documents.Document(text) for text in DOCUMENTS], QUERY)
    found = chain.invoke(question)
    assert [one.page_content for one in found] == [one.page_content for one in plain]
    waited = asyncio.run(reranker.acompress_documents([documents.Document(text) for text in DOCUMENTS], QUERY))
    assert waited == plain


def test_top_n_is_checked(ranker: Ranker) -> None:
    with pytest.raises(ValueError, match="top_n"):
        FinrankRerank(ranker=ranker, top_n=0)
    assert FinrankRerank(ranker=ranker).compress_documents([], QUERY) == []
