"""Requests to a served model, in the forms of both endpoints."""

from __future__ import annotations

from typing import Any

ASKED: dict[str, Any] = {
    "question": "what is the change in revenue ?",
    "table": [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["costs", "11", "12"]],
    "text": ["revenue grew to 5829 .", "nothing else ."],
}
CANDIDATES: list[Any] = ["subtract(5829, 5735)", "subtract(5735, 5829)", {"answer": 94}, "table_sum(costs, none)"]
QUERY = (
    "question: what is the change in revenue ?\ntable:\n | 2009 | 2008\nrevenue | $ 5829 | $ 5735\ncosts | 11 | 12\n"
    "text:\nrevenue grew to 5829 .\nnothing else ."
)
DOCUMENTS = ["subtract(5829, 5735)", "subtract(5735, 5829)", "94", "table_sum(costs, none) = 23"]
