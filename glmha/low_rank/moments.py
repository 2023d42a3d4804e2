"""Scores and second moments of patches: all that the closed-form start keeps of its calibration images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glmha.attention.base import ChannelAttention
from glmha.low_rank.weights import ConventionWeights

# Pixels whose patches are written at once.
PIXELS = 2**14


class Statistics(NamedTuple):
    """Calibration images and dense values as the fit sees them, all float64.

    Attributes:
        scores: cosines times temperature, (B, h, d, d).
        moments: second moments of the patches, (B, F, F), F = channels · taps.
        values: T, dense values as a linear map of the patches, (C, F).
        taps: 9 for a depth-wise 3×3 convolution after the 1×1, 1 without.
    """

    scores: Tensor
    moments: Tensor
    values: Tensor
    taps: int


def collect_statistics(dense: ChannelAttention, weights: ConventionWeights, images: Sequence[Tensor]) -> Statistics:
    """Reduce calibration images to scores and second moments.

    Args:
        dense: the trained module in float64.
        weights: its convention's weights.
        images: inputs of `dense`, each (1, C, H, W), float64; sizes may differ.
    """
    scores, moments = [], []
    for x in images:
        cosines, _ = dense.convention.similarity(dense, x, None)
        scores.append(cosines[0] * dense.convention.temperature(dense))
        moments.append(second_moments(weights.patch_source(dense, x), weights.kernel_size))
    return Statistics(torch.stack(scores), torch.stack(moments), weights.values(dense), weights.kernel_size**2)


def second_moments(x: Tensor, size: int) -> Tensor:
    """Sum p pᵀ over all zero-padded size×size patches p of an image, scaled to a mean diagonal of 1.

    Args:
        x: image, (1, C, H, W).
        size: side of the patches, odd.

    Returns:
        Shape (C·size², C·size²).
    """
    height, width = x.shape[-2:]
    padded = F.pad(x, [size // 2] * 4)
    total = x.new_zeros(x.shape[1] * size**2, x.shape[1] * size**2)
    rows = max(1, PIXELS // width)
    for start in range(0, height, rows):
        patches = F.unfold(padded[:, :, start : start + rows + size - 1], size)[0]
        total += patches @ patches.T
    # Images of any size and brightness weigh the same, as in a relative error.
    return total / total.diagonal().mean().clamp_min(torch.finfo(total.dtype).tiny)
