"""The HTTP service: rerank routes that ecosystem clients know, our own richer one, and a page to try it."""
