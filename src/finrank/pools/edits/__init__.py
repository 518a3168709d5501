"""Edits that make a wrong program of another: other numbers, another calculation, one of another question."""
