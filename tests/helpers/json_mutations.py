"""Seeded damage to JSON: values exchanged, keys lost, renamed or repeated, and bytes changed, cut off or put in."""

from __future__ import annotations

import copy
import json
import os
import random
from typing import Any

ODD_NUMBERS: tuple[float, ...] = (-0.0, 0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), 10**30, 10**400, 2**63)
ODD_VALUES: tuple[Any, ...] = (
    *ODD_NUMBERS,
    *(None, True, False, "", " ", "yes", "NaN", "\ud800", "a\udfffb", "\0", "\x1b[31m", "\u202e", "\r\n", "a\u2028b"),
    *("9" * 5000, "x" * 100_001, "1e400", [], {}, [[]], [None], {"": ""}, {"id": 5}, {"answer": "\ud800"}),
    *('{"answer": "\\ud800"}', "add(1, 2)", "divide(1, 0)", "exp(10, 308)", "subtract(0, 0)", ["add(", "1", "2", ")"]),
)
_RAW = (b"NaN", b"-0", b"-Infinity", b"1e400", b"5e-324", b"9" * 5000, b"[" * 2000, b'{"a":' * 2000, b"\\ud800")
_RAW += (b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\n", b"\r", b'"', b"\\", b"{", b"}", b"]", b",", b"//")


def rounds(full: int) -> int:
    """A tenth of a fuzz test's inputs, or all of them where the environment has FINRANK_FUZZ=full."""
    return full if os.environ.get("FINRANK_FUZZ") == "full" else full // 10


def damaged_value(value: Any, rng: random.Random) -> Any:
    """A copy of a JSON value with one or two changes somewhere inside it."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 2)):
        holder, key = _place(value, rng)
        if holder is None:
            return rng.choice(ODD_VALUES)
        change = rng.randrange(6)
        if change == 0:
            del holder[key]
        elif change == 1 and isinstance(holder, dict):
            holder[f"{key}s"] = holder.pop(key)
        elif change == 2 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif change == 3:
            holder[key] = [holder[key]]
        else:
            holder[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    return value


def _place(value: Any, rng: random.Random) -> tuple[Any, Any]:
    """A random list or object inside the value, at any depth, and one of its keys."""
    holder, key = None, None
    while isinstance(value, dict | list) and value and (holder is None or rng.random() < 0.7):
        holder = value
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        value = value[key]
    return holder, key


def damaged_line(value: Any, rng: random.Random) -> bytes:
    """The JSON of a value, most often damaged: in its values, in its bytes, or both. It may hold line breaks."""
    if rng.random() < 0.7:
        value = damaged_value(value, rng)
    line = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if rng.random() < 0.6:
        return line
    at = rng.randrange(len(line) + 1)
    change = rng.randrange(5)
    if change == 0:
        return line[:at]
    if change == 1:
        return line[:at] + rng.choice(_RAW) + line[at:]
    if change == 2:
        return line[:at] + rng.choice(_RAW) + line[at + rng.randint(1, 20) :]
    if change == 3 and line.startswith(b'{"'):  # the first key twice
        return b'{"' + line[2:].partition(b'"')[0] + b'": 1, ' + line[1:]
    changed = bytearray(line)
    for _ in range(rng.randint(1, 3)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)
