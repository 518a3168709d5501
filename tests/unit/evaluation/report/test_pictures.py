"""The drawings: well-formed, without fixed colours, untouched by the user's matplotlib settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib
import pytest

from finrank.evaluation.report import pictures
from finrank.evaluation.report.pictures import Curve, Dot
from finrank.evaluation.result import ReliabilityBin

BINS = [ReliabilityBin(5, 0.2, 0.4, 0.3, 0.4), ReliabilityBin(1, 0.5, 0.5, 0.5, 0.0)]
DRAWN: dict[str, Callable[[], str]] = {
    "dots": lambda: pictures.dots(
        "d", [Dot("a", 0.5, [0.4, 0.6], 0.125, strong=True), Dot("$ <b> $", 0.2)], "in words"
    ),
    "curves": lambda: pictures.curves("c", [Curve("loss", [(10, 2.0), (20, 1.0)])], "in words", best_step=20),
    "reliability": lambda: pictures.reliability("r", BINS, "in words"),
    "risk_coverage": lambda: pictures.risk_coverage("k", [[0.5, 0.9], [1.0, 0.6]], "in words", 0.7),
    "position_bars": lambda: pictures.position_bars("p", [0.25, 0.75], [0.6, 0.4], "in words"),
}


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_picture_takes_its_looks_from_the_page_and_not_from_the_users_settings(name: str) -> None:
    svg = DRAWN[name]()
    root = ElementTree.fromstring(svg)
    assert root.attrib.keys() == {"class", "viewBox", "role", "aria-label"}
    assert root.attrib["aria-label"] == "in words"
    assert not re.search(r"#[0-9a-f]{6}\b|<style|metadata", svg)
    assert "currentColor" in svg or "var(--accent)" in svg
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": None}):
        assert DRAWN[name]() == svg
        assert matplotlib.rcParams["font.size"] == 30


def test_a_text_stays_text_and_is_shortened() -> None:
    svg = pictures.dots("d", [Dot("$ <b> $", 0.5), Dot("a" * 40, 0.2)], "in words")
    for text in ("$ &lt;b&gt; $", "0.500", "a" * 25 + "…"):
        assert f"{text}</text>" in svg


def test_ids_of_two_pictures_do_not_clash() -> None:
    one, other = (set(re.findall(r'\bid="([^"]+)"', DRAWN[name]())) for name in ("curves", "dots"))
    assert one
    assert other
    assert not one & other
