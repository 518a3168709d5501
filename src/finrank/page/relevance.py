"""Which part of the page goes into the prompt: table rows and sentences, the most relevant to the question first.

Pages are longer than a model's window, so rows and sentences compete for a budget of tokens:

1. Each has its BM25 score against the question (Robertson & Zaragoza 2009, through the bm25s library), divided by the
   page's highest, with a bonus where it holds an amount and a share of the scores of its neighbours.
2. Table rows are placed first, best first, up to a share of the budget; the header comes with the first row.
3. The rest of the budget goes to the best of the remaining rows and sentences.

Gold evidence is never looked at. The constants were tuned on FinQA's train split.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from finrank.page.broken_characters import word_set


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Inside, importing this module fails as if it were not installed."""
    before = {module: sys.modules[module]} if module in sys.modules else {}
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        sys.modules.update(before)


with _hidden("jax"):  # which bm25s would run once: jax then takes three quarters of a GPU before torch gets any
    import bm25s

_TABLE_SHARE = 0.6  # of the budget, in which rows go first
_AMOUNT_BONUS = 0.6  # added to a score; 1 is the score of the best hit
_NEIGHBOUR_SHARE = 0.2  # of its score that a hit adds to the row or sentence before it and after it
_K1, _B = 1.5, 0.75  # of BM25

# FinQA writes a number twice, "22% ( 22 % )" and "-32 ( 32 )": the repetition costs tokens for nothing.
# From a number's first digit on and without going back: a text of nothing but digits is read once, not once per digit.
_REPEATED = re.compile(r"((?<![\d.,])[\d.,]++\s*+%?+)\s*+\(\s*+[\d.,]++\s*+%?+\s*+\)")
_WORD = re.compile(r"[a-z]{2,}|\d+(?:\.\d+)?")
# A number, but neither a year nor a character code that broken unicode leaves behind ("201c").
_AMOUNT = re.compile(r"(?<![\w.])(?!(?:19|20)\d\d(?![\d.,]))\d[\d,]*(?:\.\d+)?(?!\w)")
_STOPWORDS = word_set(
    "a an and are as at be by did do does for from had has have how if in is it its many much of on or that the their "
    "this to was were what when which who will with would"
)


@dataclass(frozen=True)
class Evidence:
    """A row or sentence of the page as it is written in the prompt, with its place in reading order."""

    text: str
    place: int
    kind: Literal["header", "row", "sentence"]
    label: str = ""
    """The name by which programs read the row: its first cell, "" for a row before another one of that name."""


def shorten(text: str) -> str:
    """A cell or sentence without the second writing of its numbers.

    >>> shorten("fell by 22% ( 22 % ) to $ -32 ( 32 )")
    'fell by 22% to $ -32'
    """
    # Most texts have no bracket, and looking for one is much cheaper than the pattern.
    return (_REPEATED.sub(r"\1", text) if "(" in text else text).strip()


def words(text: str) -> list[str]:
    """Lower-case words and numbers of a text without stop words and plural s.

    >>> words("What was the total of net sales in 2012 ?")
    ['total', 'net', 'sale', '2012']
    """
    kept = (word for word in _WORD.findall(text.lower()) if word not in _STOPWORDS)
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in kept]


def page_evidence(table: Sequence[Sequence[str]], text: Sequence[str]) -> list[Evidence]:
    """Everything on a page that could be kept: the table's header, each other row, each sentence with words in it.

    A row is its label and its cells, "$" and second writings left out; only the header names the columns.

    >>> page = page_evidence([["", "2009", "2008"], ["cash", "$ 37", "-5 ( 5 )"]], ["a sentence .", "."])
    >>> [item.text for item in page]
    ['table : 2009 | 2008 ;', 'cash : 37 | -5 ;', 'a sentence .']
    """
    columns = list(table[0]) if len(table) > 1 else []
    evidence: list[Evidence] = []
    if any(name.strip() for name in columns):
        evidence.append(Evidence(_write_row([columns[0].strip() or "table", *columns[1:]]), 0, "header"))
    rows = table[1:] or table[:1]
    last = {row[0]: row for row in rows if row}
    for row in rows:
        if any(cell.strip() for cell in row):
            label = row[0] if last[row[0]] is row else ""
            evidence.append(Evidence(_write_row(row), len(evidence), "row", label))
    for sentence in text:
        if any(character.isalnum() for character in sentence):
            evidence.append(Evidence(shorten(sentence), len(evidence), "sentence"))
    return evidence


def _write_row(row: Sequence[str]) -> str:
    cells = [shorten(cell).replace("$", "").strip() for cell in row[1:]]
    return f"{row[0]} : {' | '.join(cells)} ;"


def relevance(question: str, evidence: Sequence[Evidence]) -> np.ndarray:
    """Scores of the evidence against the question [evidence], higher is better; 1 or more for the best BM25 hit."""
    scores = _bm25(question, evidence)
    best = scores.max(initial=0.0)
    if best > 0:
        scores /= best
    lifted = scores.copy()
    same_kind = np.array([before.kind == after.kind for before, after in pairwise(evidence)], bool)
    lifted[1:] += _NEIGHBOUR_SHARE * same_kind * scores[:-1]
    lifted[:-1] += _NEIGHBOUR_SHARE * same_kind * scores[1:]
    return lifted + _AMOUNT_BONUS * np.array([_AMOUNT.search(item.text) is not None for item in evidence])


def _bm25(question: str, evidence: Sequence[Evidence]) -> np.ndarray:
    documents = [words(item.text) or ["-"] for item in evidence]
    index = bm25s.BM25(k1=_K1, b=_B)
    index.index(documents, show_progress=False)
    query = [word for word in words(question) if word in index.vocab_dict]
    return np.array(index.get_scores(query) if query else np.zeros(len(documents)), dtype=np.float32)


def select_evidence(
    question: str, evidence: Sequence[Evidence], budget: int, count_tokens: Callable[[Sequence[str]], list[int]]
) -> list[Evidence]:
    """The evidence that fits `budget` tokens, chosen as described at the top of this file, in reading order.

    `count_tokens` returns the token count of each of several texts. An item that does not fit is passed over, so a long
    sentence does not keep a short row out.
    """
    if not evidence or budget <= 0:
        return []
    counts = count_tokens([item.text for item in evidence])
    if sum(counts) <= budget:
        return list(evidence)
    order = np.argsort(-relevance(question, evidence), kind="stable").tolist()
    kept: set[int] = set()
    _take((i for i in order if evidence[i].kind == "row"), int(_TABLE_SHARE * budget), evidence, counts, kept)
    _take((i for i in order if evidence[i].kind != "header"), budget, evidence, counts, kept)
    return [evidence[i] for i in sorted(kept)]


def _take(
    order: Iterable[int], budget: int, evidence: Sequence[Evidence], counts: Sequence[int], kept: set[int]
) -> None:
    """Add the items that still fit to `kept`, in this order; a row brings the header, without which it means little."""
    left = budget - sum(counts[i] for i in kept)
    has_header = evidence[0].kind == "header"
    for i in order:
        needed = {i, 0} if has_header and evidence[i].kind == "row" else {i}
        cost = sum(counts[j] for j in needed - kept)
        if cost <= left:
            kept |= needed
            left -= cost
