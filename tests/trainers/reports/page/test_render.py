"""The page as text: it stands alone, holds what it should, and nothing in it is markup that came from outside."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.trainers.reports.page.pages import page, picture
from trainers.reports.page.content import Layer, Page, Scene, Section, Viewer
from trainers.reports.page.images import fit
from trainers.reports.page.render import LARGEST_PAGE, render, sortable

HOSTILE = (
    "<script>window.owned = 1</script>",
    "</script><script>window.owned = 1</script>",
    "</style><script>window.owned = 1</script>",
    '"><img src=x onerror="window.owned = 1">',
    "' onmouseover='window.owned = 1' x='",
    "javascript:window.owned=1",
    "{{ 7 * 191 }}{% raw %}",
    "--><svg onload=window.owned=1>",
    "$\\evil{$ & 100 % \u202e\u0000",
)


class Elements(HTMLParser):
    """Counts elements, and gathers what could be executed or fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]


@pytest.mark.parametrize("word", HOSTILE)
def test_no_word_becomes_markup(word):
    plain, hostile = Elements(render(page())), Elements(render(page(word)))
    assert hostile.tags == plain.tags
    assert hostile.handlers == []
    assert all(address.startswith(("#", "/", "data:image/")) for address in hostile.addresses)
    assert "1337" not in re.sub('base64,[^"]*', "", render(page(word)))


def test_nothing_is_fetched_and_only_its_own_script_may_run():
    text = render(page())
    found = Elements(text)
    assert all(address.startswith(("#", "/", "data:image/")) for address in found.addresses)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", re.sub('base64,[^"]*', "", text))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src &#39;none&#39;")
    assert "unsafe" not in policy
    assert "connect-src" not in policy
    assert "connect-src &#39;self&#39;" in render(page(), live=True)


def noise(size: tuple[int, int]) -> np.ndarray:
    """What no compression makes small."""
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def test_a_page_of_large_pictures_stays_within_its_limit(monkeypatch):
    monkeypatch.setattr("trainers.reports.page.render.LARGEST_PAGE", 800_000)
    layers = [Layer("a", noise((150, 200)), "input"), Layer("b", noise((150, 200)), "target")]
    text = render(Page("t", "", [Section("s", [Viewer("v", [Scene(str(index), layers) for index in range(8)])])]))
    assert len(text.encode()) < 800_000 < LARGEST_PAGE
    assert text.count("<h4>") == 8
    assert "compressed" in text


def test_pictures_that_do_not_fit_at_all_are_counted():
    gallery = fit([Scene(str(index), [Layer("a", noise((80, 100)))]) for index in range(5)], 25_000)
    assert 0 < len(gallery.scenes) < 5
    assert gallery.left_out == 5 - len(gallery.scenes)


def test_small_pictures_are_kept_as_they_are_with_their_psnr_to_the_target():
    gallery = fit([Scene("s", [Layer("a", picture(100)), Layer("t", picture(110), "target")])], 10**6)
    first, target = gallery.scenes[0].layers
    assert gallery.loss == ""
    assert first.source.startswith("data:image/png;base64,")
    assert first.error
    assert not target.error
    error = np.full((40, 60), 10.0)
    error[:, :10] = 0
    assert first.decibels == f"{10 * np.log10(255**2 / np.square(error).mean()):.2f} dB"


@pytest.mark.parametrize(
    ("value", "key"),
    [(3, "3.0"), (float("inf"), "Infinity"), (float("-inf"), "-Infinity"), (float("nan"), ""), ("x", ""), (True, "")],
)
def test_cells_are_sorted_by_what_javascript_reads_as_a_number(value, key):
    assert sortable(value) == key
