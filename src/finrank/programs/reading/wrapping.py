"""Wrapping that says nothing: reasoning, labels, list numbers, code fences, quotes, LaTeX and end marks."""

from __future__ import annotations

import html
import re
import string
from collections.abc import Iterator

_MOST_LAYERS = 12
_LONGEST_MARK = 60  # characters at the end, in which an end mark is looked for

_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad\u202a-\u202e]")
_FOOTNOTE = re.compile(r"<sup>[^<]{0,5}</sup>", re.IGNORECASE)
_HTML_TAG = re.compile(r"</?(?:b|i|u|em|strong|p|br|span|div|code|pre)\s?/?>", re.IGNORECASE)
_THOUGHTS = ("think", "thinking", "reasoning")
_END_MARK = re.compile(r"\s*(?:</?s>|<\|[\w-]+\|>|<eos>|<end_of_turn>|\[/?INST\]|\[EOS\]|\bEOF\b|[;.,])\s*$")
_LIST_NUMBER = re.compile(r"\s*(?:\(?\d{1,2}[.):]|\(?[a-hA-H][.)]|[-*•–])\s+(?=\S)")
_BEFORE_LABEL = "so thus hence therefore the my a final correct finqa python candidate predicted proposed reasoning"
_LABELS = """program answer text content page_content document candidate result output response prediction solution
value formula calculation expression equation operation"""
LABEL = re.compile(
    rf"[\s*_`#>]*(?:(?:{'|'.join(_BEFORE_LABEL.split())})\W+)*"
    rf"(?:{'|'.join(_LABELS.split())}|operations needed)s?(?:\s*\(?#?\d{{1,2}}\)?)?"
    r"[\s*_`]*(?::|=|\bis\b:?|\bare\b:?)(?:[*_`]+(?=\s|$))?\s*",
    re.IGNORECASE,
)
"""The name of a program or an answer at the beginning of a line: "Program:", "**Final answer:**", "The answer is"."""
_CALCULATE = re.compile(r"(?:calculate|compute|calc|evaluate|eval|print|solve|result|answer)\s*\((.*)\)", re.I | re.S)
_QUOTES = (
    *(
        ("```", "```"),
        ("`", "`"),
        ('"', '"'),
        ("'", "'"),
        ("“", "”"),
        ("**", "**"),
        ("$$", "$$"),
        ("$", "$"),
        ("[", "]"),
    ),
    *(("\\(", "\\)"), ("\\[", "\\]"), ("<answer>", "</answer>"), ("<program>", "</program>")),
)
# str.lower() makes two characters of "İ", and places in the text would be others.
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX = (
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\d?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\times|\\cdot"), "*"),
    (re.compile(r"\\div"), "/"),
    (re.compile(r"\\approx"), "≈"),
    (re.compile(r"\\(?:left|right|quad|[,;! ])"), " "),
    (re.compile(r"\\([%$&#_])"), r"\1"),
)


def without_thoughts(text: str) -> str:
    """What is behind a model's reasoning, or else before it.

    >>> without_thoughts("<think>94 or 95?</think> 94"), without_thoughts("94 <think>or is it")
    (' 94', '94 ')
    """
    lower = text.translate(_LOWER)
    ends = [at + len(tag) + 3 for tag in _THOUGHTS if (at := lower.rfind(f"</{tag}>")) >= 0]
    starts = [at for tag in _THOUGHTS if (at := lower.find(f"<{tag}>")) >= 0]
    behind = text[max(ends, default=0) :]
    if starts and (not ends or not behind.strip()):
        return text[: min(starts)]
    return behind


def without_html(text: str) -> str:
    """The text without footnote marks, tags and entities of HTML.

    >>> without_html("<b>5,829</b><sup>3</sup>&nbsp;%")
    ' 5,829 \\xa0%'
    """
    if "<" in text:
        text = _HTML_TAG.sub(" ", _FOOTNOTE.sub("", text))
    return html.unescape(text) if "&" in text else text


def layers(text: str) -> Iterator[str]:
    """The text, and the text without its outer wrapping, one layer after the other.

    >>> list(layers("Program: `add(1, 2)`;"))
    ['Program: `add(1, 2)`;', 'Program: `add(1, 2)`', '`add(1, 2)`', 'add(1, 2)']
    """
    for _ in range(_MOST_LAYERS):
        yield text
        before, text = text, _INVISIBLE.sub("", text).strip()
        if text == before:
            text = _without_one_layer(text)
        if text == before or not text:
            return


def unwrapped(text: str) -> str:
    """The text without any wrapping."""
    *_, last = layers(text)
    return last


def in_tag(text: str, tag: str) -> str | None:
    """What is in the last <tag>…</tag> of a text."""
    lower = text.translate(_LOWER)
    end = lower.rfind(f"</{tag}>")
    start = lower.rfind(f"<{tag}>", 0, max(end, 0))
    return None if start < 0 else text[start + len(tag) + 2 : end]


def _without_one_layer(text: str) -> str:
    for start, end in _QUOTES:
        if len(text) > len(start) + len(end) and text.startswith(start) and text.endswith(end):
            inner = text[len(start) : -len(end)]
            if start == "```":
                inner = re.sub(r"\A[\w+-]*[ \t]*\n", "", inner)
            if start not in inner:
                return inner
    if (match := BOXED.fullmatch(text) or _CALCULATE.fullmatch(text)) is not None:
        return match[1]
    head, tail = text[:-_LONGEST_MARK], text[-_LONGEST_MARK:]
    if (unmarked := _END_MARK.sub("", tail)) != tail:
        return head + unmarked
    for pattern in (LABEL, _LIST_NUMBER):
        if (match := pattern.match(text)) is not None and match.end() < len(text):
            return text[match.end() :]
    for latex, meaning in _LATEX if "\\" in text else ():
        text = latex.sub(meaning, text)
    return text
