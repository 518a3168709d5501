"""The report as a file: whole, escaped, deterministic, and readable by a screen reader."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape

from finrank.evaluation.report.html import answer_text, present_metrics, template_environment, write_html
from finrank.evaluation.result import EvaluationResult
from tests.helpers.example_result import HOSTILE, example_result, imported_result, write_run

VOID = {"meta", "link", "br"}
SECTIONS = ["figures", "training", "confidence", "positions", "breakdowns", "examples", "mistakes", "provenance"]


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
        self.handle_startendtag(tag, attrs)
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


def written(folder: Path, result: EvaluationResult) -> str:
    """The text of a report of a model with a training manifest."""
    path = folder / "new" / "report.html"
    write_html(path, result, write_run(folder / "run_001"))
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example() -> EvaluationResult:
    return example_result()


@pytest.fixture(scope="module")
def whole(example: EvaluationResult, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a report with every part."""
    return written(tmp_path_factory.mktemp("whole"), example)


@pytest.fixture(scope="module")
def imported_example() -> EvaluationResult:
    return imported_result()


@pytest.fixture(scope="module")
def imported(imported_example: EvaluationResult, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a report on pools of imported outputs."""
    return written(tmp_path_factory.mktemp("imported"), imported_example)


def sections_of(text: str) -> dict[str, str]:
    """The sections of a page, by name."""
    parts = re.findall(r"<section .*?</section>", text, re.DOTALL)
    return {part.partition('aria-labelledby="')[2].partition('"')[0]: part for part in parts}


def test_everything_is_on_the_page(whole: str, example: EvaluationResult) -> None:
    page, figures, confidence = Page(whole), example.figures, example.confidence
    comparison, threshold, ranked = example.comparison, confidence.threshold, example.mistakes[0]
    assert comparison is not None
    assert threshold is not None
    assert page.text.startswith("run_001, dev – finrank finrank report run_001 on dev The model picks a right answer")
    (other_row,) = [kind for kind in example.breakdowns.fooled_by if kind.name == "other_row"]
    for text in [
        f"{figures.model.accuracy:.3f} of 60 questions",
        "3 pools have no right candidate and count as wrong",
        f"a difference of {comparison.difference:+.3f} ({comparison.interval[0]:+.3f} to",
        "Trained for 1,234 s on CPU (x86_64). The dotted line marks the checkpoint that was kept, step 100",
        f"misses the accuracy by {confidence.ece:.3f} on average",
        f"answers {threshold.coverage:.3f} of the questions, {threshold.accuracy:.3f} of them rightly (lower",
        "On 32 pools in another order, scores changed by 0.0e+00",
        f"other row {other_row.picked:.0f} 60 {other_row.share:.3f}",
        f"The {len(example.mistakes)} mistakes of which the model was surest",
        f"right is {answer_text(ranked.answer)}, confidence {ranked.confidence:.3f}",
        "max_steps: 100",
        "ab" * 32,
    ]:
        assert text in page.text
    assert not re.search(r"\bNone\b(?! of the known)|\bnan\b|\bUndefined\b|not found", page.text)
    assert len(page.named("svg")) == 2 + 1 + 2 + 2 + 5


def test_every_section_is_there_and_filled(whole: str, imported: str) -> None:
    for text in (whole, imported):
        assert [section["aria-labelledby"] for section in Page(text).named("section")] == ["troubles", *SECTIONS]
        assert all(len(Page(part).text) > 60 for part in sections_of(text).values())
        assert 'class="absent"' not in text


def test_without_troubles_mistakes_and_run_the_page_says_so(tmp_path: Path, example: EvaluationResult) -> None:
    write_html(tmp_path / "report.html", replace(example, troubles=[], mistakes=[], comparison=None), tmp_path)
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "None of the known troubles" in text
    assert "These results hold no mistakes." in text
    assert "No training manifest was found" in text
    assert "Against" not in text


def test_imported_pools_show_all_accuracies_and_no_p_value_where_none_was_tested(imported: str) -> None:
    figures = Page(sections_of(imported)["figures"]).text
    assert re.search(
        r"p (<|=) 0\.\d+\. accuracy 0\.\d+ 0\.\d+–0\.\d+ accuracy, pooled 0\.\d+ .* accuracy, by best 0", figures
    )
    assert "equal answers. Pooled: their probabilities are summed" in figures
    table = sections_of(imported)["figures"].partition("figures of all scorers")[2]
    rows = re.findall(r'<th scope="row">([a-z ]+)</th>\n.*?<td class="number">([^<]*)</td></tr>', table, re.DOTALL)
    tested = {name for name, p in rows if p not in ("", "–")}
    assert tested == {"medoid", "medoid text", "candidate only", "majority vote"}
    assert re.search(r"imported \d+ 243 0\.", Page(imported).text)


def test_where_systems_agree_the_first_answer_comes_first(imported: str, imported_example: EvaluationResult) -> None:
    answers = imported_example.answers
    assert answers is not None
    assert answers.compared is not None
    accuracy, (low, high) = f"{answers.accuracy:.3f}", answers.interval
    assert f"The model gives a right answer first in {accuracy} of 60 questions" in Page(imported).text
    figures = Page(sections_of(imported)["figures"]).text
    assert figures.startswith(f"Figures The first answer is right in {accuracy} of the questions ( 95 % interval")
    assert f"chosen by accuracy interval p finrank {accuracy} {low:.3f}–{high:.3f} vote 0.000" in figures
    fitted = answers.fitted
    assert f"finrank, fitted to other pages {fitted.accuracy:.3f} {fitted.interval[0]:.3f}–" in figures
    assert "best system" not in figures  # no candidate names its system
    assert f"whose first answer is right in 0.000: a difference of {answers.compared.difference:+.3f} (" in figures


def test_all_text_is_escaped(whole: str) -> None:
    assert HOSTILE not in whole
    assert "<script" not in whole.lower()
    assert str(escape(HOSTILE)) in whole
    page = Page(whole)
    assert page.named("script") == []
    assert HOSTILE in page.text
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_nothing_is_fetched_from_outside(whole: str) -> None:
    page = Page(whole)
    targets = [value for _, one in page.tags for name, value in one.items() if name in {"href", "src", "xlink:href"}]
    assert targets
    assert all(value and value.startswith(("#", "data:,")) for value in targets)
    assert "@import" not in whole
    assert not [part for part in whole.split("url(")[1:] if not part.startswith("#")]
    policy = next(one for one in page.named("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_the_same_result_gives_the_same_bytes(tmp_path: Path, whole: str, example: EvaluationResult) -> None:
    assert written(tmp_path, example) == whole


@pytest.mark.parametrize("name", ["whole", "imported"])
def test_a_screen_reader_finds_its_way(name: str, request: pytest.FixtureRequest) -> None:
    page = Page(request.getfixturevalue(name))
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


@pytest.mark.parametrize(
    ("kind", "values", "texts"),
    [
        ("figure", [0.5674, None], ["0.567", "–"]),
        ("interval", [[0.1, 0.25], None], ["0.100–0.250", ""]),
        ("p_value", [0.0001, 0.0421, None], ["< 0.001", "= 0.042", "–"]),
        ("value", [0.0, 2e20, "yes"], ["0", "2e+20", "yes"]),
    ],
)
def test_numbers_are_written_in_one_way(kind: str, values: list[object], texts: list[str]) -> None:
    assert [template_environment(autoescape=True).filters[kind](value) for value in values] == texts


@pytest.mark.parametrize(
    ("votes", "origins", "pooled", "shown"),
    [
        (True, {"corrupted": 8}, 0.5, ["accuracy", "accuracy_pooled", "accuracy_max"]),
        (False, {"gold": 1, "imported": 7}, 0.5, ["accuracy", "accuracy_pooled", "accuracy_max"]),
        (False, {"sampled": 8}, 0.5, ["accuracy", "accuracy_pooled", "accuracy_max"]),
        (False, {"gold": 1, "corrupted": 7}, 0.5, ["accuracy"]),
        (False, {"gold": 1, "corrupted": 7}, 0.6, ["accuracy", "accuracy_pooled"]),
    ],
)
def test_accuracies_of_equal_answers_are_shown_where_answers_repeat_or_they_differ(
    example: EvaluationResult, votes: bool, origins: dict[str, int], pooled: float, shown: list[str]
) -> None:
    figures = example.figures
    means = dict.fromkeys(figures.model.means, None) | {"accuracy": 0.5, "accuracy_pooled": pooled, "accuracy_max": 0.5}
    row = figures.baselines["medoid"] if votes else None
    changed = replace(figures, model=replace(figures.model, means=means), baselines={"majority_vote": row})
    confidence = replace(example.confidence, origins=origins)
    assert present_metrics(replace(example, figures=changed, confidence=confidence)) == shown
