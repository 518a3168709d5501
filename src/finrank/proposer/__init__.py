"""The first stage: question and page in, programs over the page's numbers out, without gold and without an LLM."""
