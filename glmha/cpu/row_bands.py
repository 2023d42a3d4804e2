"""Row bands: feature maps made, used and dropped a few rows at a time, so that they stay in the processor's cache.

Between a 1×1 expansion and the projection that follows, a block's widest maps are several times the size of its input.
Written whole they go to main memory, which costs more than the arithmetic; a band of rows does not. The result is the
same to the last bit wherever the kernels' own order of summation is the same.

Only inference on a CPU streams: autograd keeps the whole maps anyway, a GPU wants large launches, and a traced or
exported graph must not depend on the size.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# About the second-level caches of two cores; measured best between 2 and 8 MiB at Restormer's four levels.
BAND_BYTES = 4 * 2**20


class Band(NamedTuple):
    """Rows [start, stop) of the result, read from rows [low, high) of the source."""

    start: int
    stop: int
    low: int
    high: int

    def inner(self, padded: Tensor) -> Tensor:
        """Cut the halo off the band's result, (B, C, high - low, W) → (B, C, stop - start, W)."""
        return padded[:, :, self.start - self.low : self.stop - self.low]


def streams(x: Tensor) -> bool:
    """Whether an image (B, C, H, W) is to be processed in bands."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def trains_plainly(x: Tensor) -> bool:
    """Whether the hand-written gradients of `glmha.gradients` apply: on a CPU, in one precision, outside of tracing."""
    return (
        x.device.type == "cpu"
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def bands(x: Tensor, channels: int, halo: int) -> Iterator[Band]:
    """Divide the rows of an image so that a map of `channels` channels over one band stays in cache.

    Args:
        x: image (B, C, H, W).
        channels: channels of the widest map made from it.
        halo: rows needed on either side, the radius of the convolutions in between.

    Yields:
        Bands in order that cover every row once; halos are clipped at the image's border.
    """
    batch, _, height, width = x.shape
    rows = max(2, BAND_BYTES // (batch * channels * width * x.element_size()))
    # Equal bands: a sliver at the end would cost a full band's overhead.
    rows = -(-height // max(1, round(height / rows)))
    for start in range(0, height, rows):
        stop = min(height, start + rows)
        yield Band(start, stop, max(0, start - halo), min(height, stop + halo))
