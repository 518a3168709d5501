"""The report as a file: whole, escaped, deterministic, and showing what is absent as absent."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from finrank.evaluation.report import pictures
from finrank.evaluation.report.html import answer_text, count, figure, interval, p_value, present_metrics, write_html
from finrank.records import RewardedPool
from tests.helpers.example_result import BASELINES, HOSTILE, example_result, imported_result, write_run

VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Reads a page: its tags with attributes, its text, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def written(tmp_path: Path, result: dict[str, Any], run: Path | None = None) -> str:
    path = tmp_path / "new" / "report.html"
    write_html(path, result, run)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a report with every part."""
    folder = tmp_path_factory.mktemp("whole")
    return written(folder, example_result(), write_run(folder / "run_001"))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a report on pools of imported outputs."""
    folder = tmp_path_factory.mktemp("imported")
    return written(folder, imported_result(), write_run(folder / "run_001"))


def sections_of(text: str) -> dict[str, str]:
    """The sections of a page, by name."""
    found = re.findall(r'<section [^>]*aria-labelledby="(\w+)">.*?</section>', text, re.DOTALL)
    parts = re.findall(r"<section .*?</section>", text, re.DOTALL)
    return dict(zip(found, parts, strict=True))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures: they take most of the time."""
    for name in ("dots", "curves", "reliability", "risk_coverage", "position_bars"):
        monkeypatch.setattr(pictures, name, lambda *_, **__: "<svg></svg>")


def test_everything_is_on_the_page(whole: str) -> None:
    page = Page(whole)
    assert page.text.startswith(
        "run_001, dev – finrank finrank report run_001 on dev The model picks a right answer in"
    )
    for told in [
        "0.567 of 883 questions",
        "2 pools have no right candidate and count as wrong",
        "paired test over pages p < 0.001",
        "a difference of +0.365 (+0.330 to +0.400)",
        "Trained for 1,234 s on CPU (x86_64)",
        "misses the accuracy by 0.021 on average",
        "answers 0.305 of the questions, 0.934 of them rightly (lower confidence bound 0.902)",
        "Chi-square test of the picked positions: p = 0.411. On 64 pools in another order, scores changed by 3.1e-07",
        "other row 40 1,109 0.036",
        "The 2 mistakes of which the model was surest",
        "picked 5,818, right is 94, confidence 0.680",
        "max_steps: 100",
        "ab" * 32,
    ]:
        assert told in page.text
    assert "not found" not in page.text
    assert "hold no" not in page.text
    assert len(page.named("svg")) == 2 + 1 + 2 + 2 + 6


@pytest.mark.parametrize("key", sorted(example_result()))
@pytest.mark.parametrize("absent", ["missing", "none"])
@pytest.mark.usefixtures("undrawn")
def test_an_absent_part_leaves_the_others(tmp_path: Path, key: str, absent: str) -> None:
    result = example_result()
    if absent == "missing":
        del result[key]
    else:
        result[key] = None
    page = Page(written(tmp_path, result))
    assert not re.search(r"\bNone\b(?! of the known)|\bnan\b|\bUndefined\b", page.text)
    assert ("MRR" in page.text) == (key not in {"mrr"})


def test_every_section_is_there_and_filled(whole: str, imported: str) -> None:
    sections = ["figures", "training", "confidence", "positions", "breakdowns", "examples", "mistakes", "provenance"]
    for text in (whole, imported):
        named = [one["aria-labelledby"] for one in Page(text).named("section")]
        assert named == ["troubles", *sections]
        assert all(len(Page(part).text) > 60 for part in sections_of(text).values())
        assert 'class="absent"' not in text
        assert set(sections_of(text)) == set(named)


def test_imported_pools_show_all_accuracies_and_no_p_value_where_none_was_tested(imported: str) -> None:
    page = Page(imported)
    figures = Page(sections_of(imported)["figures"])
    assert figures.text.startswith("Figures accuracy 0.567 0.537–0.597 accuracy, pooled 0.567")
    assert "accuracy, by best 0.567" in figures.text
    assert "equal answers. Pooled: their probabilities are summed" in figures.text
    rows = re.findall(r'<th scope="row">([a-z ]+)</th>\n.*?<td class="number">([^<]*)</td></tr>', imported, re.DOTALL)
    tested = dict(rows[: len(BASELINES) + 2])
    assert tested == {
        "model": "", "chance": "–", "constant": "–", "medoid": "&lt; 0.001", "candidate only": "&lt; 0.001",
        "majority vote": "0.031", "oracle": "–",
    }  # fmt: skip
    assert "Wrong candidates that were picked" in page.text
    assert "fooled the model" not in page.text
    assert "imported 97 3,402 0.029" in page.text


def test_a_page_of_nothing_says_so(tmp_path: Path) -> None:
    page = Page(written(tmp_path, {}))
    for absent in ["figures", "figures of confidence", "check of positions", "breakdowns", "examples", "mistakes"]:
        assert f"These results hold no {absent}." in page.text
    assert "No training manifest was found" in page.text
    assert page.named("svg") == []


def test_what_evaluation_gives_is_shown(tmp_path: Path, make_pool: Callable[..., RewardedPool]) -> None:
    from finrank.evaluation.evaluate import evaluate_pools

    pools = [make_pool([1.0, 2.0, 3.0], page=f"page {n}", identifier=f"q{n}") for n in range(6)]
    result = evaluate_pools(pools, [[1.0, 0.0, 0.0]] * 5 + [[0.0, 1.0, 0.0]])
    page = Page(written(tmp_path, result))
    assert f"{result['accuracy']:.3f} of 6 questions" in page.text
    assert "medoid" in page.text
    json.dumps(result)


def test_all_text_is_escaped(whole: str) -> None:
    assert HOSTILE not in whole
    assert "<script" not in whole.lower()
    assert str(escape(HOSTILE)) in whole
    page = Page(whole)
    assert page.named("script") == []
    assert HOSTILE in page.text
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("variant", ["whole", "imported"])
def test_nothing_is_fetched_from_outside(variant: str, request: pytest.FixtureRequest) -> None:
    whole = request.getfixturevalue(variant)
    page = Page(whole)
    targets = [value for _, one in page.tags for name, value in one.items() if name in {"href", "src", "xlink:href"}]
    assert targets
    assert all(value and value.startswith(("#", "data:,")) for value in targets)
    assert "@import" not in whole
    assert not [part for part in whole.split("url(")[1:] if not part.startswith("#")]
    policy = next(one for one in page.named("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_the_same_result_gives_the_same_bytes(tmp_path: Path, whole: str) -> None:
    assert written(tmp_path, example_result(), write_run(tmp_path / "run_001")) == whole
    assert written(tmp_path, {**example_result(), "accuracy": 0.568}, tmp_path / "run_001") != whole


def test_a_screen_reader_finds_its_way(whole: str) -> None:
    page = Page(whole)
    identifiers = [one["id"] for _, one in page.tags if "id" in one]
    assert len(identifiers) == len(set(identifiers))
    assert page.named("html")[0]["lang"] == "en"
    assert all(one["role"] == "img" and len(one["aria-label"] or "") > 10 for one in page.named("svg"))
    assert all(one.get("scope") in {"row", "col"} for one in page.named("th"))
    regions = [one for one in page.named("div") if one.get("class") == "scroll"]
    assert len(regions) == len(page.named("table"))
    assert all(one["tabindex"] == "0" and one["aria-label"] for one in regions)
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert {f"#{name}" for name in identifiers} >= {one["href"] for one in page.named("a")}


def test_numbers_are_written_in_one_way() -> None:
    assert [figure(0.5674), figure(None), interval([0.1, 0.25]), interval(None)] == ["0.567", "–", "0.100–0.250", ""]
    assert [count(1109), count(None), p_value(0.0001), p_value(0.0421), p_value(None)] == [
        "1,109", "–", "< 0.001", "= 0.042", "–"
    ]  # fmt: skip
    assert [answer_text(one) for one in (1637.5, 0.016390, -94.0, 0.0, 2e20, "yes", None)] == [
        "1,637.5", "0.01639", "-94", "0", "2e+20", "yes", "fails"
    ]  # fmt: skip


def test_the_three_accuracies_stand_together_where_answers_repeat() -> None:
    equal: dict[str, Any] = {"accuracy": 0.5, "accuracy_pooled": 0.5, "accuracy_max": 0.5}
    three = ["accuracy", "accuracy_pooled", "accuracy_max"]
    assert present_metrics({**equal, "baselines": {"majority_vote": {"accuracy": 0.4}}}) == three
    assert present_metrics({**equal, "confidence": {"origins": {"gold": 1, "imported": 7}}}) == three
    assert present_metrics({**equal, "confidence": {"origins": {"sampled": 8}}}) == three


def test_elsewhere_figures_of_equal_answers_stand_only_where_they_differ() -> None:
    made: dict[str, Any] = {
        "baselines": {"majority_vote": None},
        "confidence": {"origins": {"gold": 1, "corrupted": 7}},
    }
    assert present_metrics({"accuracy": 0.5, "accuracy_pooled": 0.5, "accuracy_max": 0.5, **made}) == ["accuracy"]
    assert present_metrics({"accuracy": 0.5, "accuracy_pooled": 0.6, "mrr": None}) == ["accuracy", "accuracy_pooled"]
