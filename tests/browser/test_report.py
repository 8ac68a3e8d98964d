"""The report in a real browser, opened from the disk: quiet, usable by keyboard and by everybody, at every width."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from demo.browser import chromium, find
from shoes.publishing.page import write
from tests.publishing import sample_night as sample

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.skipif(find() is None, reason="Chromium is not installed")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(sample.night(tmp_path_factory.mktemp("night") / "run"))


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as browser:
        yield browser


def show(browser: "Browser", report: Path, *, width: int = 1440, **options: object) -> "Page":
    context = browser.new_context(viewport={"width": width, "height": 844}, reduced_motion="reduce", **options)
    page = context.new_page()
    page.goto(report.as_uri())
    return page


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_asks_nobody_and_complains_of_nothing(browser: "Browser", report: Path, colours: str) -> None:
    context = browser.new_context(color_scheme=colours)
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    page.locator("button.frame").first.click()
    page.keyboard.press("Escape")
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert said == []
    assert page.evaluate("[...document.images].slice(0, -1).every(image => image.naturalWidth > 0)")


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_nobody_is_shut_out(browser: "Browser", report: Path, colours: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    # axe is put into the page from outside, which the page's own policy would refuse
    page = show(browser, report, width=width, color_scheme=colours, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    found = Axe().run(page).response
    told = [
        f"{one['id']}: {node['html'][:150]} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]
    assert told == []
    assert {"color-contrast", "image-alt", "heading-order"} <= {one["id"] for one in found["passes"]}


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_nothing_sticks_out(browser: "Browser", report: Path, width: int) -> None:
    page = show(browser, report, width=width)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_pictures_are_enlarged_by_keyboard(browser: "Browser", report: Path) -> None:
    page = show(browser, report)
    page.locator("button.frame").first.focus()
    page.keyboard.press("Enter")
    dialog, title, place = page.locator("#zoom"), page.locator("#zoom-title"), page.locator("#zoom-place")
    assert dialog.is_visible()
    assert title.inner_text() == "Base"
    page.keyboard.press("ArrowRight")
    assert title.inner_text() == "With adapter"
    assert dialog.locator("img").get_attribute("alt") == "Black casual shoes, summer: drawn by the adapter, seed 1234"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert place.inner_text() == "65 of 65", "before the first comes the last: 5 × 5 in rows, 20 × 2 in pairs"
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    focused = "document.activeElement.dataset.title"
    assert page.evaluate(focused) == "Training photo", "the focus is at the picture that was looked at last"


def test_the_keyboard_reaches_the_report_first(browser: "Browser", report: Path) -> None:
    page = show(browser, report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_without_scripts_all_is_there(browser: "Browser", report: Path) -> None:
    page = show(browser, report, java_script_enabled=False)
    assert page.locator("section").count() == 7
    assert page.locator(".frame img").first.is_visible()
    assert page.locator("button:visible").count() == 0, "what would do nothing is not shown"


def test_on_paper_the_tables_are_open(browser: "Browser", report: Path) -> None:
    page = show(browser, report)
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert page.get_by_text("held out ± 2 SE").is_visible()
