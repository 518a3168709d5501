"""Labels of a page's numbers: the row and column of a cell, or the words around a number in a sentence.

A small encoder reads "5829" as noise but "revenue 2009" as meaning, so every operand of a candidate is written with its
label. The gold program is not used: labels come from the page, and from the question where a number occurs in several
places.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

from finrank.page.relevance import shorten, words
from finrank.programs.numbers import NUMBER

_NUMBER = re.compile(NUMBER)
_MAX_LABEL_WORDS = 10
_WORDS_BEFORE = 6
_WORDS_AFTER = 2


def number_key(text: str) -> str | None:
    """The digits that identify a number however it is written, without sign, unit, commas and trailing zeros.

    >>> number_key("$ -1,637.50 ( 1637.50 )"), number_key("22%"), number_key("revenue")
    ('1637.5', '22', None)
    """
    match = _NUMBER.search(text)
    if match is None:
        return None
    digits = match.group().replace(",", "")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return digits.lstrip("0") or "0"


def number_keys(text: str) -> list[str]:
    """Keys of all numbers in a text, in order."""
    return [key for key in map(number_key, _NUMBER.findall(text)) if key is not None]


class PageLabels:
    """The labels of all numbers on a page.

    >>> labels = PageLabels([["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"]], ["we paid 40 in tax ."])
    >>> labels.of("5829", question="revenue in 2009"), labels.of("40", question=""), labels.of("7", question="")
    ('revenue 2009', 'we paid in tax', None)
    """

    def __init__(self, table: Sequence[Sequence[str]], text: Sequence[str]) -> None:
        # By number, its labels in reading order, each once: a page may repeat "1" twenty thousand times.
        self._labels: dict[str, dict[str, None]] = {}
        self._chosen: dict[tuple[str, str], str] = {}  # by number and question: a pool's candidates share most numbers
        header = table[0] if table else []
        for row in table[1:]:
            for column, cell in enumerate(row[1:], start=1):
                key = number_key(cell)
                if key is not None:
                    self._add(key, row[0], header[column] if column < len(header) else "")
        for cell in header:
            for key in number_keys(cell):
                self._add(key, cell, "")
        for sentence in text:
            self._add_sentence(sentence)

    def _add(self, key: str, row: str, column: str) -> None:
        label = " ".join(f"{row} {column}".split()[:_MAX_LABEL_WORDS])
        if label:
            self._labels.setdefault(key, {})[label] = None

    def _add_sentence(self, sentence: str) -> None:
        tokens = shorten(sentence).split()
        for index, token in enumerate(tokens):
            key = number_key(token)
            if key is not None:
                before = tokens[max(0, index - _WORDS_BEFORE) : index]
                after = tokens[index + 1 : index + 1 + _WORDS_AFTER]
                self._labels.setdefault(key, {})[" ".join(before + after)] = None

    def of(self, operand: str, question: str) -> str | None:
        """The label of a number; of several, the one that shares most words with the question (the first of equals)."""
        key = number_key(operand)
        if key is None or key not in self._labels:
            return None
        if (key, question) not in self._chosen:
            self._chosen[key, question] = _closest(self._labels[key], question)
        return self._chosen[key, question]


def _closest(labels: Collection[str], question: str) -> str:
    if len(labels) == 1:
        return next(iter(labels))
    wanted = Counter(words(question))
    return max(labels, key=lambda label: _overlap(words(label), wanted))


def _overlap(label: list[str], wanted: Counter[str]) -> float:
    return sum((Counter(label) & wanted).values()) - 0.01 * len(label)
