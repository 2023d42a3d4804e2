"""Row bands: feature maps made, used and dropped a few rows at a time, so that they stay in the processor's cache.

Between a 1×1 expansion and the projection that follows, a block's widest maps are several times the size of its input.
Whole maps go to main memory, which costs more than the arithmetic; bands of rows stay in the cache. The result is the
same to the last bit wherever the library sums in the same order.

Only inference on a CPU is done in bands: autograd keeps whole maps, a GPU is fast with large launches, and a traced or
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
    """Return whether an image (B, C, H, W) is to be processed in bands."""
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def trains_plainly(x: Tensor) -> bool:
    """Return whether `glmha.cpu.gradients` apply: on a CPU, in one precision, outside of tracing."""
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
    # Equal bands: a last band of few rows would cost a full band's overhead.
    rows = -(-height // max(1, round(height / rows)))
    for start in range(0, height, rows):
        stop = min(height, start + rows)
        yield Band(start, stop, max(0, start - halo), min(height, stop + halo))
