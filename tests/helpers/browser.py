"""The page in headless Chromium, for the tests of it: opening, filling in, ranking, and what it says meanwhile."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import finrank.serving

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")

FILES = Path(finrank.serving.__file__).parent / "page"
ASKED = {
    "Question": "what is the change in revenue ?",
    "Table": "\t2009\t2008\nrevenue\t$ 5829\t$ 5735\ncosts\t11\t12",
    "Sentences": "revenue grew to 5829 .\n\nnothing else .",
    "Candidates": "subtract(5829, 5735)\n94\ntable_sum(costs, none)\ndivide(1, 0)\nsubtract(5735, 5829) = -94",
}
PHONE = {"viewport": {"width": 390, "height": 844}}
# What Chromium itself writes for any answer that is an error, whatever the page does with it.
REFUSED = re.compile(r"Failed to load resource: the server responded with a status of 4\d\d")


@contextmanager
def launched() -> Iterator[Any]:
    """A running browser."""
    with sync_api.sync_playwright() as playwright:
        # Chromium's sandbox cannot start where tests run as root, as they do in containers.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Any, address: str, **options: Any) -> tuple[Any, list[str]]:
    """The page, ready, and the list of what it says on the console or asks of other hosts."""
    heard: list[str] = []
    for context in browser.contexts:  # of earlier tests: their pages would still take time
        context.close()
    page = browser.new_page(**options)
    page.set_default_timeout(15_000)
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda one: None if one.url.startswith(address) else heard.append(one.url))
    page.goto(address + "/")
    page.locator(".examples button:not([hidden])").first.wait_for()
    return page, heard


def field(page: Any, name: str) -> Any:
    """The field that is labelled so."""
    return page.get_by_role("textbox", name=name, exact=True)


def fill(page: Any, asked: dict[str, str]) -> None:
    """Write into fields, by their labels."""
    for name, text in asked.items():
        field(page, name).fill(text)


def press_rank(page: Any) -> None:
    """Press the button, whatever comes of it."""
    page.get_by_role("button", name="Rank").click()


def rank(page: Any, asked: dict[str, str] | None = None) -> list[Any]:
    """Fill in, press Rank, and return the cards of the answers."""
    fill(page, asked or {})
    with page.expect_response("**/v1/rank"):
        press_rank(page)
    page.locator("#result[aria-busy=false]").wait_for()
    cards: list[Any] = page.locator(".answer").all()
    return cards


def marked(page: Any) -> list[str]:
    """Texts that are marked as used."""
    return [text.removesuffix(" (used)") for text in page.locator("mark").all_text_contents()]


def focused(page: Any) -> str:
    """Id of the element that has the focus, else its tag."""
    found: str = page.evaluate("document.activeElement.id || document.activeElement.tagName")
    return found
