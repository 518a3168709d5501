"""Random programs, and seeded damage to program texts and tables, for code that must survive any input."""

from __future__ import annotations

import random
import re
from typing import Any

from hypothesis import strategies as st

from finrank.programs import OPERATIONS, Program, Step

_CHARACTERS = "()#,|%_-+.0129eE \t\n\0\u0663\uff11\u2212\u3000\u00e9\ud800\udfff\U0001f600"
_TOKEN = re.compile(r"[(), ]|[^(), ]+")
_TOKENS = (
    *(f"{operation}(" for operation in OPERATIONS),
    *("(", ")", ",", ", ", "", "none", "#0", "#1", "#2", "#-1", "#x", "#", "#\u0661", "#0#1", "#1_0"),
    *("0", "-0.5", "12%", "1,234", "1_000", "\u0661\u0662", "nan", "-inf", "1e308", "-1e308", "1e-320", "0x10", "1j"),
    *("const_100", "const_m1", "const_", "const_x", "const_const_5", "%", "%%", "9" * 5000, "#" + "9" * 5000, "|"),
)

# Malformed tables: without rows or labels, cells that are not text, labels that cannot be looked up.
ODD_TABLES: tuple[Any, ...] = (
    *(None, 5, "net sales", [], [[]], [["a"], []], [None], [5, 6]),
    [["a", None], ["b", 5, 1.5], ["none", "n/a"]],
    [[None, "1"], [["a"], "1"]],
    [["a", ["1"]], ["b", {"c": "1"}]],
    [{"a": "1"}],
    [["a", "", " ", "$", "(", "()", "%"], ["b", "9" * 5000, "1" * 400 + "%", "\ud800", "1\0"]],
)

_ARGUMENTS = st.sampled_from(
    ["5829", "310", "-31", "12%", "0", "nan", "inf", "x", "const_2", "const_100", "#0", "#1", "2009", "costs"]
)
_STEPS = st.builds(Step, st.sampled_from(OPERATIONS), st.tuples(_ARGUMENTS, _ARGUMENTS))
# Programs with and without a value, on the small page of `questions.py`.
random_programs = st.lists(_STEPS, min_size=1, max_size=5).map(lambda steps: Program(tuple(steps)))


def mutated(text: str, rng: random.Random) -> str:
    """The text after one to three small changes to its tokens, characters or bytes."""
    for _ in range(rng.randint(1, 3)):
        text = rng.choice((_other_token, _moved_token, _other_character, _other_byte))(text, rng)
    return text


def _other_token(text: str, rng: random.Random) -> str:
    tokens = _TOKEN.findall(text) or [""]
    tokens[rng.randrange(len(tokens))] = rng.choice(_TOKENS)
    return "".join(tokens)


def _moved_token(text: str, rng: random.Random) -> str:
    tokens = _TOKEN.findall(text) or [""]
    first, second = rng.randrange(len(tokens)), rng.randrange(len(tokens))
    if rng.random() < 0.5:
        tokens[first] = tokens[second]
    else:
        tokens[first:first] = tokens[min(first, second) : max(first, second)]
    return "".join(tokens)


def _other_character(text: str, rng: random.Random) -> str:
    start = rng.randint(0, len(text))
    return text[:start] + rng.choice(_CHARACTERS) + text[start + rng.randint(0, 1) :]


def _other_byte(text: str, rng: random.Random) -> str:
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data.decode("utf-8", "surrogateescape")
