"""finrank: choose the right answer to a question about a financial report from a pool of candidates."""

import importlib
from typing import TYPE_CHECKING, Any

from finrank.errors import UserError

if TYPE_CHECKING:
    from finrank.ranker.choosing.answers import RankedAnswer, Ranking
    from finrank.ranker.ranker import Ranker

__all__ = ["RankedAnswer", "Ranker", "Ranking", "UserError"]

# Ranker needs torch, which takes seconds to import; `finrank check` and `finrank.programs` start without it.
_LAZY = {"Ranker": "ranker", "RankedAnswer": "choosing.answers", "Ranking": "choosing.answers"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'finrank' has no attribute {name!r}")
    return getattr(importlib.import_module(f"finrank.ranker.{_LAZY[name]}"), name)
