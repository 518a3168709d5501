"""Candidate pools: wrong programs made from the gold one, and the pools assembled of them."""
