"""What the closed-form start needs of images: scores and second moments of patches."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Pixels whose patches are written at once.
PIXELS = 2**14


class Statistics(NamedTuple):
    """What the fit needs of the calibration images, all float64.

    Args:
        scores: cosines times temperature, (B, h, d, d).
        moments: second moments of the patches, (B, F, F), F = channels · taps.
        values: T, dense values as a linear map of the patches, (C, F).
        taps: 9 for a depth-wise 3×3 convolution after the 1×1, 1 without.
    """

    scores: Tensor
    moments: Tensor
    values: Tensor
    taps: int


def second_moments(x: Tensor, size: int) -> Tensor:
    """Σ p pᵀ over all size×size patches p, zero-padded, of an image (1, C, H, W): (C·size², C·size²), mean scale 1."""
    height, width = x.shape[-2:]
    padded = F.pad(x, [size // 2] * 4)
    total = x.new_zeros(x.shape[1] * size**2, x.shape[1] * size**2)
    rows = max(1, PIXELS // width)
    for start in range(0, height, rows):
        patches = F.unfold(padded[:, :, start : start + rows + size - 1], size)[0]
        total += patches @ patches.T
    # Images of any size and brightness weigh the same, as in a relative error.
    return total / total.diagonal().mean().clamp_min(torch.finfo(total.dtype).tiny)
