"""Work that may run out of a device's memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

from finrank.errors import is_out_of_memory


def within_memory(work: Callable[[], Any]) -> Any:
    """The result of `work`; None, with everything freed, where memory runs out."""
    try:
        return work()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    free_memory()  # only here: before, the traceback holds the activations
    return None


def free_memory() -> None:
    """Give memory that is not in use back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
