"""Exact attention."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from nystra.kernels.base import Cost, Kernel
from nystra.windows.geometry import WindowKind


@dataclasses.dataclass(frozen=True)
class Softmax(Kernel):
    """Exact attention softmax(Q Kᵀ + bias + mask) V, by a fused kernel that never writes a window's N×N weights."""

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
