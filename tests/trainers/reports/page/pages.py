"""A page with one of everything, and what is in it, made with given words."""

import numpy as np

from trainers.reports.page.content import (
    Chart,
    Charts,
    Commands,
    Facts,
    Folded,
    Layer,
    Notice,
    Page,
    Scene,
    Section,
    Series,
    Table,
    Text,
    Tile,
    Tiles,
    Viewer,
)
from trainers.reports.tables import Column


def picture(level: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """Stripes of which the first is brighter."""
    pixels = np.full((*size, 3), level, np.uint8)
    pixels[:, :10] = 255
    return pixels


def page(word: str = "word") -> Page:
    """A page of which every text is a word."""
    numbers = (3.5, 20.25, None, float("inf"), 9.75)
    rows = [{"name": f"{word} {index}", "value": number} for index, number in enumerate(numbers)]
    layers = [Layer(f"{word} input", picture(10), "input"), Layer(f"{word} one", picture(90))]
    layers += [Layer(f"{word} two", picture(100)), Layer(f"{word} target", picture(110), "target")]
    scenes = [Scene(f"{word} scene", layers), Scene(f"{word} other", layers)]
    curves = [Series(f"{word} {index}", [(0, 1.0), (10, 2.0 + index), (20, float("nan"))], index) for index in (0, 1)]
    points = [Series(f"{word} {index}", [(1.0 + index, 30.0 + index)], index) for index in (0, 1)]
    blocks = [
        Tiles([Tile(word, word, word)]),
        Facts({word: word}, word),
        Notice(word),
        Table(word, (Column(word, "name"), Column(word, "value", ".2f")), rows, [word], word),
        Charts([Chart(word, word, curves)], word, [(f"{word} 0", 0), (f"{word} 1", 1)], [word]),
        Charts([Chart(word, word, points, log_x=True, front=[(1.0, 30.0), (2.0, 31.0)])]),
        Viewer(word, scenes, [word]),
        Commands({word: word}),
        Folded(word, [Text([word, word], word)]),
    ]
    return Page(word, word, [Section(word, blocks), Section("last", [Notice(word)])], word, word, "/")
