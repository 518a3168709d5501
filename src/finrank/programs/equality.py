"""Whether two programs are the same calculation, as the official FinQA evaluator judges it.

The algorithm: every number text of the gold program becomes a symbol (so 100 and 100.0 differ), and so does every table
step; the other program may use only those. Both last steps become expressions of the symbols, which are the same when
sympy's `simplify` returns the same form for both.

sympy is slow and its time has no bound, so exact tests come first: the same expression up to the order of sums and
products is equal; rational functions with different values at a point, computed modulo a prime, are different. Small
expressions among the rest go to sympy; a few operations more, and it never finishes (a + b + c) ** 3 ** 3 ** 3. Larger
ones count as equal when their values modulo the prime agree, with exp and greater as arbitrary functions.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from typing import Any

from finrank.programs.language import (
    TABLE_OPERATIONS,
    Program,
    ProgramError,
    Step,
    is_reference,
    parse_or_none,
    referenced_step,
)

_PRIME = 2**61 - 1
_LARGEST = 10  # operations in an expression for sympy, which then answers within a second or two

Symbol = str | tuple[bool, Step]


def equal(gold: str | Program | None, other: str | Program | None) -> bool:
    """True if the official evaluator counts `other` as the same program as `gold`; never raises.

    False when either is not a program. Not symmetric: `other` may not use a number that `gold` lacks.

    >>> equal("add(1, 2), divide(#0, 3)", "add(2, 1), divide(#0, 3)")
    True
    >>> equal("divide(1, 2)", "divide(1.0, 2)")
    False
    """
    gold_program, other_program = _program(gold), _program(other)
    if gold_program is None or other_program is None:
        return False
    symbols = _symbols(gold_program)
    if not symbols.keys() >= _symbols(other_program).keys():
        return False
    expressions = _Expressions(len(symbols))
    try:
        first = expressions.last_step(gold_program, symbols)
        second = expressions.last_step(other_program, symbols)
    except ProgramError:
        return False
    return first == second or expressions.equal(first, second)


def _program(program: str | Program | None) -> Program | None:
    if not isinstance(program, Program):
        return parse_or_none(program)
    return program if program.steps else None


def _table_symbol(index: int, step: Step) -> Symbol:
    # As in the official evaluator, a table step in first place is another symbol than the same step further on.
    return (index == 0, step)


def _symbols(program: Program) -> dict[Symbol, int]:
    """Number the texts and table steps of a program in order of appearance."""
    symbols: dict[Symbol, int] = {}
    for index, step in enumerate(program.steps):
        if step.operation in TABLE_OPERATIONS:
            symbols.setdefault(_table_symbol(index, step), len(symbols))
        else:
            for argument in step.arguments:
                if not is_reference(argument):
                    symbols.setdefault(argument, len(symbols))
    return symbols


class _Expressions:
    """Expressions over numbered symbols, each distinct one kept once.

    Nodes 0 ... n-1 are the symbols; a further node is (operation, node, node) with both nodes before it, so that a
    program that doubles at each of a thousand steps has a thousand nodes.
    """

    def __init__(self, num_symbols: int) -> None:
        points = random.Random(0)
        self._nodes: list[tuple[str, int, int] | None] = [None] * num_symbols
        self._numbers: dict[tuple[str, int, int], int] = {}
        self._sizes = [0] * num_symbols
        self._rational = [True] * num_symbols
        self._values: list[int | None] = [points.randrange(1, _PRIME) for _ in range(num_symbols)]

    def last_step(self, program: Program, symbols: dict[Symbol, int]) -> int:
        """The node of a program's last step; ProgramError where a step does not refer to an earlier one."""
        results: list[int] = []
        for index, step in enumerate(program.steps):
            if step.operation in TABLE_OPERATIONS:
                results.append(symbols[_table_symbol(index, step)])
                continue
            nodes = []
            for argument in step.arguments:
                if not is_reference(argument):
                    nodes.append(symbols[argument])
                elif 0 <= referenced_step(argument) < index:
                    nodes.append(results[referenced_step(argument)])
                else:
                    raise ProgramError(f"step {index}: {argument} refers to no earlier step")
            results.append(self._node(step.operation, nodes[0], nodes[1]))
        return results[-1]

    def _node(self, operation: str, first: int, second: int) -> int:
        if operation in ("add", "multiply"):
            first, second = sorted((first, second))
        node = (operation, first, second)
        if node not in self._numbers:
            self._numbers[node] = len(self._nodes)
            self._nodes.append(node)
            self._sizes.append(min(_LARGEST + 1, 1 + self._sizes[first] + self._sizes[second]))
            self._rational.append(operation in _FIELD and self._rational[first] and self._rational[second])
            self._values.append(_modular(operation, self._values[first], self._values[second]))
        return self._numbers[node]

    def equal(self, first: int, second: int) -> bool:
        """True if two nodes are the same expression, by their values or else by sympy."""
        known = self._values[first] is not None and self._values[second] is not None
        alike = known and self._values[first] == self._values[second]
        if known and not alike and self._rational[first] and self._rational[second]:
            return False
        if max(self._sizes[first], self._sizes[second]) > _LARGEST:
            return alike
        try:
            return bool(self._simplified(first) == self._simplified(second))
        except MemoryError:
            raise
        except Exception:  # sympy refuses an expression (a sum of comparisons): the official evaluator fails too
            return False

    def _simplified(self, node: int) -> Any:
        import sympy  # slow to import, seldom needed

        return sympy.simplify(self._symbolic(node), evaluate=False)

    def _symbolic(self, number: int) -> Any:
        import sympy

        node = self._nodes[number]
        if node is None:
            return sympy.Symbol(f"a{number}")
        operation, first, second = node
        return _SYMBOLIC[operation](self._symbolic(first), self._symbolic(second))


def _modular(operation: str, first: int | None, second: int | None) -> int | None:
    """The operation on integers modulo the prime; None for a division by zero and all that uses it."""
    if first is None or second is None or (operation == "divide" and second == 0):
        return None
    if operation == "divide":
        return first * pow(second, -1, _PRIME) % _PRIME
    if operation in _FIELD:
        return int(_SYMBOLIC[operation](first, second)) % _PRIME
    # No value modulo a prime: an arbitrary function of both arguments instead, one for each operation.
    slope, offset = _ARBITRARY[operation]
    return pow(first + slope * second + offset, 5, _PRIME)


_FIELD = ("add", "subtract", "multiply", "divide")
_ARBITRARY = {
    "exp": (1_046_527_313_589_793, 2_718_281_828_459_045),
    "greater": (1_414_213_562_373_095, 1_732_050_807_568_877),
}
_SYMBOLIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "exp": operator.pow,
    "greater": operator.gt,
}
