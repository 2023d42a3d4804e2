"""Content pooling natively: plain torch's outputs, whatever the shapes, and no more error against exact attention."""

import pytest
import torch
from torch.testing import assert_close

from nystra import ContentPooling, Softmax, WindowGeometry
from nystra.programs.cpu.library import load
from nystra.programs.operators import plain_torch
from nystra.windows import Cut
from nystra.windows.position_bias import TableBias

pytestmark = pytest.mark.skipif(load() is None, reason="no native programs are built for this processor")


def separate(clusters: int, tokens: int, channels: int, generator: torch.Generator) -> torch.Tensor:
    """Tokens of equal clusters, far from each other, in one window of two heads."""
    centres = 3 * torch.randn(clusters, channels, generator=generator)
    labels = torch.stack([torch.randperm(tokens, generator=generator).remainder(clusters) for _ in range(2)])
    return (centres[labels] + 0.2 * torch.rand(2, tokens, channels, generator=generator))[None]


def clustered(kernel: ContentPooling, tokens: int, channels: int) -> list[torch.Tensor]:
    """Queries of as many clusters as the kernel has blocks, keys and values of as many as it has cells."""
    generator = torch.Generator().manual_seed(channels)
    query = separate(kernel.landmarks, tokens, channels, generator) * channels**-0.5
    pairs = separate(kernel.cells, tokens, 2 * channels, generator)
    return [query, *(part.contiguous() for part in pairs.split(channels, 3))]


def assert_alike(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for single blocks, whose clusters or near cells are decided by rounding."""
    apart = ((actual - expected).abs() > 1e-4 * (1 + expected.abs())).any(-1)
    assert apart.float().mean() < 0.03
    assert (actual - expected).norm() < 0.01 * expected.norm()


def both(kernel: ContentPooling, inputs: list[torch.Tensor], geometry: WindowGeometry) -> list[torch.Tensor]:
    """Outputs of the native program and of plain torch."""
    actual = kernel(*inputs, geometry)
    assert natively(kernel, inputs, geometry) is not None
    with plain_torch():
        return [actual, kernel(*inputs, geometry)]


def natively(kernel: ContentPooling, inputs: list[torch.Tensor], geometry: WindowGeometry) -> torch.Tensor | None:
    """Outputs of the native program, if it takes such inputs; as maps of one window each."""
    maps = [windows.unflatten(2, geometry.window).permute(0, 2, 3, 1, 4) for windows in inputs]
    return kernel.attend_natively(*maps, geometry, Cut(geometry.window, geometry.window))


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
    kernel = ContentPooling(8, 8, 8)
    geometry = WindowGeometry((8, 8), cut.grid, shift=cut.roll)
    maps = list(torch.randn(2, *cut.size, 3, 2, 5, generator=torch.Generator().manual_seed(0)).unbind(3))
    actual = kernel.over_maps(*maps, geometry, cut)
    with plain_torch():
        assert_close(actual, kernel.over_maps(*maps, geometry, cut), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 5, 8, 16, 30, 33])
@pytest.mark.parametrize(
    ("window", "sizes"),
    [((8, 8), (8, 16, 3)), ((16, 16), (16, 32, 3)), ((32, 32), (16, 64, 8)), ((6, 6), (6, 9, 2)), ((9, 5), (1, 3, 1))],
    ids=str,
)
def test_outputs_are_those_of_plain_torch(window, sizes, channels):
    kernel = ContentPooling(*sizes)
    inputs = clustered(kernel, window[0] * window[1], channels)
    assert_alike(*both(kernel, inputs, WindowGeometry(window)))


# Not of one channel: its variance and the value's are the same, and which is taken decides where the larger cells lie.
@pytest.mark.parametrize("channels", [5, 16, 30])
@pytest.mark.parametrize(
    ("window", "sizes"),
    [
        ((6, 6), (16, 12, 5)),
        ((7, 7), (16, 16, 5)),
        ((14, 14), (16, 28, 4)),
        ((13, 13), (5, 32, 0)),
        ((5, 5), (7, 8, 8)),
    ],
    ids=str,
)
def test_blocks_and_cells_may_differ_in_size(window, sizes, channels):
    kernel = ContentPooling(*sizes)
    inputs = clustered(kernel, window[0] * window[1], channels)
    assert_alike(*both(kernel, inputs, WindowGeometry(window)))


@pytest.mark.parametrize("near", [0, 1, 15, 16])
def test_any_number_of_cells_is_attended_exactly(near):
    kernel = ContentPooling(4, 16, near)
    inputs = clustered(kernel, 144, 7)
    actual, expected = both(kernel, inputs, WindowGeometry((12, 12)))
    assert_alike(actual, expected)
    if near == 16:
        assert_close(actual, Softmax()(*inputs, WindowGeometry((12, 12))), rtol=1e-4, atol=1e-5)


def test_more_blocks_than_a_tile_has_lanes():
    kernel = ContentPooling(64, 16, 2)
    assert_alike(*both(kernel, clustered(kernel, 256, 6), WindowGeometry((16, 16))))


@pytest.mark.parametrize("window", [(8, 8), (4, 16)], ids=str)
@pytest.mark.parametrize(
    ("biased", "shift"), [(True, (0, 0)), (True, (2, 3)), (True, (0, 3)), (False, (2, 3))], ids=str
)
def test_bias_and_masks_enter_in_windows_of_all_kinds(biased, shift, window):
    generator = torch.Generator().manual_seed(0)
    offsets = torch.randn((2 * window[0] - 1) * (2 * window[1] - 1), 2, generator=generator)
    geometry = WindowGeometry(window, grid=(2, 3), shift=shift, bias=TableBias(offsets, window) if biased else None)
    inputs = list(torch.randn(3, 12, 2, 64, 5, generator=generator))
    with torch.no_grad():
        softmax = Softmax()(*inputs, geometry)
        # Everything near: exact attention, whatever the rank of the bias in summaries.
        assert_close(both(ContentPooling(4, 8, 8, bias_rank=1), inputs, geometry)[0], softmax, rtol=1e-3, atol=1e-3)
        actual, expected = both(ContentPooling(4, 8, 3), inputs, geometry)
    if shift == (0, 0):
        assert_alike(actual, expected)
    # Masks are large beside content, so that rounding decides more of the clusters.
    assert (actual - softmax).norm() < 1.1 * (expected - softmax).norm()


@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_errors_are_those_of_plain_torch(spread):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(24, (4, 2, 256), generator=generator)
    inputs = [
        torch.randn(24, 8, generator=generator)[labels] + spread * torch.randn(4, 2, 256, 8, generator=generator)
        for _ in range(3)
    ]
    geometry = WindowGeometry((16, 16))
    exact = Softmax()(*inputs, geometry)
    actual, expected = ((outputs - exact).norm() for outputs in both(ContentPooling(), inputs, geometry))
    assert actual <= 1.02 * expected


def test_clusters_that_are_apart_are_found():
    # Without near cells, outputs are exact only where each cell holds one value.
    generator = torch.Generator().manual_seed(0)
    kernel = ContentPooling(16, 32, 0)
    centres = 3 * torch.randn(32, 16, generator=generator)
    pairs = centres[torch.randperm(256, generator=generator).remainder(32)].expand(1, 1, -1, -1)
    inputs = [torch.randn(1, 1, 256, 8, generator=generator), *(part.contiguous() for part in pairs.split(8, 3))]
    geometry = WindowGeometry((16, 16))
    assert_close(both(kernel, inputs, geometry)[0], Softmax()(*inputs, geometry), rtol=1e-3, atol=1e-3)


def test_halves_are_widened():
    kernel = ContentPooling(8, 16, 3)
    inputs = [tensor.bfloat16() for tensor in clustered(kernel, 256, 9)]
    geometry = WindowGeometry((16, 16))
    actual = kernel(*inputs, geometry)
    assert actual.dtype == torch.bfloat16
    expected = kernel(*(tensor.float() for tensor in inputs), geometry)
    assert_close(actual, expected.bfloat16(), rtol=0, atol=0)


def test_windows_are_independent_whatever_their_strides_and_the_threads():
    kernel, geometry = ContentPooling(16, 32, 3), WindowGeometry((16, 16))
    tokens = torch.randn(5, 256, 3, 2, 6, generator=torch.Generator().manual_seed(0))
    inputs = list(tokens.permute(2, 0, 3, 1, 4))
    expected = torch.cat([kernel(*(part[i : i + 1].contiguous() for part in inputs), geometry) for i in range(5)])
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            assert torch.equal(kernel(*inputs, geometry), expected)
            assert torch.equal(kernel(*(part.flip(3).flip(3) for part in inputs), geometry), expected)
    finally:
        torch.set_num_threads(threads)


def test_equal_tokens_are_grouped_all_the_same():
    kernel, geometry = ContentPooling(8, 16, 3), WindowGeometry((16, 16))
    inputs = [torch.full((1, 1, 256, 5), 0.7) for _ in range(3)]
    assert_close(kernel(*inputs, geometry), inputs[2])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_what_is_no_number_stays_in_its_window(part, value):
    kernel, geometry = ContentPooling(16, 32, 3), WindowGeometry((16, 16))
    inputs = list(torch.randn(3, 2, 2, 256, 5, generator=torch.Generator().manual_seed(0)))
    expected = kernel(*inputs, geometry)
    inputs[part] = inputs[part].clone()
    inputs[part][0, 0, 17, 2] = value
    actual = kernel(*inputs, geometry)
    assert torch.equal(actual[1], expected[1])
    assert torch.equal(actual[0, 1], expected[0, 1])
    if value != value:
        assert actual[0, 0, 17, 2].isnan()
        if part:
            with plain_torch():
                reference = kernel(*inputs, geometry)
            assert torch.equal(actual.isnan(), reference.isnan())
    # Nor do all of them go astray.
    inputs[part] = torch.full_like(inputs[part], value)
    assert kernel(*inputs, geometry).shape == expected.shape


def test_gradients_are_those_of_plain_torch():
    kernel, geometry = ContentPooling(8, 16, 3), WindowGeometry((16, 16))
    inputs = [tensor.requires_grad_() for tensor in clustered(kernel, 256, 5)]
    assert natively(kernel, inputs, geometry) is None
    kernel(*inputs, geometry).sum().backward()
    assert all(tensor.grad is not None for tensor in inputs)
