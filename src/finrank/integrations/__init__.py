"""finrank as the reranker of other libraries' pipelines, each in the form that the library asks for."""
