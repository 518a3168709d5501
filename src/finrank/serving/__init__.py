"""The HTTP service: rerank endpoints that existing clients know, our own richer one, and a page to try it."""
