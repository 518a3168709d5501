"""Work that may run out of a device's memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

# What libraries report in place of torch.OutOfMemoryError.
FULL_MEMORY = ("mha_graph.execute", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def within_memory(work: Callable[[], Any]) -> Any:
    """The result of `work`; None, with everything freed, where memory runs out."""
    try:
        return work()
    except RuntimeError as error:
        if not is_full_memory(error):
            raise
    free_memory()  # only here: before, the traceback holds the activations
    return None


def is_full_memory(error: RuntimeError) -> bool:
    """True if memory ran out; cuDNN's attention does not say so when it does."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in FULL_MEMORY)


def free_memory() -> None:
    """Give memory that is not in use back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
