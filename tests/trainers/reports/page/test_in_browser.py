"""The page in a real browser: slider, zoom, sorting, charts, keys; dark, narrow and printed; hostile words."""

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.trainers.reports.page.browser import Browser, browsing, find_browser
from tests.trainers.reports.page.pages import page
from tests.trainers.reports.page.test_render import HOSTILE
from trainers.reports.page.render import render

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(str(PROGRAM), tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Callable[..., Browser]:
    """Show a page made of a word."""

    def show(word: str = "word", **size: int) -> Browser:
        file = tmp_path / "page.html"
        file.write_text(render(page(word)), encoding="utf-8")
        browser.open(file.as_uri(), **size)
        return browser

    yield show
    assert browser.complaints() == []
    assert [address for address in browser.requests() if not address.startswith(("file:", "data:"))] == []


def column(browser: Browser, number: int = 0) -> list[str]:
    return browser.run(f"[...document.querySelectorAll('tbody tr')].map(row => row.cells[{number}].textContent.trim())")


def test_a_click_on_a_heading_sorts_numbers_downwards_then_upwards_with_empty_cells_last(shown):
    browser = shown()
    assert column(browser, 1) == ["3.50", "20.25", "", "inf", "9.75"]
    browser.click("thead th:nth-child(2) button")
    assert column(browser, 1) == ["inf", "20.25", "9.75", "3.50", ""]
    browser.click("thead th:nth-child(2) button")
    assert column(browser, 1) == ["3.50", "9.75", "20.25", "inf", ""]
    assert browser.run("document.querySelector('thead th:nth-child(2)').getAttribute('aria-sort')") == "ascending"
    browser.run("document.querySelector('thead th button').focus()")
    browser.press("Enter", "\r")
    assert column(browser) == [f"word {index}" for index in range(5)]


def clip(browser: Browser) -> str:
    return browser.run("document.querySelectorAll('.pane')[1].style.clipPath")


def test_the_line_between_two_pictures_follows_the_mouse_the_slider_and_the_keys(shown):
    browser = shown()
    browser.click(".stage")
    assert clip(browser) == "inset(0px 0px 0px 50%)"
    browser.drag(".stage", (0.5, 0.5), (0.25, 0.5))
    assert clip(browser) == "inset(0px 0px 0px 25%)"
    browser.run("document.querySelector('.stage').focus()")
    browser.press("ArrowRight")
    assert clip(browser) == "inset(0px 0px 0px 27%)"
    browser.run("document.querySelector('.viewer input').focus()")
    browser.press("End")
    assert clip(browser) == "inset(0px 0px 0px 100%)"


def transform(browser: Browser) -> str:
    return browser.run("document.querySelectorAll('.pane img')[1].style.transform")


def test_the_magnification_stays_when_another_picture_is_chosen(shown):
    browser = shown()
    browser.run("document.querySelector('.stage').focus()")
    for _ in range(3):
        browser.press("+", "+")
    browser.press("ArrowDown")
    before = transform(browser)
    assert before.startswith("scale(3.375)")
    one = browser.run("document.querySelectorAll('.pane img')[1].src")
    browser.press("2", "2")
    two = browser.run("document.querySelectorAll('.pane img')[1].src")
    browser.press("n", "n")
    browser.press("e", "e")
    error = browser.run("document.querySelectorAll('.pane img')[1].src")
    assert len({one, two, error}) == 3
    assert "error of word one" in browser.run("document.querySelector('.tag.right').textContent")
    assert browser.run("document.querySelector('.strip [aria-pressed=true]').title") == "word other"
    assert transform(browser) == before
    browser.press("0", "0")
    assert transform(browser).startswith("scale(1)")


def test_a_chart_tells_its_values_and_a_key_of_its_legend_hides_a_curve(shown):
    browser = shown()
    browser.run("document.querySelector('.chart svg').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    assert browser.run("document.querySelector('.reading').textContent") == "10: word 0: 2, word 1: 3"
    browser.click(".keys li:nth-child(2) button")
    assert browser.run("getComputedStyle(document.querySelectorAll('.chart .series')[1]).display") == "none"


def test_the_button_changes_between_the_systems_colours_light_and_dark(shown):
    browser = shown()
    colours = []
    for _ in range(3):
        browser.click(".theme")
        colours.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] == colours[2] != colours[1]  # light, dark, and the system's, which is light here
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert browser.run("getComputedStyle(document.body).backgroundColor") == colours[1]
    browser.send("Emulation.setEmulatedMedia", features=[])


@pytest.mark.parametrize("width", [320, 760, 1600])
def test_nothing_is_wider_than_the_window(shown, width):
    assert shown(width=width).run("document.documentElement.scrollWidth") <= width


def test_in_print_all_pictures_stand_below_each_other_and_everything_is_unfolded(shown):
    browser = shown()
    browser.send("Emulation.setEmulatedMedia", media="print")
    assert browser.run("document.querySelector('.scenes').checkVisibility()")
    assert not browser.run("document.querySelector('.interface').checkVisibility()")
    assert not browser.run("document.querySelector('nav').checkVisibility()")
    browser.send("Emulation.setEmulatedMedia", media="")
    pages = base64.b64decode(browser.send("Page.printToPDF")["data"])
    assert pages.startswith(b"%PDF")
    assert not browser.run("document.querySelector('details').open")


@pytest.mark.parametrize("word", HOSTILE)
def test_a_strangers_words_are_shown_and_not_executed(shown, word):
    browser = shown(word)
    browser.run("document.querySelector('h1').dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))")
    time.sleep(0.05)
    assert browser.run("window.owned") is None
    assert word.replace("\0", "\ufffd").split()[0] in browser.run("document.querySelector('h1').textContent")
    assert browser.run("document.querySelectorAll('script').length") == 1


def test_the_policy_refuses_a_script_that_slipped_through(browser, tmp_path):
    file = tmp_path / "page.html"
    text = render(page()).replace(
        "</main>", "<script>window.owned = 1</script><b onclick='window.owned = 2'>b</b></main>"
    )
    file.write_text(text, encoding="utf-8")
    browser.open(file.as_uri())
    browser.run("document.querySelector('main > b').click()")
    assert browser.run("window.owned") is None
    assert len(browser.complaints()) == 2
