"""Random draws, as `random.Random` makes them and with the same results, at a third of the cost.

Making a pool takes hundreds of draws, and most of the time of `choice`, `randint` and `choices` goes to checks of what
they are given. Nothing else draws here, so a pool hangs on `random()` and `getrandbits()` alone, whatever the version
of Python.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def below(count: int, rng: random.Random) -> int:
    """A whole number from 0 to `count` - 1, each as likely; ValueError where there is none."""
    if count < 1:
        raise ValueError(f"no number from 0 to below {count}")
    bits = count.bit_length()
    drawn = rng.getrandbits(bits)
    while drawn >= count:
        drawn = rng.getrandbits(bits)
    return drawn


def pick(items: Sequence[Item], rng: random.Random) -> Item:
    """One of the items, each as likely; ValueError where there is none."""
    return items[below(len(items), rng)]


def pick_weighted(items: Sequence[Item], cumulative: Sequence[float], rng: random.Random) -> Item:
    """One of the items, each as likely as its weight says; `cumulative` holds the sums of the weights up to each.

    >>> pick_weighted(["often", "seldom"], [9.0, 10.0], random.Random(0))
    'often'
    """
    return items[bisect(cumulative, rng.random() * cumulative[-1], 0, len(items) - 1)]
