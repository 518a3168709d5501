"""Counting what torch does: on a GPU about a kernel each, views and empty tensors aside."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

_NO_KERNEL = {
    "alias", "as_strided", "detach", "empty", "empty_like", "expand", "permute", "select", "slice", "split", "squeeze",
    "t", "transpose", "unsqueeze", "view", "_unsafe_view",
}  # fmt: skip


class Operations(TorchDispatchMode):
    """Inside, `kernels` counts operations by name, `count` all that is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        name = str(func).split(".")[1]
        if name not in _NO_KERNEL:
            self.kernels[name] += 1
        return func(*args, **(kwargs or {}))
