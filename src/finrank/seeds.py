"""Random generators and seeds that depend on nothing but a key, the same on every machine."""

from __future__ import annotations

import hashlib
import random


def seed_of(*key: object) -> int:
    """A seed of 64 bits from the texts of a key's parts."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()[:8], "big")


def seeded_random(*key: object) -> random.Random:
    """A generator that depends on nothing but the key."""
    return random.Random(seed_of(*key))
