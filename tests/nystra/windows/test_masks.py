"""What the border of a shifted window keeps apart stays apart, wherever the cells of a kernel lie."""

import math

import pytest
import torch

from nystra import ContentPooling, Kernel, LandmarkPooling, Nystrom, Softmax
from nystra.windows.geometry import WindowGeometry
from nystra.windows.position_bias import TableBias

HEADS, CHANNELS = 2, 4
NEAR = ("none", "own", "cross", "block")


def leaked(kernel: Kernel, window: tuple[int, ...], shift: tuple[int, ...]) -> float:
    """Largest weight that a token of the last window gives to tokens that are masked from it, any shifted axis."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(math.prod(2 * side - 1 for side in window), HEADS, generator=generator)
    geometry = WindowGeometry(window, (), shift, TableBias(table, window))
    query, key = torch.randn(2, 1, HEADS, math.prod(window), CHANNELS, generator=generator)
    region = torch.zeros(1, dtype=torch.long)
    for side, step in zip(window, shift, strict=True):
        region = (2 * region.unsqueeze(1) + (torch.arange(side) >= side - step)).flatten()
    # Values mark the region that they are of: the output holds the weights of each.
    value = torch.nn.functional.one_hot(region).float().expand(1, HEADS, -1, -1)
    weights = kernel(query, key, value, geometry)
    return float((weights * (1 - value)).abs().max())


@pytest.mark.parametrize("kernel", [Softmax(), *(LandmarkPooling(9, 9, near) for near in ("none", "own", "cross"))])
def test_a_border_may_cut_cells(kernel):
    # Three cells a side, the border through the middle ones.
    assert leaked(kernel, (12, 12), (6, 6)) < 1e-6


@pytest.mark.parametrize(
    "kernel",
    [
        LandmarkPooling(1, 1, "none"),
        LandmarkPooling(1, 4, "own"),
        LandmarkPooling(4, 4, "block"),
        LandmarkPooling(4, 36, "cross"),
        LandmarkPooling(9, 36, "own"),
        ContentPooling(16, 16, 2),
        Nystrom(9, 9),
    ],
)
def test_a_border_may_lie_a_third_from_the_edge(kernel):
    assert leaked(kernel, (12, 12), (4, 4)) < 1e-6


@pytest.mark.parametrize("kernel", [Nystrom(4, 4), Nystrom(16, 16), ContentPooling(4, 4, 2), LandmarkPooling()])
def test_a_border_between_cells_is_kept_by_all(kernel):
    assert leaked(kernel, (12, 12), (6, 6)) < 1e-6


@pytest.mark.parametrize(
    "kernel", [Softmax(), ContentPooling(8, 8, 2), Nystrom(64, 64), *(LandmarkPooling(8, 16, near) for near in NEAR)]
)
@pytest.mark.parametrize("shift", [(1, 2, 2), (0, 2, 2), (2, 0, 0)])
def test_frames_of_the_other_end_of_a_film_are_kept_apart(kernel, shift):
    assert leaked(kernel, (4, 4, 4), shift) < 1e-6
