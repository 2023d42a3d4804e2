"""The weights of a convention as the closed-form start reads and writes them."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from glmha.attention.base import ChannelAttention


class Fit(NamedTuple):
    """Keys and values that the closed-form start has found for an attention.

    Attributes:
        rows: dense channels that become keys, (C',).
        mix: M of every head, of which the values are a separable approximation, (h, d', d).
        pointwise: 1×1 weights of the values, (C', channels of the patches).
        depth: depth-wise kernels of the values, (C', taps).
    """

    rows: Tensor
    mix: Tensor
    pointwise: Tensor
    depth: Tensor


class ConventionWeights(abc.ABC):
    """Reads a dense attention's weights as linear maps and writes fitted ones, for modules of one convention.

    Attributes:
        kernel_size: side of the patches that the values are a linear map of: 3 where a depth-wise 3×3 convolution
            follows the 1×1 projection, 1 where none does.
    """

    kernel_size: int

    @abc.abstractmethod
    def patch_source(self, dense: ChannelAttention, x: Tensor) -> Tensor:
        """Turn an input (1, C, H, W) into the image whose patches the values are a linear map of."""

    @abc.abstractmethod
    def values(self, dense: ChannelAttention) -> Tensor:
        """Multiply the projections of the values out to T, a linear map of patches: (C, channels · taps)."""

    @abc.abstractmethod
    def output(self, dense: ChannelAttention) -> Tensor:
        """Return W_out, (C, C)."""

    @abc.abstractmethod
    def write(self, module: ChannelAttention, dense: ChannelAttention, fit: Fit, images: Sequence[Tensor]) -> None:
        """Set a low-rank module's parameters.

        Args:
            module: changed in place; same channels, heads and convention as `dense`.
            dense: the source of queries, temperature, output and chosen keys, in float64.
            fit: the keys and values.
            images: inputs of `dense`, each (1, C, H, W), float64.
        """
