"""Pools out of what a language model writes."""
