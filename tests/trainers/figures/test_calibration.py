"""Calibration vectors by input."""

import pytest
import torch

from trainers.figures.calibration import draw_calibration


def test_channels_are_sorted_and_how_far_images_are_apart_is_told():
    weights = torch.tensor([[0.5, -0.5, 0.75], [0.25, -0.5, 0.75]])
    drawing = draw_calibration({"a": weights, "b": weights[:, :2]}, ["one", "two"], title="a network")
    first, second, _ = drawing.figure.axes
    assert first.images[0].get_array().tolist() == [[0.75, 0.5, -0.5], [0.75, 0.25, -0.5]]
    assert first.get_title(loc="left") == "a, 3 channels, images apart by 0.042"
    assert second.get_title(loc="left").startswith("b, 2 channels")
    assert [row["weight"] for row in drawing.rows[:3]] == pytest.approx([0.5, -0.5, 0.75])
    assert drawing.rows[-1] == {"block": "b", "image": "two", "channel": 1, "weight": -0.5}
