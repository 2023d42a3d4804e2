"""Curves of runs, with a band over those of one group."""

import pytest

from trainers.figures.curves import draw_curves


def test_runs_of_a_group_are_their_mean_with_a_band():
    seeds = {"0": [(0, 10.0), (10, 20.0)], "1": [(0, 20.0), (5, 25.0), (10, 30.0), (20, 40.0)]}
    drawing = draw_curves({"seeds": seeds, "one": {"2": [(0, 1.0), (20, 2.0)]}, "none": {"3": []}}, tag="val/psnr")
    (axes,) = drawing.figure.axes
    group, single = axes.lines
    # Where one run has ended, the other goes on alone.
    assert group.get_xydata().tolist() == [[0, 15], [5, 20], [10, 25], [20, 40]]
    assert single.get_xydata().tolist() == [[0, 1], [20, 2]]
    assert len(axes.collections) == 1
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["seeds, 2 runs", "one"]
    assert len(drawing.rows) == 8
    assert drawing.rows[0] == {"group": "seeds", "run": "0", "step": 0, "val/psnr": 10.0}


def test_runs_without_values_are_refused():
    with pytest.raises(ValueError, match="values of val/psnr, got none in a"):
        draw_curves({"a": {"0": []}}, tag="val/psnr")
