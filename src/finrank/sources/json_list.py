"""Read a big JSON list one element at a time, so that memory does not grow with the length of the list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from finrank.store import UserError

_CHUNK = 1 << 18  # characters read at a time
_LONGEST_TOKEN = 16  # a cut literal, number sign or escape makes the decoder fail this close to the cut
_LONGEST_INTEGER = 300  # digits; Python refuses very long integers, as a float they are merely infinite


class BrokenList(ValueError):
    """The file is no JSON list from some point on; the elements before it have been given."""


def stream_list(path: Path, chunk: int = _CHUNK) -> Iterator[Any]:
    """Yield the elements of the JSON list in a file, in order.

    Bytes that are not UTF-8 come through as lone surrogates, for the reader of an element to refuse. Raises
    UserError when there is no such file or it cannot be JSON at all, BrokenList where the list ends too
    early, is malformed, or is some other JSON value. `chunk` is the number of characters read at a time.

    A file holding `[{"id": "a"}, {"id": "b"}, {"i` yields the first two objects, then raises BrokenList.
    """
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        # newline="" keeps the character offsets of messages those of the file
        stream = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    with stream:
        yield from _elements(path, _Buffer(stream, chunk))


def _elements(path: Path, buffer: _Buffer) -> Iterator[Any]:
    first = buffer.peek()
    if first != "[":
        if first and first in '{"-0123456789tfn':
            raise BrokenList("the file holds no list: expected a JSON list of examples")
        raise UserError(f"{path} is not JSON: expected a list of examples, starting with '['")
    buffer.position += 1
    while buffer.peek() != "]":
        yield buffer.decode()
        if buffer.peek() == ",":
            buffer.position += 1
            if buffer.peek() == "]":
                raise buffer.broken("a comma before the end of the list")
        elif not buffer.peek():
            raise buffer.broken("the file ends inside the list")
        elif buffer.peek() != "]":
            raise buffer.broken("expected ',' or ']' after an element")
    buffer.position += 1
    if buffer.peek():
        raise buffer.broken("text after the end of the list")


class _Buffer:
    """A window on the file: text not yet used, and where in it the next value starts."""

    def __init__(self, stream: IO[str], chunk: int) -> None:
        self.stream = stream
        self.chunk = chunk
        self.text = ""
        self.position = 0
        self.dropped = 0  # characters of the file before `text`
        self.decoder = json.JSONDecoder(parse_int=_integer)

    def more(self) -> bool:
        """Drop used text and read on, doubling what is kept; False at the end of the file."""
        new = self.stream.read(max(self.chunk, len(self.text) - self.position))
        if not new:
            return False
        self.dropped += self.position
        self.text, self.position = self.text[self.position :] + new, 0
        return True

    def peek(self) -> str:
        """The next character that is no white space, moving up to it; "" at the end of the file."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in " \t\r\n":
                self.position += 1
            if self.position < len(self.text):
                return self.text[self.position]
            if not self.more():
                return ""

    def decode(self) -> Any:
        """The value that starts here, reading on while it may have been cut by the end of the window."""
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.position)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self.text) - _LONGEST_TOKEN
                if not cut or not self.more():
                    raise self.broken(error.msg, error.pos) from error
                continue
            except RecursionError as error:
                raise self.broken("values nested too deeply") from error
            # a number near the end of the window may go on after it: "1." or "1e-" decode as 1
            if end + len("e-") < len(self.text) or not self.more():
                self.position = end
                return value

    def broken(self, what: str, position: int | None = None) -> BrokenList:
        """The error for a fault at a position of the window (default: here)."""
        at = self.dropped + (self.position if position is None else position)
        return BrokenList(f"not JSON at character {at}: {what}; nothing from this element on was read")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)
