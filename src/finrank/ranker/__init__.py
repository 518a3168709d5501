"""The ranking model: text to tokens, packing, encoder with score head, saving and loading, and `Ranker` for callers."""

import importlib.util
import sys


def _hide_data_folder() -> None:
    """Keep transformers from taking the data folder `datasets/` for the library of that name.

    A folder without code is importable as a namespace package wherever Python runs beside it, as the numbered scripts
    do; Trainer would then look for `datasets.Dataset` in it and fail.
    """
    if "datasets" not in sys.modules:
        spec = importlib.util.find_spec("datasets")
        if spec is not None and spec.origin is None:
            sys.modules["datasets"] = None  # type: ignore[assignment]


_hide_data_folder()
