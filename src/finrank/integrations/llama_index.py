"""finrank in LlamaIndex: a node postprocessor, for candidates as nodes (`pip install 'finrank[llama-index]'`)."""

from __future__ import annotations

from llama_index.core.bridge.pydantic import Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from finrank.errors import UserError
from finrank.integrations.reranking import rerank
from finrank.ranker.ranker import Ranker


class FinrankRerank(BaseNodePostprocessor):
    """Reranks nodes, each a candidate answer to the query.

    >>> reranker = FinrankRerank(ranker=Ranker.from_pretrained("finqa-minilm"), top_n=1)  # doctest: +SKIP
    >>> nodes = [NodeWithScore(node=TextNode(text=text)) for text in ("94", "5829")]  # doctest: +SKIP
    >>> query = "what is the change in revenue ?\\ntable:\\n | 2009 | 2008\\nrevenue | 5829 | 5735"
    >>> [(node.text, node.score) for node in reranker.postprocess_nodes(nodes, query_str=query)]  # doctest: +SKIP
    [('94', 0.9835092426090252)]
    """

    ranker: Ranker = Field(exclude=True, description="What scores; not written by `to_dict`.")
    top_n: int | None = Field(default=None, ge=1, description="How many nodes to return; None: all.")

    @classmethod
    def class_name(cls) -> str:
        """The name of this class in LlamaIndex."""
        return "FinrankRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        """Copies of the nodes, the most relevant first: their scores are the relevance, their metadata has `answer`.

        The page is in the query, or in the nodes' metadata as "report_page" (`integrations/reranking.py`).
        """
        if query_bundle is None:
            raise UserError("no query: give query_str or query_bundle, the question with or without its page")
        texts = [one.node.get_content(MetadataMode.NONE) for one in nodes]
        metadata = [one.node.metadata for one in nodes]
        return [
            NodeWithScore(
                node=nodes[index].node.model_copy(update={"metadata": {**metadata[index], "answer": answer}}),
                score=score,
            )
            for index, score, answer in rerank(self.ranker, query_bundle.query_str, texts, metadata, self.top_n)
        ]
