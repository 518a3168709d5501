"""The check at load: a route's vectors compared with naive ones on a small input.

An attention that ignores mask, layout or positions still returns plausible scores. Vectors are compared and not scores:
a fresh head makes all scores nearly equal.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from finrank.console import warn
from finrank.ranker.attention.packed_row import Backbone, EncodedPool
from finrank.ranker.attention.routes import VECTORS, Route


def check_route(route: Route, backbone: Backbone, tolerance: float) -> Route:
    """The route, or `naive` with a warning where a vector differs by more than `tolerance` of its length."""
    if route.name == "naive":
        return route
    was_training = backbone.encoder.training
    backbone.encoder.eval()
    with torch.inference_mode():
        differences = _differences(route, backbone)
    backbone.encoder.train(was_training)
    if all(difference <= tolerance for difference in differences):  # none of them is nan
        return route
    largest = max(differences, key=lambda value: (math.isnan(value), value))
    warn(
        f"vectors of the route {route.name} differ from naive ones by {largest:.2g} of their size on a small input "
        f"with this architecture ({type(backbone.encoder.get_base_model()).__name__}): falling back to the naive "
        "route, which is slower"
    )
    return Route("naive", f"{route.name} gave other vectors on the check at load")


def _differences(route: Route, backbone: Backbone) -> list[float]:
    """Per input, the largest difference of a candidate's vector from the naive one, as a share of its length."""
    vocabulary = backbone.encoder.config.vocab_size
    ids = [(7 * token + 11) % vocabulary for token in range(300)]
    short = EncodedPool("short", ids[5:12], [ids[30:41], ids[40:42]])
    long = EncodedPool("long", ids[:20], [ids[start : start + 26 + start % 7] for start in range(0, 240, 20)])
    backbones = [backbone]
    if route.name == "cached":  # inputs this short would take one pass only
        backbones.append(replace(backbone, tuning=replace(backbone.tuning, one_pass_tokens=0, chunk_tokens=64)))
    found = []
    for pools in ([long, short], [short], short.alone()[:1]):
        naive_ND = VECTORS["naive"](backbone, pools)
        for each in backbones:
            difference_N = (VECTORS[route.name](each, pools) - naive_ND).norm(dim=1) / naive_ND.norm(dim=1)
            found.append(difference_N.max().item())
    return found
