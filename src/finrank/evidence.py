"""Which part of the page goes into the prompt: table rows and sentences, the most relevant to the question first.

Pages are longer than the model's window (decision 10), so rows and sentences compete for a token budget by their BM25
score against the question (Robertson & Zaragoza 2009, through the bm25s library). Gold evidence is never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import bm25s
import numpy as np

# FinQA writes a number twice, "22% ( 22 % )" and "-32 ( 32 )": the repetition costs tokens and says nothing.
_REPEATED = re.compile(r"(-?[\d.,]+\s*%?)\s*\(\s*[\d.,]+\s*%?\s*\)")
_WORD = re.compile(r"[a-z]{2,}|\d+(?:\.\d+)?")
_STOPWORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "if",
        "in",
        "is",
        "it",
        "its",
        "many",
        "much",
        "of",
        "on",
        "or",
        "that",
        "the",
        "their",
        "this",
        "to",
        "was",
        "were",
        "what",
        "when",
        "which",
        "who",
        "will",
        "with",
        "would",
    ]
)


@dataclass(frozen=True)
class Evidence:
    """A row or sentence of the page as it is written in the prompt, with its place in reading order."""

    text: str
    place: int
    is_row: bool


def shorten(text: str) -> str:
    """A cell or sentence without the second writing of its numbers.

    >>> shorten("fell by 22% ( 22 % ) to $ -32 ( 32 )")
    'fell by 22% to $ -32'
    """
    return _REPEATED.sub(r"\1", text).strip()


def words(text: str) -> list[str]:
    """Lower-case words and numbers of a text, stop words left out, plural s dropped.

    >>> words("What was the total of net sales in 2012 ?")
    ['total', 'net', 'sale', '2012']
    """
    found = (word for word in _WORD.findall(text.lower()) if word not in _STOPWORDS)
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in found]


def page_evidence(table: Sequence[Sequence[str]], text: Sequence[str]) -> list[Evidence]:
    """Everything on a page that could be kept: each table row with its column headers, each sentence with words in it.

    >>> page_evidence([["", "2008"], ["revenue", "$ 637"]], ["a sentence .", "."])[0].text
    'revenue : 2008 $ 637'
    """
    header = list(table[0]) if table else []
    evidence: list[Evidence] = []
    for row in table[1:] or table[:1]:
        evidence.append(Evidence(_write_row(row, header if len(table) > 1 else []), len(evidence), True))
    for sentence in text:
        if any(character.isalnum() for character in sentence):
            evidence.append(Evidence(shorten(sentence), len(evidence), False))
    return evidence


def _write_row(row: Sequence[str], header: Sequence[str]) -> str:
    cells = [
        " ".join(part for part in (header[column] if column < len(header) else "", shorten(cell)) if part)
        for column, cell in enumerate(row[1:], start=1)
    ]
    return f"{row[0] if row else ''} : {' , '.join(cells)}".strip()


def relevance(question: str, evidence: Sequence[Evidence]) -> np.ndarray:
    """BM25 scores of the evidence against the question, [evidence]."""
    documents = [words(item.text) or ["-"] for item in evidence]
    index = bm25s.BM25()
    index.index(documents, show_progress=False)
    vocabulary = set(index.vocab_dict)
    query = [word for word in words(question) if word in vocabulary]
    if not query:
        return np.zeros(len(documents), dtype=np.float32)
    return np.asarray(index.get_scores(query), dtype=np.float32)


def select_evidence(
    question: str,
    evidence: Sequence[Evidence],
    budget: int,
    count_tokens: Callable[[Sequence[str]], list[int]],
) -> list[Evidence]:
    """The evidence that fits `budget` tokens, most relevant first while it fits, given back in reading order.

    `count_tokens` gives the token count of each of several texts. An item that does not fit is passed over, so a long
    sentence does not keep a short row out.
    """
    if not evidence or budget <= 0:
        return []
    counts = count_tokens([item.text for item in evidence])
    if sum(counts) <= budget:
        return list(evidence)
    scores = relevance(question, evidence)
    kept: list[Evidence] = []
    left = budget
    for index in np.argsort(-scores, kind="stable"):
        if counts[index] <= left:
            kept.append(evidence[index])
            left -= counts[index]
    return sorted(kept, key=lambda item: item.place)
