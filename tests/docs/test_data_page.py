"""Stage 00 on the real FinQA files, and `docs/data.md`, which reports their counts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from finrank.commands.check import check
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
# | `name` | train | dev | id: `found` | what finrank does |
ROW = re.compile(r"\| `(\w+)` \| (\d+) \| (\d+) \| (?:(\S+): `(.*)`)? \| .* \|")


@pytest.fixture(scope="module")
def report(finqa_dir: Path) -> dict[str, Any]:
    return check(finqa_dir, config=["none"])


@pytest.fixture
def described(report: dict[str, Any]) -> dict[str, Any]:
    """The report, if these are the files that the page describes."""
    train = report["splits"].get("train", {}).get("examples")
    if f"{train:,} of the 6,251 train examples" not in PAGE:
        pytest.skip(f"docs/data.md describes another part of FinQA than this one with {train} train examples")
    return report


def test_real_finqa_has_no_errors(report: dict[str, Any]) -> None:
    assert report["errors"] == 0
    assert report["splits"]["dev"]["examples"] == report["splits"]["dev"]["with_program"] == 883


def test_the_counts_of_the_page_are_those_of_a_fresh_run(described: dict[str, Any]) -> None:
    stated = {name: {"train": int(train), "dev": int(dev)} for name, train, dev, _, _ in ROW.findall(PAGE)}
    counted = {finding["name"]: finding["splits"] for finding in described["findings"] if finding["count"]}
    assert stated == {name: {split: found[split] for split in ("train", "dev")} for name, found in counted.items()}
    assert len(re.findall(r"^\| `", PAGE, re.MULTILINE)) == len(stated), "a row has another form than ROW"


def test_the_examples_of_the_page_are_those_of_a_fresh_run(described: dict[str, Any]) -> None:
    findings = {finding["name"]: finding for finding in described["findings"]}
    for name, _, _, identifier, found in ROW.findall(PAGE):
        if identifier:
            finding = findings[name]
            assert found in finding["reasons"][finding["ids"].index(identifier)]


def test_the_sizes_of_the_page_are_those_of_a_fresh_run(described: dict[str, Any]) -> None:
    train, dev = described["splits"]["train"], described["splits"]["dev"]
    prose = " ".join(PAGE.split())
    assert f"({train['pages']} pages, {train['with_program']:,} with a program)" in prose
    assert f"all {dev['examples']} of dev ({dev['pages']} pages)" in prose
    of = {finding["name"]: finding["splits"]["dev"] for finding in described["findings"]}
    assert (
        f"{of['percent_answers_of_fractions']} of the dev texts are percentages of a value that is a fraction" in prose
    )
    assert f"{of['percent_answers_of_percentages']} are percentages of a value that is in percent itself" in prose
