"""Landmark-centred pooling natively: plain torch's outputs in float64, whatever the shapes, windows and values."""

import pytest
import torch
from torch.testing import assert_close

from nystra import LandmarkPooling, WindowGeometry
from nystra.programs.cpu.library import load
from nystra.programs.operators import plain_torch
from nystra.windows import Cut
from nystra.windows.position_bias import LogOffsetBias, TableBias

pytestmark = pytest.mark.skipif(load() is None, reason="no native programs are built for this processor")

NEAR = ("none", "own", "cross", "block")
HEADS = 2


def tokens(windows: int, window: tuple[int, int], channels: int) -> list[torch.Tensor]:
    """Queries, keys and values, views of one tensor as hosts make them."""
    generator = torch.Generator().manual_seed(channels)
    together = torch.randn(windows, window[0] * window[1], 3, HEADS, channels, generator=generator)
    return list(together.permute(2, 0, 3, 1, 4).unbind(0))


def table(window: tuple[int, int]) -> TableBias:
    generator = torch.Generator().manual_seed(0)
    return TableBias(torch.randn((2 * window[0] - 1) * (2 * window[1] - 1), HEADS, generator=generator), window)


def natively(kernel: LandmarkPooling, inputs: list[torch.Tensor], geometry: WindowGeometry) -> torch.Tensor:
    """Outputs of the native program, which must take such inputs."""
    maps = [windows.unflatten(2, geometry.window).permute(0, 2, 3, 1, 4) for windows in inputs]
    with torch.inference_mode():
        outputs = kernel.attend_natively(*maps, geometry, Cut(geometry.window, geometry.window))
    assert outputs is not None
    return outputs.flatten(1, 2).transpose(1, 2)


def plainly(kernel: LandmarkPooling, inputs: list[torch.Tensor], geometry: WindowGeometry) -> torch.Tensor:
    with plain_torch(), torch.inference_mode():
        return kernel(*(part.double() for part in inputs), geometry)


@pytest.mark.parametrize("near", NEAR)
@pytest.mark.parametrize(
    ("window", "landmarks", "cells"),
    [
        ((8, 8), 1, 4),
        ((8, 8), 4, 16),
        ((8, 8), 16, 64),
        ((7, 7), 1, 49),
        ((6, 12), 6, 18),
        ((12, 12), 4, 16),
        ((16, 16), 16, 16),
        ((16, 16), 16, 64),
        # Blocks and cells of several sizes.
        ((6, 6), 16, 16),
        ((7, 7), 4, 16),
        ((7, 7), 16, 64),
        ((5, 5), 16, 16),
        ((13, 14), 16, 64),
        ((1, 53), 16, 16),
    ],
)
def test_outputs_are_plain_torchs(window, landmarks, cells, near):
    kernel = LandmarkPooling(landmarks, cells, near)
    for channels, bias in ((1, None), (5, table(window)), (8, None), (16, table(window)), (30, None), (33, None)):
        geometry = WindowGeometry(window, bias=bias)
        inputs = tokens(2, window, channels)
        actual = natively(kernel, inputs, geometry)
        assert_close(actual.double(), plainly(kernel, inputs, geometry), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("near", NEAR)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("grid", "shift"), [((2, 2), (4, 3)), ((1, 2), (0, 4)), ((1, 1), (4, 4))])
@pytest.mark.parametrize("window", [(8, 8), (7, 6)])
def test_windows_of_all_kinds(window, grid, shift, biased, near):
    kernel = LandmarkPooling(4, 16, near)
    geometry = WindowGeometry(window, grid, shift, table(window) if biased else None)
    inputs = tokens(2 * grid[0] * grid[1], window, 6)
    actual = natively(kernel, inputs, geometry)
    assert_close(actual.double(), plainly(kernel, inputs, geometry), rtol=1e-4, atol=1e-4)


def test_bias_of_a_network():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, HEADS)).requires_grad_(
        False
    )
    geometry = WindowGeometry((8, 8), bias=LogOffsetBias(network))
    inputs = tokens(2, (8, 8), 7)
    kernel = LandmarkPooling(4, 16)
    assert_close(natively(kernel, inputs, geometry).double(), plainly(kernel, inputs, geometry), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "cut",
    [
        Cut((16, 24), (8, 8), roll=(3, 4)),
        Cut((14, 21), (8, 8), margins=(0, 2, 1, 2)),
        # Of some blocks no query is in the map.
        Cut((13, 9), (8, 8), margins=(7, 4, 8, 7)),
    ],
    ids=str,
)
def test_maps_are_read_and_written_in_place(cut):
    """Rolled, in windows of all kinds, or extended by reflection."""
    kernel = LandmarkPooling(4, 16)
    geometry = WindowGeometry((8, 8), cut.grid, cut.roll, table((8, 8)))
    maps = list(torch.randn(2, *cut.size, 3, HEADS, 5, generator=torch.Generator().manual_seed(0)).unbind(3))
    with torch.inference_mode():
        actual = kernel.over_maps(*maps, geometry, cut)
        with plain_torch():
            expected = kernel.over_maps(*maps, geometry, cut)
    assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_half_precision():
    kernel = LandmarkPooling(4, 16)
    geometry = WindowGeometry((8, 8), bias=table((8, 8)))
    for channels in (5, 24):
        inputs = [part.bfloat16() for part in tokens(2, (8, 8), channels)]
        actual = natively(kernel, inputs, geometry)
        assert actual.dtype == torch.bfloat16
        assert_close(actual.double(), plainly(kernel, inputs, geometry), rtol=2e-2, atol=2e-2)


def test_gradients_are_plain_torchs():
    bias = table((8, 8))
    inputs = tokens(2, (8, 8), 6)
    bias.table.requires_grad_(True)
    LandmarkPooling(4, 16)(*inputs, WindowGeometry((8, 8), bias=bias)).sum().backward()
    assert bias.table.grad is not None


@pytest.mark.parametrize("near", NEAR)
@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_numbers_that_are_not_finite_stay_where_they_are_in_plain_torch(part, number, near):
    kernel = LandmarkPooling(4, 4, near)
    geometry = WindowGeometry((8, 8))
    inputs = tokens(2, (8, 8), 6)
    inputs[part] = inputs[part].clone()
    inputs[part][0, 1, 9] = number
    actual, expected = natively(kernel, inputs, geometry).double(), plainly(kernel, inputs, geometry)
    assert torch.equal(actual.isfinite(), expected.isfinite())
    finite = expected.isfinite()
    assert finite[1].all()
    assert_close(actual[finite], expected[finite], rtol=1e-4, atol=1e-4)


def test_outputs_depend_neither_on_threads_nor_on_the_batch():
    kernel = LandmarkPooling(16, 64)
    geometry = WindowGeometry((16, 16), bias=table((16, 16)))
    inputs = tokens(3, (16, 16), 9)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = natively(kernel, inputs, geometry)
        torch.set_num_threads(2)
        assert torch.equal(natively(kernel, inputs, geometry), expected)
        assert torch.equal(natively(kernel, [part[1:2] for part in inputs], geometry), expected[1:2])
    finally:
        torch.set_num_threads(before)
