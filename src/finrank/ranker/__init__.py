"""The ranking model: text to tokens, packing, encoder with score head, saving and loading, and `Ranker` for callers."""

import importlib.util
import sys

# A data folder `datasets/` is importable as a namespace package wherever Python runs next to it, as the numbered
# scripts do. transformers would take it for the library of that name, and Trainer would fail for want of its classes.
if "datasets" not in sys.modules:
    _spec = importlib.util.find_spec("datasets")
    if _spec is not None and _spec.origin is None:
        sys.modules["datasets"] = None  # type: ignore[assignment]
