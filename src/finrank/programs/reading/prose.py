"""The number that prose states: the one number of its last sentence with any, if nothing makes that doubtful.

Revenue rose by 1.6% in 2009.              1.6%: years, dates, "page 17" and "10-K" are not answers
It fell from 100 to about 94.              94: the only approximate number
The change was a decline of 5 percent.     decrease of 5 percent
It is 16,7%.  It grew by more than 5%.     nothing: a decimal comma; a bound
"""

from __future__ import annotations

import re

from finrank.programs.stated import MINUS, read_stated

NUMBER = re.compile(
    rf"(?<![\w.,#%'±—])(?<!\w\()(?<![a-z][-\u2011])(?:\b(?:minus|negative)\s)?[{MINUS}(]?\s?(?:us\$|[$€£])?\s?[{MINUS}]?"
    r"(?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
    r"(?:\s?[%\uff05]|[\s-]?(?:percent(?:age|s)?|per[\s-]cent|pct|pp)\b)?"
    r"(?:[\s-]?(?:basis )?points?\b|\s?bps\b)?(?:\s(?:thousand|mil|million|billion|trillion)\b)?\)?"
    r"(?:(?<=\))\s?[%\uff05])?"
    r"(?!\w|[.,']\d|-[a-z]|\([a-z]|\s?[%\uff05‰]|\s\((?:in )?(?:%|per))",
    re.IGNORECASE,
)
"""A number in prose, with its sign, currency, brackets and percent sign, as far as `read_stated` knows them."""
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<![Nn]o\.)\s+|\n+")
_YEAR = re.compile(r"(?:19|20)\d\d")
_MONTHS = "january february march april may june july august september october november december"
_MONTH = rf"(?:{'|'.join(_MONTHS.split())}|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?)"
# Dates and numbers that are names: "31 December", "note 7".
_NO_ANSWER = re.compile(
    rf"\b{_MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?\b(?!\.\d|\s?%),?|\b\d{{1,2}}(?:st|nd|rd|th)?\s(?:of\s)?{_MONTH}(?!\w)"
    r"|(?:19|20)\d\d\s?[-–/]\s?(?:(?:19|20)\d\d|\d\d)(?![-/]?\d)"
    r"|\b(?:page|note|exhibit|table|item|step|chapter|section|form|line|row|column|figure|footnote|level|tier|schedule"
    r"|part|phase|option|candidate|number|no\.|rule|iso|http|s&p|russell)\s#?\d+\b(?!,\d|\.\d|\s?%)(?:\s?(?:of|/)\s?\d+)?",
    re.IGNORECASE,
)
# A decimal comma, "1.234.567", "1'234", "sqrt(4)", a footnote or loss "(2)", "5-6": which number is meant is unknown.
_DOUBTFUL = re.compile(r"\d,\d{1,2}(?!\d)|(?<![\d.,])0,\d|\d[.']\d+[.,']\d|\w\([\d$]|\(\d{1,2}\)|\d[-–—]\d|±")
# Neither a bound nor an operand, as in "growth / 5735", is an answer.
_BOUND_BEFORE = re.compile(
    r"(?:[\w)]\s[+*/×÷^]|[<>≤≥]=?"
    r"|\b(?:at least|at most|(?:more|less|fewer|greater) than|(?<!sums )(?<!adds )up to))\s*$",
    re.IGNORECASE,
)
_BOUND_BEHIND = re.compile(r"\+|\s?or (?:more|less|fewer)\b|\s(?:or|and)\s[$€£]?\d", re.IGNORECASE)
_TO = re.compile(r"\sto\s(?!1\b(?![.,]\d))[$€£]?\s?[\d.,]+\s?%?")
_GUESS = re.compile(r"\A\W*or\b|\b(?:might|maybe|perhaps|possibly|alternatively|could (?:also )?be)\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\b(?:don't know|do not know|cannot|can't|unable|insufficient|uncertain|would need|not possible"
    r"|not (?:explicitly |specifically )?(?:provided|specified|available|disclosed|mentioned|given|stated)"
    r"|sorry|error|exception|traceback|timed? ?out|rate limit|too many requests)\b",
    re.IGNORECASE,
)
_NOISE = re.compile("[\x00-\x08\x0e-\x1f\ufffd]")  # from a model that writes nonsense
# A line of code that computes with names: the numbers above it are what they stand for.
_CODE = re.compile(r"\s*(?:print\s*\(.*|(?:[a-z_]\w*\s*=\s*)?[a-z_]\w*\s[-+*/]\s[a-z_]\w*)\s*", re.IGNORECASE)
_APPROXIMATELY = re.compile(r"(?:approximately|about|around|roughly|equals|equal to|≈)\s+(?:a\s)?$", re.IGNORECASE)
_FALLS = re.compile(r"\b(?:decreas\w*|declin\w*|reduction|reduced|drop(?:ped)?|fell|fall)\b", re.IGNORECASE)
_RISES = re.compile(r"\b(?:increas\w*|ris(?:es|en|ing)|rose|grew|grown|gain(?:s|ed)?|higher)\b", re.IGNORECASE)
_DENIED = re.compile(r"(?:\bnot|n't)\s+(?:\w+\s+)?(?:decreas\w*|declin\w*|drop\w*|fall\w*)\b", re.IGNORECASE)
_TARGET = re.compile(r"\bto\s+(?:(?:approximately|about|around|roughly|nearly|only|just)\s+)?$", re.IGNORECASE)
_MOST_NUMBERS = 100  # of a sentence: more are a list


def stated_in_prose(text: str) -> str | None:
    """The text of the number that the last sentence with any states, years and dates left out; None where unsure.

    >>> stated_in_prose("Costs were 8 in 2009. So they fell by 5%."), stated_in_prose("It is 5 or 6.")
    ('decrease of 5%', None)
    """
    if _REFUSAL.search(text) or len(_NOISE.findall(text)) > 2:
        return None
    for sentence in reversed(_SENTENCE_END.split(text.strip())):
        sentence = _NO_ANSWER.sub(" ", sentence)
        if _DOUBTFUL.search(sentence) or _GUESS.search(sentence):
            return None
        found = [number for number in NUMBER.finditer(sentence) if not _YEAR.fullmatch(number[0].strip(" -\u2212()"))]
        if not found and _CODE.fullmatch(sentence):
            return None
        if not found:
            continue
        if len({number[0] for number in found}) > 1:
            before = (
                (number, sentence[max(number.start() - 30, 0) : number.start()]) for number in found[:_MOST_NUMBERS]
            )
            found = [number for number, words in before if _APPROXIMATELY.search(words)]
        if len(found) > _MOST_NUMBERS or len({number[0] for number in found}) != 1:
            return None
        start, end = found[-1].span()
        to = _TO.match(sentence, end)
        if to and ("%" in to[0], "$" in to[0]) == ("%" in found[-1][0], "$" in found[-1][0]):
            return None  # "about 5 to 6", but not "about 5% to $6" and "7.45 to 1"
        if _BOUND_BEFORE.search(sentence[max(start - 30, 0) : start]) or _BOUND_BEHIND.match(sentence, end):
            return None
        return _with_its_sign(found[-1][0].strip(), sentence[:start], sentence[end:])
    return None


def _with_its_sign(number: str, before: str, behind: str) -> str | None:
    """The number, with a word for its sign where only words say that it is negative; None if it is unreadable."""
    if number.count("(") != number.count(")"):
        number = number.strip("()")
    number = re.sub(r"(?<=\d)-(?=p)", " ", number, flags=re.IGNORECASE)
    try:
        stated = read_stated(number)
    except ValueError:
        return None
    if _TARGET.search(before):  # "fell to 94" says where it ended
        return number
    before = _DENIED.sub(" ", before)
    fall, rise = (max((match.end() for match in words.finditer(before)), default=0) for words in (_FALLS, _RISES))
    falls = fall > rise or (fall == rise and _FALLS.search(behind) and not _RISES.search(behind))
    positive = not isinstance(stated.answer, str) and stated.answer > 0
    return f"decrease of {number}" if falls and positive and not number.startswith("+") else number
