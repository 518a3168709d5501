"""The page for everybody: keyboard, screen readers, small screens, light and dark. Pasted code never runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.browser import (
    ASKED,
    FILES,
    PHONE,
    field,
    fill,
    focused,
    marked,
    needs_chromium,
    opened,
    press_rank,
    rank,
)

pytestmark = needs_chromium
EVIL = "<img src=x onerror=\"window.ran = 'yes'\"><script>window.ran = 'yes'</script>"
# Of every visible text, the contrast to the nearest background behind it (WCAG 2.2, 1.4.3), the lowest first.
CONTRASTS = (REPOSITORY / "tests/helpers/contrasts.js").read_text(encoding="utf-8")
RESPONSE: dict[str, Any] = {
    "id": None,
    "answers": [
        {"answer": 94.0, "probability": 0.62, "score": 1.0, "index": 0, "indices": [0], "error": None}
        | {"programs": ["subtract(5829, 5735)"], "evidence": {"cells": [[1, 1]], "sentences": [0]}}
    ],
    "abstain": False,
    "calibrated": True,
    "threshold": 0.5,
    "model": "tiny",
    "usage": {"prompt_tokens": 9, "total_tokens": 9},
    "warnings": [],
}


def test_the_keyboard_alone_is_enough(page: Any, silence: None) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")  # the first example
    while focused(page) != "rank":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator(".answer").first.wait_for()
    assert focused(page) == "result-heading"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "radio"
    assert page.locator(".answer").first.evaluate("one => getComputedStyle(one).outlineStyle") == "solid"
    page.keyboard.press("ArrowDown")
    assert page.locator(".answer").nth(1).locator(".evidence").count() == 1
    assert page.evaluate("document.activeElement.checked")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "The table, used cells marked"
    while focused(page) != "copy":
        page.keyboard.press("Tab")


def test_control_and_enter_rank_from_any_field(page: Any) -> None:
    fill(page, ASKED)
    field(page, "Sentences").press("Control+Enter")
    page.locator(".answer").first.wait_for()


def test_screen_readers_find_names_and_places(page: Any) -> None:
    rank(page, ASKED)
    for place in ("banner", "main", "contentinfo"):
        assert page.get_by_role(place).count() == 1
    assert page.get_by_role("region", name="Answers").get_by_role("heading", name="Answers").count() == 1
    assert page.get_by_role("group", name="Examples").get_by_role("button").count() == 3
    assert page.get_by_role("radio").count() == 4
    value = page.locator(".value").first.text_content()
    assert page.get_by_role("radio").first.evaluate("one => one.labels[0].textContent").startswith(f"1.{value}, proba")
    table = page.get_by_role("region", name="The table, used cells marked").get_by_role("table")
    assert table.get_by_role("columnheader").all_text_contents() == ["2009", "2008"]
    assert [text.removesuffix(" (used)") for text in table.get_by_role("rowheader").all_text_contents()] == [
        "revenue",
        "costs",
    ]
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(browser: Any, url: str, scheme: str) -> None:
    page, _ = opened(browser, url, color_scheme=scheme, reduced_motion="reduce")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    page.route("**/v1/rank", lambda route: route.fulfill(json=RESPONSE | {"abstain": True, "warnings": ["mind this"]}))
    rank(page, ASKED)
    page.locator("#key-part").evaluate("one => { one.hidden = false }")
    fill(page, {"Question": ""})
    press_rank(page)
    page.get_by_role("alert").wait_for()
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 40
    assert contrasts[0][0] >= 4.5, contrasts[:3]
    page.locator("h1").evaluate("one => { one.style.color = 'grey'; one.style.backgroundColor = 'darkgrey' }")
    assert page.evaluate(CONTRASTS)[0][0] < 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(browser: Any, url: str, scheme: str) -> None:
    page, heard = opened(browser, url, color_scheme=scheme, **PHONE)

    def width() -> int:
        found: int = page.evaluate("document.documentElement.scrollWidth")
        return found

    assert width() == 390
    wide = "\n".join(
        "\t".join(f"{'label' if column == 0 else '$ 1,234,567'}" for column in range(20)) for _ in range(5)
    )
    rank(page, ASKED | {"Table": wide, "Sentences": "long" * 100, "Candidates": f"{'x' * 300}\n{'9' * 80}\nadd(1, 2)"})
    assert width() == 390
    for box in page.locator(".scroll").all():
        assert box.evaluate("one => one.scrollWidth > one.clientWidth")
    page.locator(".answer").nth(2).locator("label").click()
    assert "Line 1: " in page.locator("#candidates-fault").inner_text()
    fill(page, {"Question": ""})
    press_rank(page)
    page.get_by_role("alert").wait_for()
    assert width() == 390
    assert heard == []


def test_still_for_those_who_want_no_motion(browser: Any, url: str) -> None:
    def durations(motion: str) -> set[str]:
        page, _ = opened(browser, url, reduced_motion=motion)
        rank(page, ASKED)
        found = page.evaluate(
            "[...document.querySelectorAll('*')].map(one => getComputedStyle(one).transitionDuration)"
        )
        return set(found)

    assert durations("reduce") == {"0s"}
    assert durations("no-preference") != {"0s"}


def paste(page: Any, html: str, plain: str) -> bool:
    """Paste into the table; True when the page read it itself, False when it leaves it to the browser."""
    taken: bool = page.evaluate(
        """([html, plain]) => {
          const clipboardData = new DataTransfer();
          if (html) clipboardData.setData("text/html", html);
          clipboardData.setData("text/plain", plain);
          const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
          return !document.getElementById("table").dispatchEvent(event);
        }""",
        [html, plain],
    )
    return taken


def test_a_pasted_page_fills_table_and_sentences(page: Any, silence: None) -> None:
    html = "<p>Revenue grew.</p><table><tr><td></td><td>2009</td></tr><tr><td>revenue</td><td>$ 5</td></tr></table>"
    assert paste(page, html, "Revenue grew. 2009 revenue $ 5")
    assert field(page, "Table").input_value() == "\t2009\nrevenue\t$ 5"
    assert field(page, "Sentences").input_value() == "Revenue grew."
    assert "1 line around the table went into the sentences" in page.locator("#table-read").inner_text()
    assert page.locator("#table-preview td").all_text_contents() == ["", "$ 5"]
    field(page, "Table").fill("")
    assert paste(page, "", html)  # the source as text
    assert field(page, "Table").input_value() == "\t2009\nrevenue\t$ 5"
    assert not paste(page, "<b>bold</b>", "a,b")


def test_nothing_that_is_pasted_runs(visit: tuple[Any, list[str]]) -> None:
    page, heard = visit
    assert paste(page, f"<table><tr><td>{EVIL}a</td><td>b</td></tr></table>{EVIL}", "")
    asked = {
        "Question": EVIL,
        "Table": f"\t2009\n{EVIL.replace('=', '')}\t{EVIL}5829",
        "Sentences": f"{EVIL} 5829 .",
        "Candidates": f"{EVIL}\nadd(5829, 1)\n{EVIL})\ntable_sum({EVIL}, none)",
    }
    cards = rank(page, asked)
    for card in cards:
        card.locator("label").click()
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None
    assert page.locator("body img, body script").count() == 0
    assert all("Content Security Policy" in message for message in heard)  # Chromium reports what it blocked


def test_what_the_service_says_does_not_run_either(page: Any, silence: None) -> None:
    answer = RESPONSE["answers"][0] | {"answer": EVIL, "programs": [EVIL], "error": EVIL}
    evil = RESPONSE | {"answers": [answer], "model": EVIL, "warnings": [EVIL]}
    page.route("**/v1/rank", lambda route: route.fulfill(body=json.dumps(evil), content_type="application/json"))
    rank(page, ASKED)
    assert page.locator(".value").text_content() == EVIL
    evil["answers"] = [answer | {"answer": None, "programs": []}]
    rank(page, {"Candidates": EVIL})
    assert page.locator("#candidates-fault").text_content() == f"Line 1: {EVIL}"
    assert page.evaluate("window.ran") is None
    assert page.locator("body img, body script").count() == 0


def test_code_that_did_get_in_would_be_heard_and_stopped(browser: Any, url: str) -> None:
    """The policy that the service sends is the second line of defence, and the tests above would hear of a breach."""
    page, heard = opened(browser, url)
    page.evaluate("html => { document.querySelector('h1').innerHTML = html }", EVIL)
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in message for message in heard)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "Sure enough to answer The first answer has a probability of 62.0 %, at or above this model's"),
        (
            {"abstain": True, "threshold": 0.9},
            "Too unsure to answer The first answer has a probability of 62.0 %, below",
        ),
        ({"threshold": None}, "No threshold"),
        ({"calibrated": False, "threshold": None}, "Confidence unknown"),
    ],
)
def test_confidence_is_said_in_words(page: Any, change: dict[str, Any], words: str) -> None:
    page.route("**/v1/rank", lambda route: route.fulfill(json=RESPONSE | change | {"warnings": ["mind this"]}))
    rank(page, ASKED)
    said = " ".join(page.locator("#answers .message").first.inner_text().split())
    assert said.startswith(words)
    assert page.locator("#answers .message li").all_text_contents() == ["mind this"]
    assert ("Too unsure" in page.get_by_role("status").inner_text()) == bool(change.get("abstain"))


def test_many_sentences_are_folded_but_not_the_used_one(page: Any) -> None:
    sentences = [f"sentence {place} ." for place in range(12)]
    sentences[7] = "revenue was 5829 ."
    rank(page, ASKED | {"Sentences": "\n".join(sentences), "Candidates": "subtract(5829, 5735)\nadd(11, 12)"})
    page.locator(".answer", has=page.get_by_text("94", exact=True)).locator("label").click()
    assert "revenue was 5829 ." in marked(page)
    used = page.locator(".sentences li.used")
    assert (used.count(), used.get_attribute("value"), used.is_visible()) == (1, "8", True)
    other = page.locator(".sentences li", has_text="sentence 3 .")
    assert other.is_hidden()
    page.get_by_text("11 other sentences").click()
    assert other.is_visible()


def test_the_page_is_whole_without_other_hosts() -> None:
    for path in sorted(FILES.iterdir()):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, path
        assert "https:" not in text, path
        assert "innerHTML" not in text, path
