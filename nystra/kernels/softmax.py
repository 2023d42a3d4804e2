"""Exact softmax attention, the kernel of every released network."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from nystra.kernels.base import Cost, Kernel
from nystra.windows.geometry import WindowKind


@dataclasses.dataclass(frozen=True)
class Softmax(Kernel):
    """Exact attention softmax(Q Kᵀ + bias + mask) V, by torch's fused program that never writes the N×N weights.

    Example:
        >>> import torch
        >>> from nystra import Softmax, WindowGeometry
        >>> query, key, value = torch.rand(3, 1, 2, 64, 8)
        >>> outputs = Softmax()(query, key, value, WindowGeometry((8, 8)))
        >>> torch.allclose(outputs, (query @ key.mT).softmax(-1) @ value, atol=1e-5)
        True
    """

    def cost(self, window: tuple[int, int], channels: int) -> Cost:
        """See base class."""
        tokens = window[0] * window[1]
        return Cost(2 * tokens * channels, tokens * channels)

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> Tensor | None:
        """Bias and mask between all tokens, (1, heads, N, N); None where there are none."""
        if not kind.has_bias:
            return None
        return kind.all_logits().to(dtype).unsqueeze(0)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Tensor | None) -> Tensor:
        """See base class."""
        return F.scaled_dot_product_attention(query, key, value, attn_mask=tables, scale=1.0)
