"""Decoding held to `program_text.py`: a token is allowed where it continues a text that makes sense on the page.

Tokens need not end where pieces do: a BPE token may be a digit of a number, or the end of one argument and the
beginning of the next, as `),` is. So texts are compared byte by byte, and every way to write one in tokens is allowed.
The tokens of a vocabulary are sorted by their bytes; those that fit a place are found by walking along the bytes that
its pieces allow, as long as some token begins like that.

Where few tokens are left, only those are allowed that leave room for an ending, so that no text is cut off.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import LogitsProcessor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from finrank.generator.program_text import Place, ProgramText
from finrank.records import Question

_SPACE = "\u2581"  # in the tokens of SentencePiece


class Vocabulary:
    """The tokens of a tokenizer as bytes, in their order, and its end token."""

    def __init__(self, tokenizer: Any) -> None:
        tokens = {token: index for token, index in tokenizer.get_vocab().items() if token not in _added(tokenizer)}
        is_byte_level = set().union(*tokens) <= set(pre_tokenizers.ByteLevel.alphabet())
        read = _bytes_of_byte_level if is_byte_level else _bytes_of_sentencepiece
        pairs = sorted((read(token), index) for token, index in tokens.items())
        self.tokens, self.ids = [text for text, _ in pairs], [index for _, index in pairs]
        self.end: int = tokenizer.eos_token_id

    def starting_with(self, text: bytes) -> tuple[list[int], bool]:
        """The ids of the tokens that are this text, and whether longer ones begin with it."""
        start = index = bisect_left(self.tokens, text)
        while index < len(self.tokens) and self.tokens[index] == text:
            index += 1
        return self.ids[start:index], index < len(self.tokens) and self.tokens[index].startswith(text)


def _added(tokenizer: Any) -> set[str]:
    """Tokens outside of the model of the text, such as the end token."""
    return {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}


_BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}


def _bytes_of_byte_level(token: str) -> bytes:
    return bytes(_BYTE_OF[character] for character in token)


def _bytes_of_sentencepiece(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace(_SPACE, " ").encode()


class Cursor(NamedTuple):
    """A place in a text, and the beginning of a piece that is written behind it."""

    place: Place = Place()
    begun: bytes = b""


class TokenGrammar:
    """Which tokens may follow which, for one question."""

    def __init__(self, question: Question, vocabulary: Vocabulary) -> None:
        self._texts, self._vocabulary = ProgramText(question), vocabulary
        self._next: dict[Cursor, dict[int, Cursor]] = {}
        self._needed: dict[Cursor, int] = {}

    def allowed(self, written: Sequence[int], most_tokens: int) -> list[int]:
        """The tokens that may come behind those written, of a text of at most `most_tokens` with its end token."""
        cursor = Cursor()
        for token in written:
            if cursor.place.is_end:
                break  # what follows is padding
            cursor = self._behind(cursor)[token]
        if cursor.place.is_end:
            return [self._vocabulary.end]
        left = most_tokens - len(written) - 1
        behind = self._behind(cursor)
        # Tokens of one byte exist, so that no ending needs more tokens than bytes.
        return [token for token, after in behind.items() if self._bytes_to_end(after) < left] or list(behind)

    def _behind(self, cursor: Cursor) -> dict[int, Cursor]:
        """The tokens that may come next, each with the cursor behind it."""
        if cursor not in self._next:
            found: dict[int, Cursor] = {}
            waiting = [(b"", cursor)]
            while waiting:
                text, reached = waiting.pop()
                for byte, behind in self._along(reached).items():
                    ids, longer = self._vocabulary.starting_with(text + byte)
                    found.update(dict.fromkeys(ids, behind))
                    if longer:
                        waiting.append((text + byte, behind))
            self._next[cursor] = found
        return self._next[cursor]

    def _along(self, cursor: Cursor) -> dict[bytes, Cursor]:
        """The bytes that may come next, each with the cursor behind it."""
        place, begun = cursor
        moves = {}
        for piece, behind in self._texts.pieces(place).items():
            if piece.startswith(begun):
                longer = piece[: len(begun) + 1]
                moves[longer[-1:]] = Cursor(behind) if longer == piece else Cursor(place, longer)
        return moves

    def _bytes_to_end(self, cursor: Cursor) -> int:
        if cursor not in self._needed:
            place, begun = cursor
            rests = [
                len(piece) - len(begun) + self._texts.shortest_rest(behind)
                for piece, behind in self._texts.pieces(place).items()
                if piece.startswith(begun)
            ]
            self._needed[cursor] = min(rests, default=0)
        return self._needed[cursor]


class ProgramsOnly(LogitsProcessor):
    """Allows what the grammar of each row's question allows, in a batch of prompts padded on the left.

    Rows are in the order of the grammars, each as often as its prompt has continuations.
    """

    def __init__(self, grammars: Sequence[TokenGrammar], prompt_length: int, most_tokens: int) -> None:
        self._grammars, self._prompt_length, self._most_tokens = grammars, prompt_length, most_tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Token ids [rows, tokens] and scores [rows, vocabulary] to scores, minus infinity where not allowed."""
        copies = len(input_ids) // len(self._grammars)
        rows: list[int] = []
        tokens: list[int] = []
        for row, written in enumerate(input_ids[:, self._prompt_length :].tolist()):
            allowed = self._grammars[row // copies].allowed(written, self._most_tokens)
            rows += [row] * len(allowed)
            tokens += allowed
        at = torch.tensor([rows, tokens], device=scores.device).unbind()
        return torch.full_like(scores, -torch.inf).index_put(at, scores[at])
