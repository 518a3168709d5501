"""Plain arithmetic as a program.

    (153.7 - 139.9) / 139.9               subtract(153.7, 139.9), divide(#0, 139.9)
    divide(subtract(5829, 5735), 5735)    subtract(5829, 5735), divide(#0, 5735)

It knows + - * / ^ and > (also as × · ÷ − **), brackets, signs, "$", percentages, and the language's operations as
functions, nested or not.
"""

from __future__ import annotations

import re

from finrank.programs.language import ARITHMETIC_OPERATIONS, TABLE_OPERATIONS, Program, ProgramError, Step, parse

LONGEST_ARITHMETIC = 1_000  # characters; people write shorter ones, and brackets nest no deeper

_NUMBER = r"[$€£]?\s?(?:(?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+)(?:\s?%)?"
_TABLE_CALL = rf"(?:{'|'.join(TABLE_OPERATIONS)})\s*\([^()]*\)"
_TOKEN = re.compile(
    rf"\s*(?:({_TABLE_CALL})|({_NUMBER}|const_\w+|#\d+)|([a-z]+)\s*(?=\()|([-+*/^<>(),]))", re.IGNORECASE
)
_SYMBOLS = {"−": "-", "–": "-", "×": "*", "·": "*", "∗": "*", "÷": "/", "[": "(", "]": ")", "{": "(", "}": ")"}
_PLAIN = str.maketrans(_SYMBOLS)
_TIMES = re.compile(r"(?<=[\d%)])\s+x\s+(?=[\d$(.])", re.IGNORECASE)
_OPERATIONS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "^": "exp", ">": "greater"}
# "2009-2010" and "12/31/2009" are dates, "555-123-4567" is a telephone number: not differences and quotients.
_DATE = re.compile(
    r"(?:19|20)\d\d\s?[-/]\s?(?:(?:19|20)?\d\d)|\d{1,2}\s?[-/]\s?\d{1,2}\s?[-/]\s?\d{2,4}"
    r"|(?:19|20)\d\d\s?[-/]\s?\d{1,2}\s?[-/]\s?\d{1,2}|(?:\+?\d-)?\(?\d{3}\)?[- ]\d{3}-\d{4}"
)
_BULLET = re.compile(r"\s*[-–]\s+[a-z]|\s*\(?\d{1,2}[.)]\s+[-−–+][\d$.(]", re.IGNORECASE)
# "5-6" and "5% - 6%" are ranges where the first number is the smaller one; "4210 - 4302" is a difference.
_RANGE = re.compile(rf"({_NUMBER})(?:-| ?[–—] ?|(?<=%)\s*-\s*|\s*-\s*(?=[\d.,]+\s?%))({_NUMBER})")


def read_arithmetic(text: str) -> Program:
    """The program of an arithmetic expression; ProgramError for a text that is not one, or computes nothing.

    >>> str(read_arithmetic("(5,829 − 5,735) / $5735 × 100"))
    'subtract(5829, 5735), divide(#0, 5735), multiply(#1, 100)'
    """
    if _BULLET.match(text):
        raise ProgramError("not arithmetic, but an item of a list")
    if (limits := _RANGE.fullmatch(text.strip())) is not None and _size(limits[1]) < _size(limits[2]):
        raise ProgramError("not arithmetic, but a range")
    plain = _TIMES.sub(" * ", text.translate(_PLAIN).replace("**", "^")).strip()
    if len(plain) > LONGEST_ARITHMETIC or _DATE.fullmatch(plain):
        raise ProgramError("not arithmetic")
    try:
        return _Reader(plain).program()
    except RecursionError:
        raise ProgramError("not arithmetic: brackets nested too deeply") from None


def _size(number: str) -> float:
    return float(re.sub(r"[^\d.]", "", number))


class _Reader:
    """A recursive-descent parser: each method reads one level of precedence and returns the argument it stands for."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        end = 0
        while end < len(text):
            match = _TOKEN.match(text, end)
            if match is None:
                raise ProgramError("not arithmetic")
            self.tokens.append(match[match.lastindex or 0])
            end = match.end()
        self.steps: list[Step] = []
        self.at = 0

    def program(self) -> Program:
        self.comparison()
        if self.at < len(self.tokens) or not self.steps:
            raise ProgramError("not arithmetic")
        return Program(tuple(self.steps))

    def comparison(self) -> str:
        first = self.sum()
        if self.next_is("<", ">"):
            sign = self.take()
            second = self.sum()
            return self.step(">", first, second) if sign == ">" else self.step(">", second, first)
        return first

    def sum(self) -> str:
        value = self.product()
        while self.next_is("+", "-"):
            sign = self.take()
            other = self.product()
            if value.endswith("%") != other.endswith("%") and value not in ("1", "const_1"):
                raise ProgramError("not arithmetic: a percentage is added to another number")
            value = self.step(sign, value, other)
        return value

    def product(self) -> str:
        value = self.power()
        while self.next_is("*", "/"):
            sign = self.take()
            value = self.step(sign, value, self.power())
        return value

    def power(self) -> str:
        if self.next_is("-", "+"):
            sign = self.take()
            if self.next_is("-", "+"):
                raise ProgramError("not arithmetic: two signs")
            value = self.power()
            if sign == "+":
                return value
            return f"-{value}" if value[0].isdigit() else self.step("*", value, "const_m1")
        value = self.atom()
        if self.next_is("^"):
            self.take()
            return self.step("^", value, self.power())
        return value

    def atom(self) -> str:
        token = self.take()
        if token == "(":
            value = self.comparison()
            self.expect(")")
            return value
        name = token.lower()
        if name in ARITHMETIC_OPERATIONS:
            self.expect("(")
            first = self.argument()
            self.expect(",")
            second = self.argument()
            self.expect(")")
            return self.add(Step(name, (first, second)))
        if name.startswith("table_"):
            operation, _, _ = name.partition("(")
            label = token[len(operation) + 1 : -1]
            return self.add(*parse(f"{operation.strip()}({label if ', ' in label else label + ', none'})").steps)
        if token in _OPERATIONS or token in ("<", ")", ",") or token.isalpha():
            raise ProgramError("not arithmetic")
        return token.lstrip("$€£ ").replace(",", "").replace(" ", "")

    def argument(self) -> str:
        if self.next_is("(") and self.tokens[self.at + 2 : self.at + 3] == [")"]:
            raise ProgramError("not arithmetic: a number in brackets may be negative")
        return self.sum()

    def step(self, sign: str, first: str, second: str) -> str:
        return self.add(Step(_OPERATIONS[sign], (first, second)))

    def add(self, step: Step) -> str:
        self.steps.append(step)
        return f"#{len(self.steps) - 1}"

    def next_is(self, *signs: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at] in signs

    def take(self) -> str:
        if self.at == len(self.tokens):
            raise ProgramError("not arithmetic: it ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise ProgramError("not arithmetic: a bracket or comma is missing")
