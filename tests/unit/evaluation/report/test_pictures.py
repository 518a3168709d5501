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
    "dots": lambda: pictures.dots("d", [Dot("a", 0.5, [0.4, 0.6], 0.125, strong=True), Dot("$ <b> $", 0.2)], "told"),
    "curves": lambda: pictures.curves("c", [Curve("loss", [(10, 2.0), (20, 1.0)])], "told", best_step=20),
    "reliability": lambda: pictures.reliability("r", BINS, "told"),
    "risk_coverage": lambda: pictures.risk_coverage("k", [[0.5, 0.9], [1.0, 0.6]], "told", 0.7),
    "position_bars": lambda: pictures.position_bars("p", [0.25, 0.75], "told"),
}


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_picture_takes_its_colours_and_size_from_the_page(name: str) -> None:
    svg = DRAWN[name]()
    root = ElementTree.fromstring(svg)
    assert root.attrib.keys() == {"class", "viewBox", "role", "aria-label"}
    assert root.attrib["aria-label"] == "told"
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set()
    assert "currentColor" in svg or "var(--accent)" in svg
    assert "<style" not in svg
    assert "metadata" not in svg


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_the_same_data_give_the_same_bytes_whatever_the_users_settings(name: str) -> None:
    first = DRAWN[name]()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": None}):
        assert DRAWN[name]() == first
        assert matplotlib.rcParams["font.size"] == 30


def test_a_text_stays_text_and_dollars_are_no_formula() -> None:
    svg = DRAWN["dots"]()
    assert "$ &lt;b&gt; $</text>" in svg
    assert ">0.500</text>" in svg


def test_ids_of_two_pictures_do_not_clash() -> None:
    one, other = (set(re.findall(r'\bid="([^"]+)"', DRAWN[name]())) for name in ("curves", "dots"))
    assert one
    assert other
    assert not one & other


def test_a_long_name_is_shortened() -> None:
    assert pictures.shortened("a" * 40) == "a" * 25 + "…"
    assert pictures.shortened("short") == "short"
