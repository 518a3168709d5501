"""Read a big JSON list one element at a time, so that memory does not grow with the length of the list.

An element that is not JSON, nested too deeply or far too long is stepped over by its brackets, so that it does not take
the rest of the file with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from finrank.console import Reading
from finrank.errors import UserError
from finrank.store.json_lines import KeyCheckingDecoder

_CHUNK = 1 << 18  # characters read at a time
_LONGEST_TOKEN = 16  # a cut literal, number sign or escape makes the decoder fail this close to the cut
_LONGEST_ELEMENT = 100_000_000  # characters; a longer one is stepped over without being held in memory

_BRACKET_OR_QUOTE = re.compile(r'["{}\[\]]')
_ESCAPE_OR_QUOTE = re.compile(r'\\.|"', re.DOTALL)


class BrokenList(ValueError):
    """The file is not a JSON list from some point on; the elements before it have been read."""


@dataclass(frozen=True)
class Malformed:
    """An element of the list that cannot be used, and why; `value` is what could be read of it."""

    reason: str
    value: Any = None


def stream_list(path: Path, chunk: int = _CHUNK, reading: Reading | None = None) -> Iterator[Any]:
    """Yield the elements of the JSON list in a file, in order; `Malformed` for one that is not JSON by itself.

    Bytes that are not UTF-8 become lone surrogates, for the reader of an element to refuse. `chunk` is the number of
    characters read at a time; `reading` is kept up to date for a progress bar. Raises UserError when there is no such
    file or it cannot be JSON at all, BrokenList where the list ends too early, is malformed, or is another JSON value.

    A file holding `[{"id": "a"}, {"id" "b"}, {"id": "c"}, {"i` yields the first object, a Malformed, the third
    object, then raises BrokenList.
    """
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        # newline="" keeps the character offsets of messages those of the file
        stream = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    with stream:
        yield from _elements(path, _Window(stream, chunk, reading))


def _elements(path: Path, window: _Window) -> Iterator[Any]:
    first = window.peek()
    if first != "[":
        if first and first in '{"-0123456789tfn':
            raise BrokenList("the file holds no list: expected a JSON list of examples")
        if window.text.startswith(("\udcff\udcfe", "\udcfe\udcff")):
            raise UserError(f"{path} is not JSON in UTF-8 but text in UTF-16: save it as UTF-8")
        raise UserError(f"{path} is not JSON: expected a list of examples, starting with '['")
    window.position += 1
    while window.peek() != "]":
        yield window.element()
        if window.peek() == ",":
            window.position += 1
            if window.peek() == "]":
                raise window.broken("a comma before the end of the list")
        elif not window.peek():
            raise window.broken("the file ends inside the list")
        elif window.peek() != "]":
            raise window.broken("expected ',' or ']' after an element")
    window.position += 1
    if window.peek():
        raise window.broken("text after the end of the list")


class _Window:
    """Part of the file: text that is not yet used, and where in it the next value starts."""

    def __init__(self, stream: IO[str], chunk: int, reading: Reading | None) -> None:
        self.stream, self.chunk, self.reading = stream, chunk, reading
        self.text = ""
        self.position = 0
        self.dropped = 0  # characters of the file before `text`
        self.decoder = KeyCheckingDecoder()

    def more(self) -> bool:
        """Drop used text and read on, doubling the rest; False at the end of the file."""
        new = self.stream.read(max(self.chunk, len(self.text) - self.position))
        if not new:
            return False
        self.dropped += self.position
        self.text, self.position = self.text[self.position :] + new, 0
        if self.reading is not None:
            self.reading.done = cast(Any, self.stream).buffer.tell()
        return True

    def peek(self) -> str:
        """Move to the next character that is not white space, and return it; "" at the end of the file."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in " \t\r\n":
                self.position += 1
            if self.position < len(self.text):
                return self.text[self.position]
            if not self.more():
                return ""

    def element(self) -> Any:
        """The element that starts here, or `Malformed`; BrokenList where it cannot even be stepped over."""
        try:
            value = self.decode()
        except json.JSONDecodeError as error:
            fault = self.at(error.pos, error.msg)
            if self.peek() not in ("{", "["):
                raise BrokenList(f"{fault}; nothing from this element on was read") from None
            self.step_over(fault)
            return Malformed(fault)
        return value if self.decoder.fault is None else Malformed(self.decoder.fault, value)

    def decode(self) -> Any:
        """The value that starts here, reading on while it may have been cut by the end of the window.

        Raises JSONDecodeError, with a position in the window, for an element that is not JSON, too deep or too long.
        """
        while True:
            self.decoder.fault = None
            try:
                value, end = self.decoder.raw_decode(self.text, self.position)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self.text) - _LONGEST_TOKEN
                if cut and len(self.text) - self.position > _LONGEST_ELEMENT:
                    reason = f"an element of more than {_LONGEST_ELEMENT} characters"
                    raise json.JSONDecodeError(reason, "", self.position) from None
                if not cut or not self.more():
                    raise
                continue
            except RecursionError:
                raise json.JSONDecodeError("values nested too deeply", "", self.position) from None
            # a number near the end of the window may continue after it: "1." or "1e-" decode as 1
            if end + len("e-") < len(self.text) or not self.more():
                self.position = end
                return value

    def step_over(self, fault: str) -> None:
        """Move behind the object or list that starts here, by its brackets; BrokenList where they do not close."""
        depth, in_text = 0, False
        while True:
            match = (_ESCAPE_OR_QUOTE if in_text else _BRACKET_OR_QUOTE).search(self.text, self.position)
            if match is None:
                # a backslash at the very end belongs to a character that is not read yet
                self.position = max(self.position, len(self.text) - (in_text and self.text.endswith("\\")))
                if not self.more():
                    raise BrokenList(f"{fault}; nothing from this element on was read")
                continue
            self.position = match.end()
            if match[0] == '"':
                in_text = not in_text
            elif not in_text:
                depth += 1 if match[0] in "{[" else -1
                if depth == 0:
                    return

    def at(self, position: int, reason: str) -> str:
        """A fault with its position in the file, from that in the window."""
        return f"not JSON at character {self.dropped + position}: {reason}"

    def broken(self, reason: str) -> BrokenList:
        """The error for a fault here."""
        return BrokenList(f"{self.at(self.position, reason)}; nothing from this element on was read")
