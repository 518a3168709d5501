"""finrank: choose the right answer to a question about a financial report from a pool of candidates."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finrank.ranker.ranker import Ranker

__all__ = ["Ranker"]


def __getattr__(name: str) -> Any:
    # Ranker needs torch, which takes seconds to import; `finrank check` and `finrank.programs` start without it.
    if name == "Ranker":
        from finrank.ranker.ranker import Ranker

        return Ranker
    raise AttributeError(f"module 'finrank' has no attribute {name!r}")
