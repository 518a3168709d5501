"""finrank in LangChain: a document compressor, for candidates as documents (`pip install 'finrank[langchain]'`)."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field

from finrank.integrations.reranking import rerank
from finrank.ranker.ranker import Ranker


class FinrankRerank(BaseDocumentCompressor):
    """Reranks documents, each a candidate answer to the query.

    >>> reranker = FinrankRerank(ranker=Ranker.from_pretrained("finqa-minilm"), top_n=1)  # doctest: +SKIP
    >>> page = "| | 2009 | 2008 |\\n|---|---|---|\\n| revenue | 5829 | 5735 |"
    >>> documents = [  # doctest: +SKIP
    ...     Document("divide(94, 5735)", metadata={"report_page": page}), Document("subtract(5829, 5735)")]
    >>> [found] = reranker.compress_documents(documents, "what is the change in revenue ?")  # doctest: +SKIP
    >>> found.page_content, found.metadata["relevance_score"], found.metadata["answer"]  # doctest: +SKIP
    ('subtract(5829, 5735)', 0.9992161772472292, 94.0)
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    ranker: Ranker
    top_n: int | None = Field(default=None, ge=1)
    """How many documents to return; None: all."""

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Copies of the documents, the most relevant first, with `relevance_score` and `answer` in their metadata.

        The page is in the query, or in the documents' metadata as "report_page" (`integrations/reranking.py`).
        """
        texts, metadata = [one.page_content for one in documents], [one.metadata for one in documents]
        return [
            documents[index].model_copy(
                update={"metadata": {**metadata[index], "relevance_score": score, "answer": answer}}
            )
            for index, score, answer in rerank(self.ranker, query, texts, metadata, self.top_n)
        ]
