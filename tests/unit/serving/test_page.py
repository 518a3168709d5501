"""The page in headless Chromium, against a live server: people type, rank, read, and find out what is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from typing import Any

import pytest

from finrank import Ranker
from finrank.programs import ProgramError, execute, parse
from finrank.serving.app import make_app
from tests.helpers.browser import (
    ASKED,
    FILES,
    PHONE,
    REFUSED,
    field,
    fill,
    focused,
    marked,
    needs_chromium,
    opened,
    press_rank,
    rank,
)
from tests.helpers.live_server import running

pytestmark = needs_chromium
EXAMPLES = json.loads((FILES / "examples.json").read_text(encoding="utf-8"))


def test_what_is_typed_is_ranked(page: Any, silence: None) -> None:
    for name, typed in ASKED.items():
        if name != "Table":  # where a typed tab leaves the field, as it should
            field(page, name).press_sequentially(typed)
    cards = rank(page, {"Table": ASKED["Table"]})
    assert page.get_by_text("Read as tab-separated: 3 rows, 3 columns.").is_visible()
    text = {card.locator(".value").text_content(): card.inner_text() for card in cards}
    assert set(text) == {"94", "-94", "23", "no value"}
    assert "subtract(5829, 5735)" in text["94"]
    assert "Candidates 1, 2" in text["94"]
    assert "No value: " in text["no value"]
    assert "divide(1, 0)" in text["no value"]
    shares = [float(card.locator(".probability").inner_text().split()[-2]) for card in cards]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.3)
    widths = [card.locator(".filled").bounding_box()["width"] for card in cards]
    assert [100 * width / cards[0].locator(".bar").bounding_box()["width"] for width in widths] == [
        pytest.approx(share, abs=2) for share in shares
    ]
    assert focused(page) == "result-heading"
    assert page.get_by_role("status").inner_text().startswith("4 answers. First: ")


def test_the_selected_answers_numbers_are_marked_on_the_page(page: Any, silence: None) -> None:
    rank(page, ASKED)
    wanted = {"94": ["$ 5829", "$ 5735", "revenue grew to 5829 ."], "23": ["costs", "11", "12"]}
    for value, expected in wanted.items():
        card = page.locator(".answer", has=page.get_by_text(value, exact=True))
        card.locator("label").click()
        assert marked(page) == expected
        assert card.locator("mark").count() == len(expected)
        weight, outline = page.locator("td mark").first.evaluate(
            "one => [getComputedStyle(one).fontWeight, getComputedStyle(one).outlineStyle]"
        )
        assert (weight, outline) == ("700", "solid")  # not by colour alone
    assert page.get_by_role("status").inner_text() == "23: 3 cells and 0 sentences marked."
    assert page.get_by_role("cell", name="11 (used)").is_visible()


def test_a_selected_answer_stays_where_it_was_on_the_screen(browser: Any, url: str) -> None:
    page, _ = opened(browser, url, **PHONE)
    rank(page, ASKED | {"Sentences": "\n".join(f"sentence {place}" for place in range(8))})
    last = page.locator(".answer").last
    last.scroll_into_view_if_needed()
    before = last.bounding_box()["y"]
    last.locator("label").click()
    assert last.bounding_box()["y"] == pytest.approx(before, abs=2)
    assert last.locator(".evidence").is_visible()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one["title"])
def test_examples_are_ranked_as_they_stand(page: Any, silence: None, example: dict[str, Any]) -> None:
    page.get_by_role("button", name=example["title"]).click()
    assert page.get_by_role("status").inner_text() == f"Filled in: {example['title']}."
    cards = rank(page)
    assert len({card.locator(".value").text_content() for card in cards}) == len(cards) > 2
    header = page.locator(".evidence thead th").all_text_contents()
    assert header == example["table"][0]


def test_examples_show_equal_answers_and_a_failure() -> None:
    found: Counter[str] = Counter()
    for example in EXAMPLES:
        values = []
        for line in example["candidates"]:
            try:
                values.append(execute(parse(line), example["table"]) if "(" in line and "=" not in line else line)
            except ProgramError:
                found["failing"] += 1
        found["equal"] += len(values) - len(set(values))
    assert found["failing"] == 1
    assert found["equal"] >= 1


def test_an_example_does_not_cost_what_was_written(page: Any) -> None:
    undo = page.get_by_role("button", name="Bring back what I wrote")
    page.get_by_role("button", name=EXAMPLES[0]["title"]).click()
    assert undo.is_hidden()
    fill(page, ASKED)
    page.get_by_role("button", name=EXAMPLES[1]["title"]).click()
    undo.click()
    assert {name: field(page, name).input_value() for name in ASKED} == ASKED
    assert undo.is_hidden()


def test_the_curl_command_gives_the_same_answers(browser: Any, url: str) -> None:
    page, _ = opened(browser, url, permissions=["clipboard-read", "clipboard-write"])
    cards = rank(page, ASKED | {"Question": "what's the company's \"change\" in $revenue\\n ?"})
    page.get_by_role("button", name="Copy the command").click()
    page.get_by_text("Copied", exact=True).wait_for()
    command = page.evaluate("navigator.clipboard.readText()")
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    answered = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=20)
    answers = json.loads(answered.stdout)["answers"]
    shown = [card.locator(".probability").inner_text().split()[-2] for card in cards]
    assert [f"{100 * answer['probability']:.1f}" for answer in answers] == shown


def test_what_is_missing_is_said_at_its_field(page: Any, silence: None) -> None:
    press_rank(page)
    alert = page.get_by_role("alert")
    assert "Write the question" in alert.inner_text()
    assert "at least one candidate" in alert.inner_text()
    assert focused(page) == "question"
    assert page.locator("[aria-invalid=true]").count() == 2
    described = page.locator("#question").get_attribute("aria-describedby").split()
    assert "Write the question" in page.locator(f"#{described[0]}").inner_text()
    alert.get_by_role("link", name="Candidates").click()
    assert focused(page) == "candidates"
    assert rank(page, ASKED)
    assert alert.count() == page.locator("[aria-invalid=true]").count() == 0


def test_candidates_are_sent_as_they_are_written_a_line_each(page: Any, silence: None) -> None:
    sent: list[Any] = []

    def answer(route: Any) -> None:
        sent.append(route.request.post_data_json["candidates"])
        route.continue_()

    page.route("**/v1/rank", answer)
    lines = ["Answer: 12%", "1,2", "(32)", "yes", "add(1, 2) = 3", "$ 1.2 million"]
    rank(page, ASKED | {"Candidates": "\n\n".join(lines) + "\n \n"})
    assert sent == [lines]


def test_a_candidate_without_a_value_has_its_reason_at_its_line(page: Any, silence: None) -> None:
    rank(page, ASKED | {"Candidates": "\nadd(1, 2)\n\nwhat ?\ndivide(1, 0)\nwhat ?"})
    first, second, third = page.locator("#candidates-fault").inner_text().split("\n")
    assert first.startswith("Line 4: ")
    assert second.startswith("Line 5: ")
    assert second.endswith("division by zero")
    assert third == first.replace("Line 4", "Line 6")
    assert focused(page) == "result-heading"
    assert page.get_by_role("alert").count() == page.locator("[aria-invalid=true]").count() == 0
    assert page.get_by_role("status").inner_text().endswith(" 3 candidates without a value.")
    rank(page, {"Candidates": "add(1, 2)"})
    assert page.locator("#candidates-fault").text_content() == ""


def test_an_unread_candidate_without_a_score_is_shown_behind_the_others(page: Any, silence: None) -> None:
    answers = [
        {"answer": 3.0, "probability": 1.0, "score": 1.0, "index": 0, "indices": [0], "error": None}
        | {"programs": ["add(1, 2)"]},
        {"answer": None, "probability": 0.0, "score": None, "index": 1, "indices": [1], "error": "not a number"}
        | {"programs": []},
    ]
    evidence = {"cells": [], "sentences": []}
    response = {"answers": [answer | {"evidence": evidence} for answer in answers], "model": "tiny", "abstain": False}
    response |= {"calibrated": False, "threshold": None, "warnings": ["1 candidate could not be read"]}
    page.route("**/v1/rank", lambda route: route.fulfill(json=response))
    _, unread = rank(page, ASKED | {"Candidates": "add(1, 2)\n16,7%"})
    text = " ".join(unread.inner_text().split())
    assert text == "2. no value , probability 0.0 % 16,7% No value: not a number Candidate 2 · not scored"
    assert page.locator("#candidates-fault").inner_text() == "Line 2: not a number"
    assert page.locator("#answers .message li").all_text_contents() == ["1 candidate could not be read"]
    response["answers"] = response["answers"][1:]
    rank(page)
    assert page.locator("#answers .message").first.inner_text().startswith("No answer")


def test_what_the_service_refuses_is_said_at_its_field(browser: Any, url: str) -> None:
    page, heard = opened(browser, url)
    rank(page, ASKED | {"Candidates": "\n".join(f"add({number}, 1)" for number in range(13))})
    assert "13 candidates" in page.get_by_role("alert").inner_text()
    assert focused(page) == "candidates"
    assert page.locator("#candidates").get_attribute("aria-invalid") == "true"
    assert [message for message in heard if not REFUSED.match(message)] == []


def test_a_candidate_that_the_service_refuses_is_selected(page: Any) -> None:
    error = {"type": "invalid_request", "message": "candidates.1: a number too large", "field": "candidates.1"}
    page.route("**/v1/rank", lambda route: route.fulfill(status=400, json={"error": error}))
    rank(page, ASKED | {"Candidates": "yes\n\n1e999\nno"})
    assert page.locator("#candidates-fault").inner_text() == "Line 3: a number too large"
    assert "Candidates: Line 3: a number too large" in page.get_by_role("alert").inner_text()
    assert focused(page) == "candidates"
    assert page.evaluate("String(getSelection())") == "1e999"


def test_the_page_says_that_the_service_shuts_down(page: Any) -> None:
    assert "Model tiny" in page.locator("#health").inner_text()
    page.route("**/health", lambda route: route.fulfill(status=503, body='{"status": "draining", "model": "tiny"}'))
    page.reload()
    page.get_by_text("The service is shutting down.").wait_for()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"abort": True}, "The service cannot be reached"),
        ({"status": 502, "body": "<h1>Bad gateway</h1>"}, "status 502 and no reason that can be read"),
        ({"status": 200, "body": "<h1>Welcome</h1>"}, "status 200 and no reason that can be read"),
        (
            {"status": 503, "body": '{"error": {"type": "overloaded", "message": "too busy", "field": null}}'},
            "too busy",
        ),
    ],
)
def test_a_service_that_fails_is_said_in_an_alert(page: Any, answer: dict[str, Any], message: str) -> None:
    page.route("**/v1/rank", lambda route: route.abort() if "abort" in answer else route.fulfill(**answer))
    fill(page, ASKED)
    press_rank(page)
    alert = page.get_by_role("alert")
    assert message in alert.inner_text()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "alert"
    page.unroute("**/v1/rank")
    assert rank(page)
    assert alert.count() == 0


def test_a_key_is_asked_for_where_one_is_needed(browser: Any, ranker: Ranker) -> None:
    with running(make_app(ranker, "tiny", key="s3cret")) as live:
        page, heard = opened(browser, live.url)
        key = page.get_by_label("API key")
        assert key.is_hidden()
        rank(page, ASKED)
        assert focused(page) == "key"
        key.fill("wrong")
        rank(page)
        assert "refuses this key" in page.get_by_role("alert").inner_text()
        key.fill("schlüssel")
        press_rank(page)
        assert "without spaces" in page.get_by_role("alert").inner_text()
        key.fill("s3cret")
        assert rank(page)
        command = page.locator("#curl").inner_text()
        assert "$FINRANK_API_KEY" in command
        assert "s3cret" not in command
        assert [message for message in heard if not REFUSED.match(message)] == []


def test_a_request_under_way_is_shown_and_not_sent_twice(page: Any) -> None:
    held: list[Any] = []
    page.route("**/v1/rank", lambda route: held.append(route))
    fill(page, ASKED)
    press_rank(page)
    button = page.get_by_role("button", name="Ranking…")
    assert button.get_attribute("aria-disabled") == "true"
    assert page.locator("#result").get_attribute("aria-busy") == "true"
    assert page.get_by_role("status").inner_text() == "Ranking…"
    button.click(force=True)
    assert len(held) == 1
    held[0].continue_()
    page.locator(".answer").first.wait_for()
    assert page.get_by_role("button", name="Rank", exact=True).get_attribute("aria-disabled") == "false"


def test_an_edit_after_ranking_is_said(page: Any) -> None:
    rank(page, ASKED)
    outdated = page.get_by_text("belongs to what was there before")
    assert outdated.is_hidden()
    fill(page, {"Question": "and the total ?"})
    assert outdated.is_visible()
    rank(page)
    assert outdated.is_hidden()
