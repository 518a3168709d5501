"""The FinQA program language: parse, execute, compare. No other room knows its syntax.

A program is a list of steps, each an operation on two arguments; `#n` is the result of step n.

>>> program = parse("subtract(5829, 5735), divide(#0, 5735)")
>>> execute(program, table=[])
0.01639
>>> equal("add(1, 2)", "add(2, 1)")
True
"""

from finrank.programs.equality import equal
from finrank.programs.execution import execute
from finrank.programs.language import (
    ARITHMETIC_OPERATIONS,
    CONSTANTS,
    OPERATIONS,
    TABLE_OPERATIONS,
    Program,
    ProgramError,
    Step,
    is_constant,
    is_operand,
    is_reference,
    operands,
    parse,
    reference,
    referenced_step,
    table_rows,
)
from finrank.programs.numbers import read_number

__all__ = [
    "ARITHMETIC_OPERATIONS",
    "CONSTANTS",
    "OPERATIONS",
    "TABLE_OPERATIONS",
    "Program",
    "ProgramError",
    "Step",
    "equal",
    "execute",
    "is_constant",
    "is_operand",
    "is_reference",
    "operands",
    "parse",
    "read_number",
    "reference",
    "referenced_step",
    "table_rows",
]
