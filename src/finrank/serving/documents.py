"""Conversion of rerank requests into ranking requests, and of rankings into rerank results.

A document is a candidate in one of these forms:

    subtract(5829, 5735)            a program
    94, 12.5%, $ 1,200, yes         a value
    subtract(5829, 5735) = 94       a program and its value, which counts if the program itself has none
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finrank.programs.value import read_answer
from finrank.serving.query_text import parse_query
from finrank.serving.schemas import Document, RerankRequest, RerankResult

if TYPE_CHECKING:
    from finrank.ranker.ranker import Ranking
    from finrank.serving.batching import Scores


def ranking_request(request: RerankRequest) -> dict[str, Any]:
    """A rerank request in the form of `Ranker.prepare`; ServiceError if its query cannot be read."""
    query = parse_query(request.query)
    return {**query._asdict(), "candidates": [read_document(_text_of(document)) for document in request.documents]}


def _text_of(document: str | Document) -> str:
    return document if isinstance(document, str) else document.text


def read_document(text: str) -> str | dict[str, Any]:
    """A document as a candidate.

    >>> read_document("add(1, 2) = 3"), read_document("12.5%"), read_document("add(1, 2) = three")
    ({'program': 'add(1, 2)', 'answer': 3.0}, '12.5%', 'add(1, 2) = three')
    """
    program, _, value = text.rpartition("=")
    try:
        return {"program": program.strip(), "answer": read_answer(value.strip())} if program.strip() else text
    except ValueError:
        return text


def rerank_results(
    request: RerankRequest, ranking: Ranking, scores: Scores, with_documents: bool
) -> list[RerankResult]:
    """The `top_n` results of a request, the most relevant first.

    Relevance is the probability of the document's answer, so that documents of equal answers share it and the first
    result has the answer that `/v1/rank` puts first. Ties are ordered by the model's score of the document, then by
    the order of the request.
    """
    results = []
    for answer in ranking:
        for index in sorted(answer.indices, key=lambda index: (-scores[index], index)):
            document = Document(text=_text_of(request.documents[index])) if with_documents else None
            results.append(RerankResult(index=index, relevance_score=answer.probability, document=document))
    return results[: request.top_n or None]
