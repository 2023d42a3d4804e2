"""The figure of spectra."""

import pytest
import torch

from trainers.figures.spectrum import draw_spectra

ENERGIES = {"one": torch.tensor([0.5, 0.9, 0.96, 1.0]), "two": torch.tensor([1.0, 1.0])}


@pytest.mark.parametrize("values", [None, {"one": torch.tensor([1.0, 0.5, 0.1, 0.0]), "two": torch.ones(2)}])
def test_every_point_of_the_curves_is_drawn_and_kept(values):
    drawing = draw_spectra(ENERGIES, values, title="a net")
    first, *_, ranks = drawing.figure.axes
    assert len(drawing.figure.axes) == (2 if values is None else 3)
    assert [list(line.get_xdata()) for line in first.lines] == [[0.25, 0.5, 0.75, 1.0], [0.5, 1.0]]
    # Of four values, two hold 90 % and three 95 %.
    assert [list(line.get_ydata()) for line in ranks.lines] == [[0.5, 0.5], [0.75, 0.5], [1.0, 0.5]]
    assert [row["energy"] for row in drawing.rows] == pytest.approx([0.5, 0.9, 0.96, 1, 1, 1])
    assert ("singular value" in drawing.rows[0]) is (values is not None)
