"""Native programs read windows from maps where they lie: rolled, reflected and strided, as if they had been cut out."""

import math

import pytest
import torch
from torch.testing import assert_close

from nystra import ContentPooling, LandmarkPooling, Softmax, WindowGeometry
from nystra.programs.cpu.library import load
from nystra.programs.operators import plain_torch
from nystra.windows import Cut
from nystra.windows.position_bias import TableBias

pytestmark = pytest.mark.skipif(load() is None, reason="there are no native programs here")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "cut",
    [
        Cut((16, 24), (8, 8)),
        Cut((16, 24), (8, 8), roll=(4, 4)),
        Cut((14, 21), (7, 7), roll=(3, 0)),
        Cut((13, 19), (8, 8), margins=(4, 7, 4, 1)),
        # Whole rows and halves of rows of windows are not in the map.
        Cut((20, 13), (16, 16), margins=(8, 4, 8, 11)),
        Cut((10, 9), (7, 7), margins=(2, 2, 3, 2)),
        Cut((8, 16), (8, 16)),
        # Over frames.
        Cut((2, 16, 24), (2, 8, 8), roll=(0, 4, 4)),
        Cut((6, 14, 21), (3, 7, 7), roll=(0, 3, 0)),
        Cut((4, 8, 16), (1, 8, 8)),
        Cut((2, 8, 16), (2, 4, 16)),
    ],
    ids=str,
)
def test_maps_are_attended_as_their_windows(cut, dtype):
    generator = torch.Generator().manual_seed(0)
    heads, channels = 3, 10
    maps = torch.randn(2, *cut.size, 3, heads, channels, generator=generator).to(dtype)
    table = torch.randn(math.prod(2 * side - 1 for side in cut.window), heads, generator=generator)
    geometry = WindowGeometry(cut.window, cut.grid, cut.roll, TableBias(table, cut.window))
    with torch.inference_mode():
        inputs = maps.unbind(-3)
        assert Softmax().reads_maps(inputs[0])
        result = Softmax().over_maps(*inputs, geometry, cut)
        with plain_torch():
            expected = Softmax().over_maps(*(part.float() for part in inputs), geometry, cut)
    assert result.shape == expected.shape
    assert result.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert_close(result.float(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(
    "kernel", [Softmax(), LandmarkPooling(), LandmarkPooling(4, 32, "block"), ContentPooling(16, 16, 3)], ids=str
)
@pytest.mark.parametrize(
    "cut", [Cut((2, 16, 8), (2, 8, 8), roll=(0, 4, 4)), Cut((4, 8, 8), (2, 4, 8)), Cut((4, 6, 6), (2, 6, 6), (1, 0, 3))]
)
def test_films_are_attended_as_by_plain_torch(kernel, cut, biased):
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(2, *cut.size, 3, 2, 8, generator=generator).unbind(-3)
    table = torch.randn(math.prod(2 * side - 1 for side in cut.window), 2, generator=generator)
    bias = TableBias(table, cut.window) if biased else None
    geometry = WindowGeometry(cut.window, cut.grid, cut.roll, bias)
    with torch.inference_mode():
        result = kernel.over_maps(query, key, value, geometry, cut)
        apart = kernel(*(cut.windows(maps).transpose(1, 2) for maps in (query, key, value)), geometry)
        with plain_torch():
            expected = kernel.over_maps(query, key, value, geometry, cut)
    for attended in (result, cut.join(apart.transpose(1, 2))):
        assert_close(attended, expected, rtol=1e-4, atol=1e-5)


def test_a_subclass_that_attends_in_its_own_way_does():
    class Values(Softmax):
        def attend(self, query, key, value, tables):
            return value

    query, key, value = torch.rand(3, 2, 1, 16, 4)
    with torch.inference_mode():
        assert torch.equal(Values()(query, key, value, WindowGeometry((4, 4))), value)
        maps = [part.transpose(1, 2).unflatten(1, (4, 4)) for part in (query, key, value)]
        assert torch.equal(Values().over_maps(*maps, WindowGeometry((4, 4)), Cut((4, 4), (4, 4))), maps[2])


@pytest.mark.parametrize(
    "kernel", [Softmax(), ContentPooling(7, 7, 7, bias_rank=49), LandmarkPooling(1, 49, "block")], ids=str
)
def test_tables_that_are_kept_are_of_as_many_kinds_as_the_maps_have(kernel):
    """A shifted map of one window has one kind of them, a larger map four."""
    generator = torch.Generator().manual_seed(0)
    bias, tables = TableBias(torch.randn(13**2, 2, generator=generator), (7, 7)), {}
    with torch.inference_mode():
        for side in (7, 14, 7):
            cut = Cut((side, side), (7, 7), roll=(3, 3))
            maps = torch.randn(3, 1, side, side, 2, 6, generator=generator)
            result = kernel.over_maps(*maps, WindowGeometry(cut.window, cut.grid, cut.roll, bias, tables), cut)
            with plain_torch():
                expected = Softmax().over_maps(*maps, WindowGeometry(cut.window, cut.grid, cut.roll, bias), cut)
            assert_close(result, expected, rtol=1e-4, atol=1e-4)


def test_maps_of_a_kernel_without_a_program_are_cut_before():
    class Values(Softmax):
        def attend(self, query, key, value, tables):
            return value

    with torch.inference_mode():
        assert Softmax().reads_maps(torch.rand(1, 4, 4, 8))
        assert not Values().reads_maps(torch.rand(1, 4, 4, 8))


# Torch's own rules for derivatives forwards.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kernel", [ContentPooling(2, 4, 1), LandmarkPooling(4, 4)], ids=str)
def test_derivatives_forwards_are_plain_torchs(kernel):
    geometry = WindowGeometry((4, 4))
    query, key, value = torch.randn(3, 1, 2, 16, 3, generator=torch.Generator().manual_seed(0))

    def derivative() -> torch.Tensor:
        return torch.func.jvp(lambda tokens: kernel(query, key, tokens, geometry), (value,), (query,))[1]

    with plain_torch():
        expected = derivative()
    assert expected.any()
    assert torch.equal(derivative(), expected)
