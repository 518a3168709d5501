"""The check at load: a route's vectors compared with naive ones on a small input.

An attention that ignores mask, layout or positions still returns plausible scores. Vectors are compared and not scores:
a fresh head makes all scores nearly equal.

Half precision hides mistakes: in a deep bfloat16 model, right routes differ by 0.1 of a vector's length by rounding
alone, and positions that do not restart by 0.01. So the weights are used in float32, one layer's product at a time,
where rounding stays below 2e-5 at 80 layers. Then the route may round in the model's own precision as naive scoring
does, up to a factor, which finds kernels that fail in that precision alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding
from torch.overrides import TorchFunctionMode

from finrank.console import warn
from finrank.ranker.attention.packed_row import Backbone, EncodedPool
from finrank.ranker.attention.routes import VECTORS, Route, RouteName

_HALF = (torch.bfloat16, torch.float16)


def check_route(route: Route, backbone: Backbone) -> Route:
    """The route, or `naive` with a warning where its vectors differ by more than rounding explains."""
    if route.name == "naive":
        return route
    was_training = backbone.encoder.training
    backbone.encoder.eval()
    with torch.no_grad(), _without_tf32():  # weights gathered in inference mode could not be trained through
        # Written so that nan is too much.
        excess = next((pair for pair in _differences(route, backbone) if not pair[0] <= pair[1]), None)
    backbone.encoder.train(was_training)
    if excess is None:
        return route
    warn(
        f"vectors of the route {route.name} differ from naive ones by {excess[0]:.2g} of their size on a small input "
        f"with this architecture ({type(backbone.encoder.get_base_model()).__name__}), and rounding explains "
        f"{excess[1]:.2g}: falling back to the naive route, which is slower"
    )
    return Route("naive", f"{route.name} gave other vectors on the check at load")


def _differences(route: Route, backbone: Backbone) -> Iterator[tuple[float, float]]:
    """The largest difference of a vector from the naive one, as a share of its length, and the largest allowed."""
    tuning = backbone.tuning
    backbones = [backbone]
    if route.name in ("cached", "by_size"):  # inputs this small would take one pass or `mask` only
        two_passes = replace(tuning, mask_candidates=0, one_pass_tokens=0, chunk_tokens=64)
        backbones.append(replace(backbone, tuning=two_passes))
    rounds = any(value.dtype in _HALF or not value.is_floating_point() for value in backbone.encoder.parameters())
    with _InFloat32() if rounds else nullcontext():
        exact_ND = _vectors("naive", backbone)
        in_float32 = [_furthest(_vectors(route.name, each), exact_ND) for each in backbones]
    yield from ((difference, tuning.float32_tolerance) for difference in in_float32)
    if rounds:
        noise = _furthest(_vectors("naive", backbone), exact_ND)
        for each in backbones:
            allowed = max(tuning.bfloat16_tolerance, tuning.rounding_factor * noise)
            yield _furthest(_vectors(route.name, each), exact_ND), allowed


def _vectors(route: RouteName, backbone: Backbone) -> Tensor:
    """Vectors of several candidates, padded or not, and of a lone one."""
    vocabulary = backbone.encoder.config.vocab_size
    ids = [(7 * token + 11) % vocabulary for token in range(300)]
    short = EncodedPool("short", ids[5:12], [ids[30:41], ids[40:42]])
    long = EncodedPool("long", ids[:20], [ids[start : start + 26 + start % 7] for start in range(0, 240, 20)])
    batches: Sequence[list[EncodedPool]] = ([long, short], [short], short.alone()[:1])
    return torch.cat([VECTORS[route](backbone, pools) for pools in batches])


def _furthest(vectors_ND: Tensor, exact_ND: Tensor) -> float:
    return ((vectors_ND - exact_ND).norm(dim=1) / exact_ND.norm(dim=1)).max().item()


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Products of float32 are exact, also where the process allows TF32, which rounds a thousand times as much."""
    products = torch.backends.cuda.matmul
    # torch 2.8 has only the second setting; delete it with that version.
    name, exact = ("fp32_precision", "ieee") if hasattr(products, "fp32_precision") else ("allow_tf32", False)
    before = getattr(products, name)
    setattr(products, name, exact)
    try:
        yield
    finally:
        setattr(products, name, before)


class _InFloat32(TorchFunctionMode):
    """Inside, half precision is float32: tensors that are read, each for one call alone, and casts to it."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "__get__":  # attributes of a tensor, such as its shape
            return func(*args, **kwargs)
        if func is embedding:  # rows that are looked up, not the whole table
            return _raised(func(*args, **kwargs))
        return func(*map(_raised, args), **{name: _raised(value) for name, value in kwargs.items()})


def _raised(value: Any) -> Any:
    """Tensors and dtypes of half precision in float32, in a list or tuple too; anything else as it is."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in _HALF else value
    if type(value) in (list, tuple):
        return type(value)(map(_raised, value))
    return torch.float32 if isinstance(value, torch.dtype) and value in _HALF else value
