"""The report in headless Chromium: no message on the console, nothing wider than the screen, in light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finrank.evaluation.report.html import write_html
from tests.helpers.example_result import example_result, imported_result, write_run

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")
WIDTHS = {"desktop": 1280, "phone": 390}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # Chromium's sandbox cannot start where tests run as root, as they do in containers.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    model = write_run(folder / "run_001")
    write_html(folder / "report.html", example_result(), model)
    write_html(folder / "imported.html", imported_result(), model)
    return folder / "report.html"


def opened(browser: Any, path: Path, **options: Any) -> tuple[Any, list[str]]:
    """The page, and what it said on the console or asked the network for."""
    heard: list[str] = []

    def hear_request(request: Any) -> None:
        if request.url != path.as_uri() and not request.url.startswith("data:"):
            heard.append(request.url)

    page = browser.new_page(**options)
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", hear_request)
    page.goto(path.as_uri())
    return page, heard


@pytest.mark.parametrize("name", ["report", "imported"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", sorted(WIDTHS))
def test_it_opens_without_a_message_and_fits_the_screen(
    browser: Any, report: Path, device: str, scheme: str, name: str
) -> None:
    viewport = {"width": WIDTHS[device], "height": 844}
    page, heard = opened(browser, report.parent / f"{name}.html", viewport=viewport, color_scheme=scheme)
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true })")
    assert heard == []
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    picture = report.parent / f"{name}_{device}_{scheme}.png"
    page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 50_000


def test_text_can_be_read_in_light_and_dark(browser: Any, report: Path) -> None:
    """Contrast of at least 4.5 to the background (WCAG 2.2, 1.4.3) for every colour of text, drawings included."""
    for scheme in ("light", "dark"):
        page, _ = opened(browser, report, color_scheme=scheme)
        for name in ("--ink", "--muted", "--accent", "--second", "--right-edge", "--picked-edge"):
            assert contrast(page, name, "--paper") >= 4.5, (scheme, name)
        for name in ("--card", "--warning", "--right", "--picked"):
            assert contrast(page, "--ink", name) >= 4.5, (scheme, name)


def contrast(page: Any, text: str, background: str) -> float:
    def luminance(name: str) -> float:
        value = page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('{name}')").strip()
        channels = [int(value[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(text), luminance(background)])
    return (high + 0.05) / (low + 0.05)


def test_paper_is_white_even_where_the_screen_is_dark(browser: Any, report: Path) -> None:
    page, _ = opened(browser, report, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_folded_parts_open_by_keyboard(browser: Any, report: Path) -> None:
    page, _ = opened(browser, report)
    page.focus("#mistakes ~ details summary")
    assert page.evaluate("document.querySelector('#mistakes ~ details').open") is False
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('#mistakes ~ details').open") is True


def test_a_message_and_a_request_would_be_heard(browser: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<script>console.log('x')</script><img src='gone.png'>", encoding="utf-8")
    _, heard = opened(browser, bad)
    assert "x" in heard
    assert (tmp_path / "gone.png").as_uri() in heard


def test_a_script_in_the_report_would_not_run(browser: Any, report: Path, tmp_path: Path) -> None:
    """The page's own policy is a second line of defence behind escaping."""
    text = report.read_text(encoding="utf-8").replace("</main>", "<script>document.title = 'changed'</script></main>")
    (tmp_path / "changed.html").write_text(text, encoding="utf-8")
    page, heard = opened(browser, tmp_path / "changed.html")
    assert page.title() != "changed"
    assert any("Content Security Policy" in message for message in heard)
