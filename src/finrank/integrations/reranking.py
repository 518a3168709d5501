"""What the rerankers here share: a query with its page and texts of candidates in, their relevance out.

The page is in the query, in the form of the service's rerank endpoints (`page/query_text.py`), or else in the metadata
of every candidate, as "report_page": there in the form of a query without its question, or as text with its tables.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from finrank.console import warn
from finrank.errors import UserError
from finrank.page.query_text import Query, parse_query
from finrank.ranker.choosing.answers import by_relevance
from finrank.records import Answer

if TYPE_CHECKING:
    from finrank.ranker.ranker import Ranker

_SCORING = threading.Lock()  # pipelines call from several threads, and a model scores one request at a time
PAGE_KEY = "report_page"  # not "page": loaders of PDF files put page numbers there


class Relevance(NamedTuple):
    """How relevant one candidate is."""

    position: int
    """Its index among the candidates."""
    score: float
    """Probability of its answer, which candidates of equal answers share; 0 without a value."""
    answer: Answer | None
    """Value of its answer; None without one."""


def rerank(
    ranker: Ranker, query: str, texts: Sequence[str], metadata: Sequence[Mapping[str, Any]], top_n: int | None = None
) -> list[Relevance]:
    """The `top_n` (None: all) most relevant of the candidates, the first one first.

    `texts` are the candidates in any form that `pools/candidate.py` reads, `metadata` what is known of each; what is
    unclear in the query or page is read all the same, and said. Raises UserError for a query without a question and
    for candidates of different pages.
    """
    if not texts:
        return []
    asked = _with_page(query, [fields[PAGE_KEY] for fields in metadata if fields.get(PAGE_KEY)])
    for warning in asked.warnings:
        warn(warning)
    with _SCORING:
        prepared = ranker.prepare({**asked._asdict(), "candidates": list(texts)})
        ranker.warn_of_unlike([prepared])
        (scores,) = ranker.score([prepared])
    ranking = ranker.ranking(prepared, scores)
    ordered = by_relevance(ranking, scores)[:top_n]
    return [Relevance(index, answer.probability, answer.answer) for index, answer in ordered]


def _with_page(query: str, pages: Sequence[Any]) -> Query:
    if not pages:
        return parse_query(query)
    if not all(isinstance(page, str) for page in pages):
        raise UserError(f"{PAGE_KEY}: expected the text of a report page, with its table")
    if len(set(pages)) > 1:
        raise UserError(f"{PAGE_KEY}: the candidates name different pages; rerank those of one question at a time")
    return parse_query(f"{query}\ncontext:\n{pages[0]}")
