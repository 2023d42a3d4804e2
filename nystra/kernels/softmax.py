"""Exact softmax attention, the kernel of every released network."""

import dataclasses
import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nystra.kernels.base import Cost, Kernel
from nystra.programs.cpu import exact
from nystra.programs.cpu.library import usable
from nystra.windows.geometry import WindowGeometry, WindowKind
from nystra.windows.partition import Cut

# In bytes: the bias of all pairs of tokens in larger windows is laid out piece by piece.
LARGEST_BIAS = 2**30


@dataclasses.dataclass(frozen=True)
class Softmax(Kernel):
    """Exact attention softmax(Q Kᵀ + bias + mask) V, by programs that never write the N×N weights.

    On processors that is a native program of this package where there is one and no gradient is asked for; elsewhere
    torch's fused one.

    Examples:
        >>> import torch
        >>> from nystra import Softmax, WindowGeometry
        >>> query, key, value = torch.rand(3, 1, 2, 64, 8)
        >>> outputs = Softmax()(query, key, value, WindowGeometry((8, 8)))
        >>> torch.allclose(outputs, (query @ key.mT).softmax(-1) @ value, atol=1e-5)
        True
    """

    def cost(self, window: tuple[int, ...], channels: int) -> Cost:
        """Cost: 2·N·d multiply-adds a token for N tokens; N·d numbers."""
        tokens = math.prod(window)
        return Cost(2 * tokens * channels, tokens * channels)

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> Any:
        """Bias and mask between all tokens, (1, heads, N, N), or what they are made of; None where there are none."""
        if not kind.has_bias:
            return None
        offsets = kind.offset_logits()
        if offsets is not None and _bytes_of_pairs(offsets, kind.window) > LARGEST_BIAS:
            return OffsetTables(kind, offsets)
        positions = kind.positions()
        return kind.token_logits(positions, positions, offsets).to(dtype).unsqueeze(0)

    def attend_natively(
        self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut
    ) -> Tensor | None:
        """Attend by the exact program over maps (B, H, W, h, d); None where there is no program for them."""
        library = usable(query, key, value, parameters=geometry.parameters)
        if library is None:
            return None
        *_, (_, last) = geometry.kinds(query.device)
        if len(geometry.window) > 2 and geometry.bias is not None:
            offsets = last.offset_logits()
            kinds = math.prod(geometry.kind_counts)
            if offsets is not None and kinds * _bytes_of_pairs(offsets, geometry.window) > LARGEST_BIAS:
                # The program knows the bias of the offsets of rows and columns alone, else that of all pairs.
                return None
        table = geometry.table(
            (self, library.tile, geometry.kind_counts),
            last,
            query.dtype,
            lambda: exact.bias_table(geometry, query.device, library),
        )
        return exact.attend(query, key, value, table, geometry, cut)

    def attend_on_gpu(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut) -> Tensor:
        """See base class."""
        from nystra.programs.gpu import exact as program

        *_, (_, last) = geometry.kinds(query.device)
        tables = geometry.table(
            (self, "gpu", geometry.kind_counts), last, torch.float32, lambda: program.tables(geometry, query.device)
        )
        return program.attend(query, key, value, tables, geometry, cut)

    def attend_sequences(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry) -> Tensor:
        """See base class; all tokens are alike."""
        return self.attend_all(query, key, value, geometry.sequences)

    def require_masses(self) -> None:
        """All windows will do."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Any) -> Tensor:
        """Attend exactly: (W, h, N, d) by the fused product, with what `tables` made."""
        if not isinstance(tables, OffsetTables):
            return F.scaled_dot_product_attention(query, key, value, attn_mask=tables, scale=1.0)
        kind, offsets = tables
        positions = kind.positions()
        step = max(1, len(positions) * LARGEST_BIAS // (8 * _bytes_of_pairs(offsets, kind.window)))
        pieces = []
        for queries, places in zip(query.split(step, 2), positions.split(step), strict=True):
            bias = kind.token_logits(places, positions, offsets).to(query.dtype).unsqueeze(0)
            pieces.append(F.scaled_dot_product_attention(queries, key, value, attn_mask=bias, scale=1.0))
        return torch.cat(pieces, 2)


class OffsetTables(NamedTuple):
    """Of windows so large that the bias of all pairs of tokens is not laid out at once.

    Attributes:
        kind: of the windows.
        offsets: bias of all offsets, see `WindowKind.offset_logits`.
    """

    kind: WindowKind
    offsets: Tensor


def _bytes_of_pairs(offsets: Tensor, window: tuple[int, ...]) -> int:
    """Bytes of the bias of all pairs of tokens."""
    return len(offsets) * math.prod(window) ** 2 * offsets.element_size()
