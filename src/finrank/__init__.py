"""finrank: choose the right answer to a question about a financial report from a pool of candidates."""

import importlib
from typing import TYPE_CHECKING, Any

from finrank.errors import UserError

if TYPE_CHECKING:
    from finrank.proposer.proposer import Proposer
    from finrank.ranker.choosing.answers import RankedAnswer, Ranking
    from finrank.ranker.ranker import Ranker

__all__ = ["Proposer", "RankedAnswer", "Ranker", "Ranking", "UserError"]

# These need torch, which takes seconds to import; `finrank check` and `finrank.programs` start without it.
_LAZY = {
    "Proposer": "proposer.proposer",
    "Ranker": "ranker.ranker",
    "RankedAnswer": "ranker.choosing.answers",
    "Ranking": "ranker.choosing.answers",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'finrank' has no attribute {name!r}")
    return getattr(importlib.import_module(f"finrank.{_LAZY[name]}"), name)
