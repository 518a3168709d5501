"""What the first stage reads: question and page as tokens, and the places in them that a program can point at.

The question comes first, then the most relevant rows and sentences in reading order (`page/relevance.py`). A cell is
written behind its column's name, so that a row means something without the header: "revenue : 2009 5829 ; 2008 5735 ;".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from finrank.errors import UserError
from finrank.page.page import cell_number
from finrank.page.relevance import Evidence, page_evidence, select_evidence, shorten
from finrank.programs.numbers import NUMBER
from finrank.ranker.tokenizer import tokenize
from finrank.records import Question

_NUMBER_IN_TEXT = re.compile(rf"(?<!\S)\$?(-?{NUMBER}%?)(?!\S)")
_SPECIAL_TOKENS = 3  # the first, and one behind the question; one in reserve, as the shipped weights were trained


class Piece(NamedTuple):
    """A piece of text, and the number or the row label that it is."""

    text: str
    number: str | None = None
    row: str | None = None


@dataclass(frozen=True)
class PageTokens:
    """A question and its page as token ids, with what a program can point at: numbers first, then row labels."""

    ids: list[int]
    pointed_at: list[str]
    spans: list[tuple[int, int]]
    """Of each pointer, the position of its first token and the one behind its last."""
    n_numbers: int
    table: list[list[str]]


def tokenize_page(question: Question, tokenizer: Any, max_length: int) -> PageTokens:
    """Write question and page in at most `max_length` tokens; UserError where the question alone is longer."""

    def tokens(text: str) -> list[int]:
        return tokenize([text], tokenizer)[0] if text.strip() else []

    asked = [(tokens(piece.text), piece) for piece in _sentence_pieces(question.question)]
    room = max_length - _SPECIAL_TOKENS - sum(len(ids) for ids, _ in asked)
    if room < 0:
        raise UserError(f"the question has {max_length - room} tokens, more than max_length {max_length}: shorten it")
    evidence = _evidence(question)
    written = {place: [(tokens(piece.text), piece) for piece in pieces] for place, (_, pieces) in evidence.items()}
    lengths = {item.text: sum(len(ids) for ids, _ in written[place]) for place, (item, _) in evidence.items()}
    items = [item for item, _ in evidence.values()]
    kept = select_evidence(question.question, items, room, lambda texts: [lengths[text] for text in texts])
    separator = [([tokenizer.sep_token_id], Piece(""))]
    parts = [*asked, *separator, *(part for item in kept for part in written[item.place])]
    return _join(parts, [tokenizer.cls_token_id], question.table)


def _evidence(question: Question) -> dict[int, tuple[Evidence, list[Piece]]]:
    """By place: every row and sentence of the page, as written here, with its pieces."""
    table = question.table
    rows = iter(row for row in table[1:] or table[:1] if any(cell.strip() for cell in row))
    evidence = {}
    for item in page_evidence(table, question.text):
        if item.kind == "header":
            continue
        pieces = _row_pieces(next(rows), table[0]) if item.kind == "row" else _sentence_pieces(item.text)
        text = " ".join(piece.text for piece in pieces)
        evidence[item.place] = (Evidence(text, item.place, item.kind, item.label), pieces)
    return evidence


def _sentence_pieces(sentence: str) -> list[Piece]:
    pieces: list[Piece] = []
    end = 0
    for match in _NUMBER_IN_TEXT.finditer(sentence):
        pieces += [Piece(sentence[end : match.start()]), Piece(match[0], number=match[1].replace(",", ""))]
        end = match.end()
    return [*pieces, Piece(sentence[end:])]


def _row_pieces(row: Sequence[str], header: Sequence[str]) -> list[Piece]:
    label = row[0] if row else ""
    pieces = [Piece(f"{label} :", row=label)]
    for column, cell in enumerate(row[1:], start=1):
        number = cell_number(cell)
        pieces += [
            Piece(shorten(header[column]) if column < len(header) else ""),
            Piece(shorten(cell).replace("$", "").strip(), number=number and number.text),
            Piece(";"),
        ]
    return pieces


def _join(parts: Sequence[tuple[list[int], Piece]], ids: list[int], table: list[list[str]]) -> PageTokens:
    numbers: list[tuple[str, tuple[int, int]]] = []
    rows: list[tuple[str, tuple[int, int]]] = []
    ids = list(ids)
    for piece_ids, piece in parts:
        span = (len(ids), len(ids) + len(piece_ids))
        ids += piece_ids
        if not piece_ids:
            continue
        if piece.row is not None:
            rows.append((piece.row, span))
        elif piece.number is not None:
            numbers.append((piece.number, span))
            if piece.number.startswith("-"):
                numbers.append((piece.number[1:], span))  # a program may drop the sign
    pointers = [*numbers, *rows]
    return PageTokens(ids, [text for text, _ in pointers], [span for _, span in pointers], len(numbers), table)
