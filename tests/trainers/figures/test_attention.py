"""Where a query looks."""

import pytest
import torch

from trainers.figures.attention import draw_attention


def test_every_head_has_its_kernels_and_their_differences():
    exact = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    other = exact.clone()
    other[1, 0, 0] += 0.25
    drawing = draw_attention(torch.rand(3, 8, 8), (1, 2), exact, {"same": exact, "other": other}, title="a window")
    apart = {(row["head"], row["kernel"]): row["sum of |difference|"] for row in drawing.rows}
    assert apart == {(1, "same"): 0, (1, "other"): 0, (2, "same"): 0, (2, "other"): pytest.approx(0.25)}
    titles = [axes.get_title() for axes in drawing.figure.axes if axes.get_title()]
    assert titles == ["window, head 1", "exact", "same", "other", "window, head 2", "exact", "same", "other"]
    # The query is marked on its two by two pixels.
    assert drawing.figure.axes[0].lines[0].get_xydata().tolist() == [[4.5, 2.5]]


def test_chosen_heads_are_drawn():
    exact = torch.rand(3, 4, 4)
    drawing = draw_attention(torch.rand(3, 4, 4), (0, 0), exact, {"same": exact}, heads=[3])
    assert [row["head"] for row in drawing.rows] == [3]
