"""Pictures of the report: small SVG drawings that take their colours from the page around them.

Drawn by matplotlib, text kept as text. Every colour is a placeholder that becomes a CSS variable of the page. The same
data produce the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from finrank.evaluation.result import ReliabilityBin

# Placeholders, and the colours that replace them in the page.
_INK, _MUTED, _RULE, _ACCENT, _SECOND = "#010101", "#010102", "#010103", "#010104", "#010105"
_IN_THE_PAGE = {
    _INK: "currentColor",
    _MUTED: "var(--muted)",
    _RULE: "var(--rule)",
    _ACCENT: "var(--accent)",
    _SECOND: "var(--second)",
}
# In inches of 72 units; a page shows the picture at 1.0 to 1.25 pixels a unit, so text stays legible on a phone.
_WIDTH = 4.8
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
_DOTTED: dict[str, Any] = {"color": _MUTED, "linewidth": 0.9, "linestyle": (0, (2, 3))}
_LONGEST_NAME = 26
_ROUND = [1, 2, 2.5, 5, 10]  # ticks fall on multiples of these


class Dot(NamedTuple):
    """A figure with its interval: one line of `dots`."""

    name: str
    value: float
    interval: Sequence[float] | None = None
    chance: float | None = None
    strong: bool = False


class Curve(NamedTuple):
    """A named line of `curves`: its points (step, value)."""

    name: str
    points: Sequence[tuple[float, float]]


def dots(name: str, rows: Sequence[Dot], description: str, axis: str = "accuracy") -> str:
    """A line per row: a dot at the value, a bar over its interval, a small tick at chance, the value at the right."""
    with _style(name):
        figure, axes = _figure(0.62 + 0.3 * len(rows))
        for height, row in enumerate(rows):
            colour = _ACCENT if row.strong else _INK
            if row.interval is not None:
                width = 2.4 if row.strong else 1.4
                axes.plot(row.interval, [height, height], color=colour, linewidth=width, alpha=0.75)
            if row.chance is not None:
                axes.plot([row.chance], [height], "|", color=_MUTED, markersize=12, markeredgewidth=1.6)
            axes.plot([row.value], [height], "o", color=colour, markersize=7 if row.strong else 5)
            axes.text(1.02, height, f"{row.value:.3f}", va="center", color=colour, transform=axes.get_yaxis_transform())
        names = [row.name if len(row.name) <= _LONGEST_NAME else f"{row.name[: _LONGEST_NAME - 1]}…" for row in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.tick_params(axis="y", length=0, labelcolor=_INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        _share_axis(axes, rows, axis)
        axes.spines["left"].set_visible(False)
        return _svg(figure, name, description)


def curves(name: str, lines: Sequence[Curve], description: str, best_step: float | None = None) -> str:
    """Lines over optimizer steps; a thin vertical line marks the step whose checkpoint was kept."""
    with _style(name):
        figure, axes = _figure(2.9)
        styles = [(_ACCENT, "-"), (_SECOND, "--"), (_INK, ":")]
        for line, (colour, dash) in zip(lines, styles, strict=False):
            marker = "o" if len(line.points) < 20 else None
            axes.plot(*zip(*line.points, strict=True), dash, color=colour, marker=marker, markersize=4, label=line.name)
        if best_step:
            _mark(axes, "kept", (best_step, 1.0), (-3, 1), ha="right", va="bottom")
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=_ROUND))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=_ROUND))
        axes.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=len(lines), handlelength=1.6)
        return _svg(figure, name, description)


def reliability(name: str, bins: Sequence[ReliabilityBin], description: str) -> str:
    """Accuracy over confidence, a dot per bin whose area grows with its count; the diagonal is perfect calibration."""
    with _style(name):
        figure, axes = _figure(3.2)
        largest = max(row.n for row in bins)
        axes.plot([0, 1], [0, 1], **_DOTTED)
        points = [row.confidence for row in bins], [row.accuracy for row in bins]
        axes.plot(*points, color=_ACCENT, linewidth=1.2)
        axes.scatter(*points, s=[12 + 110 * row.n / largest for row in bins], color=_ACCENT, alpha=0.85, zorder=3)
        _unit_axes(axes, "confidence of the pick", "accuracy", -0.03)
        return _svg(figure, name, description)


def risk_coverage(name: str, points: Sequence[Sequence[float]], description: str, threshold: float | None) -> str:
    """Accuracy over the share of questions answered, surest first; a thin line at the shipped threshold's coverage."""
    with _style(name):
        figure, axes = _figure(3.2)
        coverage, accuracy = zip(*points, strict=True)
        axes.plot(coverage, accuracy, color=_ACCENT, linewidth=1.8)
        if threshold is not None:
            _mark(axes, "threshold", (threshold, 0.0), (4, 4))
        _unit_axes(axes, "share of the questions answered", "accuracy of the answers", max(0.0, min(accuracy) - 0.08))
        return _svg(figure, name, description)


def position_bars(name: str, shares: Sequence[float], even: Sequence[float], description: str) -> str:
    """The share of picks at each position of the pool; the line is `even`, the shares without any preference."""
    with _style(name):
        figure, axes = _figure(2.6)
        axes.bar(range(len(shares)), shares, width=0.72, color=_ACCENT, alpha=0.75)
        edges = [position - 0.5 for position in range(len(even) + 1)]
        axes.stairs(even, edges, baseline=None, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("position in the pool, counted from 0")
        axes.set_ylabel("share of picks")
        axes.xaxis.set_major_locator(MaxNLocator(16, integer=True, steps=_ROUND))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=_ROUND))
        axes.grid(axis="y")
        return _svg(figure, name, description)


@contextlib.contextmanager
def _style(name: str) -> Iterator[None]:
    """matplotlib's defaults, not the user's, with the settings of these pictures; ids are salted by the name."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_SETTINGS, "svg.hashsalt": name})
        yield


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height))
    return figure, figure.add_subplot()


def _mark(axes: Axes, text: str, at: tuple[float, float], offset: tuple[int, int], **alignment: Any) -> None:
    """A dotted upright line with a word at its side, at a value and a height (0 to 1)."""
    axes.axvline(at[0], **_DOTTED)
    units: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(text, at, offset, color=_MUTED, **units, **alignment)


def _share_axis(axes: Axes, rows: Sequence[Dot], label: str) -> None:
    """An axis from 0: to 1 for accuracies, else to a round number above everything drawn."""
    drawn = [value for row in rows for value in (row.value, *(row.interval or ()), row.chance or 0.0)]
    top = 1.0 if label == "accuracy" else next((limit for limit in (0.04, 0.1, 0.2, 0.4) if max(drawn) <= limit), 1.0)
    axes.set_xlim(-0.02 * top, 1.02 * top)
    axes.set_xticks([top * quarter / 4 for quarter in range(5)])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(label)
    axes.grid(axis="x")


def _unit_axes(axes: Axes, across: str, upright: str, lowest: float) -> None:
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(lowest, 1.03)
    axes.set_xlabel(across)
    axes.set_ylabel(upright)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=_ROUND))
    axes.grid()


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element: no ids but those referred to, no size, no fixed colours."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue().partition("<svg")[2]
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None
    opening = f'<svg class="picture" viewBox="{box[1]}" role="img" aria-label="{escape(description)}">'
    text = opening + text[text.index(">") + 1 :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href", "href")
    for placeholder, colour in _IN_THE_PAGE.items():
        text = text.replace(placeholder, colour)
    return text.strip()
