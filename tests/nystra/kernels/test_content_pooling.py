"""Content pooling: a position bias of any rank, and clusters where content is strewn over the window."""

import pytest
import torch
from torch.testing import assert_close

from nystra import ContentPooling, LandmarkPooling, Softmax, WindowGeometry
from nystra.windows.position_bias import TableBias
from tests.nystra.kernels.scenes import CHANNELS, HEADS, Scene


@pytest.mark.parametrize("table", ["none", "rows", "one head"])
def test_content_pooling_takes_a_bias_of_any_rank(table):
    scene = Scene(biased=True)
    bias = torch.zeros(225, HEADS)
    if table == "rows":
        bias += torch.arange(15.0).repeat_interleave(15).unsqueeze(1) / 15
    elif table == "one head":
        bias[:, 0] = torch.randn(225, generator=torch.Generator().manual_seed(0))
    inputs = scene.tokens(torch.float32)
    geometry = WindowGeometry(scene.window, scene.grid, bias=TableBias(bias, scene.window))
    exact = Softmax()(*inputs, geometry)
    # Everything near: only the rank of the bias is left to differ by, 64 for one of noise.
    assert_close(ContentPooling(4, 4, 4, bias_rank=64)(*inputs, geometry), exact, rtol=1e-4, atol=1e-4)
    assert ContentPooling(4, 4, 1, bias_rank=8)(*inputs, geometry).isfinite().all()


def test_content_pooling_follows_content_where_there_is_no_bias():
    """Tokens of few kinds, strewn over the window: clusters find them, cells by position cannot."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(16, (1, 1, 256), generator=generator)
    query, key, value = (
        torch.randn(16, CHANNELS, generator=generator)[kinds]
        + 0.1 * torch.randn(1, 1, 256, CHANNELS, generator=generator)
        for _ in range(3)
    )
    geometry = WindowGeometry((16, 16))
    exact = Softmax()(query, key, value, geometry)
    errors = [
        (kernel(query, key, value, geometry) - exact).norm() / exact.norm()
        for kernel in (ContentPooling(16, 16, 2), LandmarkPooling(16, 16, "cross"))
    ]
    assert errors[0] < 0.3 * errors[1]
