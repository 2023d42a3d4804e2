"""Random inputs and weights, the same at every run, and what float64 results are held to."""

from functools import partial

import torch
from torch.testing import assert_close

exactly = partial(assert_close, rtol=1e-10, atol=1e-12)


def inputs(shapes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(shape, generator=generator).to(dtype) for shape in shapes]


def randomise(net):
    """Give every parameter values that matter: norms, scales and biases do not stay at one and zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter) / fan_in**0.5)
    return net


def features(batch: int = 2, channels: int = 8) -> torch.Tensor:
    return inputs([(batch, channels, 7, 6)], torch.float64)[0] - 0.5


def relative(result, wanted):
    return float((result - wanted).norm() / wanted.norm())
