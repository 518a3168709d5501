"""Corruption: wrong programs made from the gold one, which look no different from gold programs."""
