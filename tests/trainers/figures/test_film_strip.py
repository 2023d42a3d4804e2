"""The film strips of a comparison."""

import torch

from trainers.figures.sheets.crops import INPUT, TARGET, Scene
from trainers.figures.sheets.film_strip import draw_strips


def test_every_version_of_every_clip_has_a_row():
    clip = torch.rand(3, 3, 24, 32)
    versions = {INPUT: torch.rand(3, 4, 6, 8), "released": clip, "kernel 1": clip / 2, TARGET: clip}
    drawing = draw_strips([Scene("a", versions), Scene("b", versions)])
    labels = [axes.get_ylabel() for axes in drawing.figure.axes if axes.get_ylabel()]
    assert labels == 2 * ["input", "released", "kernel 1", "target"]
    flickers = {(row["clip"], row["version"]): row["flicker"] for row in drawing.rows}
    assert flickers["a", "released"] == 0 < flickers["b", "kernel 1"]
