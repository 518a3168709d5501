"""The FinQA program language: parse, execute, compare. No other room knows its syntax.

A program is a list of steps, each an operation on two arguments; `#n` is the result of step n.

>>> program = parse("subtract(5829, 5735), divide(#0, 5735)")
>>> execute(program, table=[])
0.01639
>>> equal("add(1, 2)", "add(2, 1)")
True
"""

from finrank.programs.equality import equal as equal
from finrank.programs.execution import execute as execute
from finrank.programs.language import ARITHMETIC_OPERATIONS as ARITHMETIC_OPERATIONS
from finrank.programs.language import CONSTANTS as CONSTANTS
from finrank.programs.language import MOST_STEPS as MOST_STEPS
from finrank.programs.language import OPERATIONS as OPERATIONS
from finrank.programs.language import TABLE_OPERATIONS as TABLE_OPERATIONS
from finrank.programs.language import Program as Program
from finrank.programs.language import ProgramError as ProgramError
from finrank.programs.language import Step as Step
from finrank.programs.language import is_constant as is_constant
from finrank.programs.language import is_operand as is_operand
from finrank.programs.language import is_reference as is_reference
from finrank.programs.language import operands as operands
from finrank.programs.language import parse as parse
from finrank.programs.language import parse_or_none as parse_or_none
from finrank.programs.language import reference as reference
from finrank.programs.language import referenced_step as referenced_step
from finrank.programs.language import table_rows as table_rows
from finrank.programs.numbers import read_number as read_number
