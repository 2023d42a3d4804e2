"""A simulated snapshot camera."""

import pytest
import torch
from torch.testing import assert_close

from datamodules.cassi import initial_estimate, measure
from datamodules.spectral.camera import Camera


@pytest.mark.parametrize(
    ("net_input", "shape"), [("estimate", (6, 8, 8)), ("masked_estimate", (6, 8, 8)), ("measurement", (8, 18))]
)
def test_a_net_is_given_what_it_asks_for(net_input, shape):
    mask, cube = torch.rand(10, 12).round(), torch.rand(6, 8, 8)
    seen = Camera(mask, 6, 2, net_input, "plain").see(cube)
    assert seen["input"].shape == shape
    if net_input == "masked_estimate":
        assert_close(seen["input"], initial_estimate(measure(cube, mask[:8, :8]), 6) * mask[:8, :8])
    assert torch.equal(seen["mask"], mask[:8, :8].expand(6, 8, 8))
    assert "mask" not in Camera(mask, 6, 2, net_input, "none").see(cube)
