"""Texts and values that people and systems give as candidates, and what each is read as: one table of literal cases.

The unit tests read each, `tests/end_to_end/test_one_reader.py` sends each through every interface, and
`scripts/write_readings.py` writes the marked ones into the docs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

QUESTION = "what is the change in revenue ?"
TABLE = [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["net sales", "$ 12", "$ 10"]]

DIFFERENCE = "subtract(5829, 5735)"
GROWTH = "subtract(5829, 5735), divide(#0, 5735)"
SUM_OF_ROW = "table_sum(revenue, none)"


class Reading(NamedTuple):
    """What is given, and what it is read as: a program or a stated answer with its value, or the words of a refusal."""

    kind: str
    given: Any
    program: str | None = None
    answer: float | str | None = None
    error: str | None = None
    in_docs: bool = False


def _all(kind: str, given: list[Any], *expected: Any, in_docs: int = 1) -> list[Reading]:
    """Readings with the same result; the first `in_docs` are shown in the docs."""
    return [Reading(kind, item, *expected, in_docs=index < in_docs) for index, item in enumerate(given)]


WRAPPED = [
    DIFFERENCE, f"```\n{DIFFERENCE}\n```", f"Program: {DIFFERENCE}", f"1. {DIFFERENCE}", f"{DIFFERENCE} EOF",
    f"**Final answer:** `{DIFFERENCE}`", f"{DIFFERENCE};", f"Here is my program:\n\n{DIFFERENCE}\n\nHope this helps.",
    f"text: {DIFFERENCE}", f"\u200b {DIFFERENCE}\t\n", "\ufeff" + DIFFERENCE, f"\n{DIFFERENCE}\n", f"\t{DIFFERENCE} ",
    f"```python\n{DIFFERENCE}\n```", f"```json\n{DIFFERENCE}```", f"Answer: {DIFFERENCE}", f"{DIFFERENCE}</s>",
    f"{DIFFERENCE}<|im_end|>", f"- {DIFFERENCE}", f"(1) {DIFFERENCE}", f'"{DIFFERENCE}"', f"“{DIFFERENCE}”",
    f"**{DIFFERENCE}**", f"<answer>{DIFFERENCE}</answer>", f"The answer is {DIFFERENCE}.", f"Program = {DIFFERENCE}",
    f"operations needed: {DIFFERENCE}", f"So the result would be {DIFFERENCE}, I think.", f"Calculate({DIFFERENCE})",
    f"page_content: {DIFFERENCE}", f"\\boxed{{{DIFFERENCE}}}", f"Step 1: {DIFFERENCE}",
]  # fmt: skip
MISWRITTEN = [
    "Subtract(5829,5735)", "subtract( 5829 5735 )", "subtract (5829 , 5735)", "SUBTRACT(5829, 5735)",
    "subtract($5829,$5735)",
]  # fmt: skip
WITH_VALUE = [f"{DIFFERENCE} = 94", f"{DIFFERENCE} = 95", f"{DIFFERENCE} -> 94.0", f"{DIFFERENCE} ≈ $94 million"]
STEPS = [
    "subtract(5829, 5735)\ndivide(#0, 5735)", GROWTH, "subtract(5829,5735),divide(#0,5735)",
    "1. subtract(5829, 5735)\n2. divide(#0, 5735)", "subtract( 5829 5735 ) divide( #0 5735 ) EOF",
    "#0 = subtract(5829, 5735); #1 = divide(#0, 5735)",
]  # fmt: skip
JSON = [
    f'{{"answer": 0.0164, "program": "{GROWTH}"}}', f"{{'program': '{GROWTH}', 'answer': None}}",
    f'{{"program": "{GROWTH}",}}', f'Sure!\n```json\n{{"answer": 1, "program": "{GROWTH}"}}\n```\nHope {{this}} helps.',
    '{"program": "subtract(5829, 5735),\n divide(#0, 5735)"}', f'{{"answer": 1}} no: {{"program": "{GROWTH}"}}',
    f'<think>perhaps {{"answer": 5}}</think>{{"program": "{GROWTH}"}}', {"program": GROWTH, "answer": 1},
    {"program": f"Program: {GROWTH};"}, {"answer": "about 2", "program": GROWTH, "model": "my-llm"},
]  # fmt: skip
TOKENS = ["subtract(", "5829", "5735", ")", "EOF"]
ARITHMETIC = [
    ("(5829 - 5735) / 5735", GROWTH, 0.01639), ("Calculate((5,829 − 5,735) / 5,735)", GROWTH, 0.01639),
    ("growth = (5829 - 5735) / 5735 * 100 = 1.64%", GROWTH, 0.01639),
    ("5829 × 2", "multiply(5829, 2)", 11658.0), ("divide(subtract(5829, 5735), 5735)", GROWTH, 0.01639),
    ("5829 > 5735", "greater(5829, 5735)", "yes"), ("5829-5735", DIFFERENCE, 94.0), ("1/2", "divide(1, 2)", 0.5),
    ("\\frac{5829 - 5735}{5735}", GROWTH, 0.01639), ("$\\frac{5829-5735}{5735}$", GROWTH, 0.01639),
    ("table_max(revenue) - 5735", "table_max(revenue, none), subtract(#0, 5735)", 94.0),
    ("-(5829 - 5735)", "subtract(5829, 5735), multiply(#0, const_m1)", -94.0), ("2 ** 3", "exp(2, 3)", 8.0),
    ("1 + 5%", "add(1, 5%)", 1.05), ("4210 - 4302", "subtract(4210, 4302)", -92.0),
    ("100 * (5829 - 5735) / 5735 = 1.64%",
     "subtract(5829, 5735), multiply(100, #0), divide(#1, 5735), divide(#2, const_100)", 0.01639),
]  # fmt: skip
STATED: list[tuple[Any, float | str]] = [
    (94, 94.0), ("94.0", 94.0), ("$ 1.2 million", 1.2), ("12.5 percent", 0.125),
    ("(1,234)", -1234.0), ("\u2212 5", -5.0), ("94 USD", 94.0), ("1.2M", 1.2), ("≈ 1.6 %", 0.016),
    ("minus 5", -5.0), ("5 percent decrease", -0.05), ("5 percentage points", 0.05), ("94 basis points", 94.0),
    ("Answer: 94", 94.0), ("\\boxed{94}", 94.0), ("<think>5 or 6?</think>So it is 94.", 94.0),
    ("94 (5829 - 5735)", 94.0),
    ("x = 94", 94.0), ("Revenue rose by 1.6% in 2009.", 0.016), ("It fell from 100 to about 94.", 94.0),
    ("The change was a decline of 5 %.", -0.05), ("yes", "yes"), ("Yes, it did", "yes"), ({"answer": "12.5%"}, 0.125),
    ({"text": "the answer is 94"}, 94.0), ({"content": "94"}, 94.0), ('{"answer": "12.5%"}', 0.125), ("**94**", 94.0),
    ("1,234,567.8", 1234567.8), ("1.2e3", 1200.0), ("\\boxed{-92}", -92.0),
    ("€ 94", 94.0), ("-$5", -5.0), ("$(5)", -5.0), ("(-5)", -5.0), ("-(5)", -5.0), ("negative 5%", -0.05), ("+5", 5.0),
    (".5", 0.5), ("5.", 5.0), ("94 EOF", 94.0), ("94</s>", 94.0), ("The answer is: **94**.", 94.0), ("94 bps", 94.0),
    ("share = 1 / 3 or 33.33%", 0.3333), ("94 | because 5829 - 5735 = 94", 94.0), ("94\nas revenue rose", 94.0),
    ("\uff0d94", -94.0), ("\u201194", -94.0), ("94&nbsp;%", 0.94), ("<b>94</b><sup>3</sup>", 94.0),
    ("about 5% to $6", 0.05),
    ("During 2008-2009 it rose by 94.", 94.0),
    ("No.", "no"),
    ("Final Answer: No", "no"), ("true", "yes"), (True, "yes"), ("<answer>94</answer>", 94.0), ("\\(5\\)", 5.0),
    ("<ANSWER>It is 94.</ANSWER>", 94.0), ("```\n94\n```", 94.0), ("1. 94", 94.0), ("'94'", 94.0), ("$94$", 94.0),
    ("{'answer': 94}", 94.0), ('{"answer": 94', 94.0), ('["94"]', 94.0), ("94 million dollars", 94.0), ("5x", 5.0),
    ("The result is approximately 94 million, up from 90 million.", 94.0), ("It did not fall; it rose by 5.", 5.0),
    ("Costs fell in 2009. They were 94 on December 31, 2009.", 94.0), ("94 (1)", 94.0), ("１２３", 123.0),
    ('{"answer": 5} {"answer": 94}', 94.0), ("Answer: 5\nAnswer: 94", 94.0), ("5%-points", 0.05), ("12 shares", 12.0),
    ({"program": None, "answer": None, "text": "94"}, 94.0), ({"program": "", "answer": 94}, 94.0),
    ("12.5\uff05", 0.125), ("It rose by 12.5 \uff05.", 0.125), ("5% (decrease)", -0.05),
    ("5 percent (decline).", -0.05),
    ("2.5 percentage-points", 0.025), ("It rose by 2.5 percentage-points.", 0.025), ("USD94", 94.0), ("94USD", 94.0),
    ("It rose by 5 per cent.", 0.05), ("It rose by 5 pct.", 0.05), ("It rose by 5%-points in 2009", 0.05),
    ("It is 5 percentage point.", 0.05), ("It fell by (5.2)%.", -0.052), ("a 5 per cent decrease", -0.05),
    ("5 percents", 0.05), ("12.5 (%)", 0.125), ("It rose by 1 point.", 1.0),
    ({"program": "divide(16,7, 5)", "answer": 94}, 94.0), ("add(1,5, 2) = 94", 94.0), ({"completion": "94"}, 94.0),
    ({"program": "divide(1, 0)", "answer": "about 94"}, 94.0), ({"program": "divide(94", "answer": 94}, 94.0),
]  # fmt: skip
_STATED_IN_DOCS = 24
REFUSED: list[tuple[Any, str]] = [
    ("16,7%", "comma"), ("5 or 6", "2 numbers"), ("94\n95", "several answers"), ("5-6%", "2 numbers"),
    (f"{DIFFERENCE} or subtract(5735, 5829)", "2 programs"), ("subtract(1,234,567)", "expected operation"),
    ("I cannot say, perhaps 94", "no program, number"), ("<think>94 or", "unfinished reasoning"),
    ("more than 94", "no program, number"), ("page 17", "no program, number"),
    ({"error": "timeout"}, "no program and no"),
    (None, "no program and no answer"), ("divide(3", "expected operation"), ("N/A", "no program, number"),
    ("1,2", "comma"), ("0,123", "comma"), ("1.234,5", "comma"), ("1 234,5", "comma"), ("It is 16,7%.", "comma"),
    ('{"answer": "16,7%"}', "comma"), ("1'234", "no program"), ("1.234.567", "no program"), ("1 000", "2 numbers"),
    ("between 5 and 6", "2 numbers"), ("$1.2 to $1.5 million", "2 numbers"), ("5% - 6%", "2 numbers"),
    ("5 – 6", "2 numbers"),
    ("100 - 5%", "2 numbers"), ("1. 94\n2. 95", "several answers"), ("94 | 95", "several answers"),
    ("94 95", "2 numbers"),
    ("94, 95", "2 numbers"), ('["94", "95"]', "2 numbers"), ("Revenue = 5829, cost = 5735", "2 numbers"),
    ("5829 (2009) - 5735 (2008)", "expected operation"), ("Revenue rose from 5,735 to 5,829.", "2 numbers"),
    (f"{DIFFERENCE}\nsubtract(5735, 5829)", "2 programs"), ("subtract(5829, 5735, 3)", "expected operation"),
    (f"not {DIFFERENCE}", "no program"), (f"The wrong program is {DIFFERENCE}", "no program"),
    ("divide(16,7, 5)", "comma"), ("add(1, 0,5)", "comma"), ('{"program": "add(1,5, 2)"}', "comma"),
    (["add(", "1,5", "2", ")", "EOF"], "comma"), ("growth = 94 - 5\ngrowth / 94", "numbers"),
    ("a = 94\nb = 5\nanswer = a - b", "2 numbers"), ("a = 94\nb = 5\nprint(a / b)", "2 numbers"),
    ("12.5\u2030", "no program"), ("It rose 5%in 2009", "no program"), ("It is 12.5 (percent).", "no program"),
    ("sqrt(4)", "expected operation"), ("subtract(a, b)", "number"), ("foo(1, 2)", "no operation"),
    ("add(1, 2), foo(3", "foo("), ("add(1, 2), foo(", "foo("),
    ("10-K", "no program"), ("Form 10-K", "no program"), ("see page 17", "no program"), ("page 17 of 94", "2 numbers"),
    ("Note 7", "no program"), ("31 December 2009", "2 numbers"), ("June 5", "no program"), ("2009-12-31", "3 numbers"),
    ("12/31/2009", "3 numbers"), ("2008 - 2009", "2 numbers"), ("555-1234", "2 numbers"), ("Q3 2009", "no program"),
    ("in 2009", "no program"), (">= 94", "no program"), ("at least 94", "no program"), ("94 or more", "no program"),
    ("94+", "no program"), ("--5", "no program"), ("%5", "no program"), ("½", "no program"), ("five", "no program"),
    ("94 ± 1", "2 numbers"), ("5:1", "2 numbers"), ("yes and no", "no program"), ("Yes/No", "no program"),
    ("No. 5", "no program"), ("No data", "no program"), ("", "empty"), (" \n", "empty"), ("nan", "no program"),
    ("1e400", "no program"), ("#0", "no program"), ("const_100", "no program"), ("[]", "no program"),
    ("Error 429: too many requests", "no program"), ("I'm sorry, the page gives no data for 2009.", "no program"),
    ({"answer": None}, "no program and no answer"), ({"programme": "add(1, 2)"}, "no program and no answer"),
    ([], "expected"),
    ({"program": "add(1, 2"}, "expected operation"), ({"answer": [94]}, "expected a program, a number or a text"),
    ({"program": "divide(1, 0)"}, "division by zero"), ("table_sum(costs, none)", "costs"), ("x" * 100_001, "100000"),
    ("add(1, 2), divide(3)", "expected operation"), ("subtract($ 5829, 5735)", "no number"),
    ("table_sum(revenue ( 1 ), none)", "no argument"),
    ("3-for-1", "no program"), ("COVID-19", "no program"), ("2020-21", "2 numbers"), ("401(k)", "expected"),
    ("S&P 500", "no program"), ("HTTP 500", "no program"), ("approximately 5 to 6", "2 numbers"), ("±5", "no program"),
    ("about 5 or 6", "2 numbers"),
    ("It is 94. It could also be 95.", "2 numbers"), ("The answer is 5. Or 6.", "2 numbers"),
    (f"abs({DIFFERENCE})", "expected operation"), (f"{DIFFERENCE} divided by 5735", "expected operation"),
    (f"{DIFFERENCE} and 94/5735", "expected operation"), (f"{DIFFERENCE}, div", "expected operation"),
    ("Sorry, 5 documents were not enough", "no program"), ("—94", "no program"),
    ("add(1, 2), divide(, 3)", "expected operation"), ("subtract(( $ 4 ), 2)", "no argument"),
]  # fmt: skip
_REFUSED_IN_DOCS = 11

READINGS: list[Reading] = [
    *_all("program", WRAPPED, DIFFERENCE, 94.0, in_docs=8),
    Reading("program", SUM_OF_ROW, SUM_OF_ROW, 11564.0),
    *_all("small faults of form", MISWRITTEN, DIFFERENCE, 94.0, in_docs=2),
    *_all("with its value", WITH_VALUE, DIFFERENCE, 94.0),
    *_all("steps on lines", STEPS, GROWTH, 0.01639),
    *_all("JSON", JSON, GROWTH, 0.01639, in_docs=4),
    *_all("official tokens", [TOKENS, str(TOKENS)], DIFFERENCE, 94.0),
    *(Reading("arithmetic", *case, in_docs=index < 3) for index, case in enumerate(ARITHMETIC)),
    Reading("arithmetic", "subtract(5,829,5,735)", "subtract(5,829, 5,735)", 94.0),
    Reading("cut-off step", "add(1, 2), divide(3", "add(1, 2), divide(3", 3.0, "its last step is cut off", True),
    *_all("cut-off step", ['{"answer": 5, "program": "add(1, 2), divide(3', '```\n{"program": "add(1, 2), divide(3'],
          "add(1, 2), divide(3", 3.0, "its last step is cut off", in_docs=0),
    *(Reading("answer", given, None, answer, None, i < _STATED_IN_DOCS) for i, (given, answer) in enumerate(STATED)),
    *(Reading("refused", given, None, None, why, i < _REFUSED_IN_DOCS) for i, (given, why) in enumerate(REFUSED)),
]  # fmt: skip


def name_of(reading: Reading) -> str:
    """A short name for the ids of parametrized tests."""
    return f"{reading.kind}: {str(reading.given)[:60]!r}"
