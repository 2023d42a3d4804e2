"""A page written as HTML: everything escaped, and no script but its own, whatever names and values hold."""

import base64
import functools
import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trainers.reports.page.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, plot
from trainers.reports.page.content import Block, Folded, Page, Viewer
from trainers.reports.page.images import Gallery, fit

LARGEST_PAGE = 5 * 10**6
"""Bytes that a page may have."""
_FOLDER = Path(__file__).parent
_RESERVE = 200_000
"""Bytes kept for what is written around the pictures."""


def render(page: Page, *, live: bool = False) -> str:
    """Write a page.

    Nothing of it is fetched from elsewhere: style, script and pictures are in it. A policy in its head allows nothing
    else, so that a name that should have slipped through unescaped would not be executed either.

    Args:
        page: what it shows.
        live: whether a server shows it, which the page asks from time to time whether something has changed.

    Returns:
        HTML of at most `LARGEST_PAGE` bytes in UTF-8, if there are not millions of rows.
    """
    viewers = list(_viewers([block for section in page.sections for block in section.blocks]))
    text = _write(page, dict.fromkeys(map(id, viewers), Gallery([], 0, "")), live)
    left = LARGEST_PAGE - len(text.encode()) - _RESERVE
    galleries = {}
    for index, viewer in enumerate(viewers):
        # What the first ones leave is for the next ones.
        galleries[id(viewer)] = gallery = fit(viewer.scenes, max(0, left) // (len(viewers) - index))
        left -= sum(len(layer.source) + len(layer.error) for scene in gallery.scenes for layer in scene.layers)
    return _write(page, galleries, live) if viewers else text


def _write(page: Page, galleries: dict[int, Gallery], live: bool) -> str:
    style, script = (_source(name) for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        f"base-uri 'none'; form-action 'none'{'; connect-src ' + repr('self') if live else ''}"
    )
    drawing = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            page=page,
            live=live,
            policy=policy,
            style=Markup(style),  # of this package
            script=Markup(script),
            drawing=drawing,
            gallery=lambda viewer: galleries[id(viewer)],
        )
    )


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plot": plot, "slug": slug, "sortable": sortable}
    return environment


def slug(title: str) -> str:
    """Make a section's anchor out of its title: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def sortable(value: Any) -> str:
    """Write what a cell is sorted by: a number, or nothing for text and empty cells."""
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        return ""
    return repr(float(value)).replace("inf", "Infinity")


def _source(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def _viewers(blocks: Sequence[Block]) -> Iterator[Viewer]:
    for block in blocks:
        if isinstance(block, Viewer):
            yield block
        elif isinstance(block, Folded):
            yield from _viewers(block.blocks)
