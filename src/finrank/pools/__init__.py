"""Candidate pools: reading candidates, assembling pools, which answers are equal, rewards."""
