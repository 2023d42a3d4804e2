"""The three blocks of a Nyström approximation, with bias and mask at landmark positions too."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nystra.cells import Cells
from nystra.functional import add, at_least_float32
from nystra.geometry import WindowKind
from nystra.kernels import Cost


class BlockTables(NamedTuple):
    """Bias of the blocks F, A and G between tokens and landmarks for one kind of window.

    Attributes:
        cells: the landmarks' cells.
        cross: tokens to landmarks, (heads or 1, N, m); None: no bias.
        core: landmarks to landmarks, (heads or 1, m, m).
        landmark: landmarks to tokens, (heads or 1, m, N).
    """

    cells: Cells
    cross: Tensor | None
    core: Tensor | None
    landmark: Tensor | None

    def logits(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of F (W, h, N, m), A (W, h, m, m) and G (W, h, m, N), float32 at least."""
        query_mark, key_mark = self.cells.means(query), self.cells.means(key)
        return (
            add(at_least_float32(query @ key_mark.transpose(2, 3)), self.cross),
            add(at_least_float32(query_mark @ key_mark.transpose(2, 3)), self.core),
            add(at_least_float32(query_mark @ key.transpose(2, 3)), self.landmark),
        )

    @classmethod
    def of(cls, kind: WindowKind, landmarks: int, dtype: torch.dtype) -> BlockTables:
        """Tables of a kind of window with m landmarks, for inputs of a dtype."""
        cells = Cells.landmarks(kind.window, landmarks)
        if not kind.has_bias:
            return cls(cells, None, None, None)
        positions = kind.positions()
        centres = cells.means(positions[None, None])[0, 0]
        wide = torch.promote_types(dtype, torch.float32)
        pairs = ((positions, centres), (centres, centres), (centres, positions))
        return cls(cells, *(kind.logits(queries, keys).to(wide) for queries, keys in pairs))


def block_cost(cells: Cells, channels: int, value_channels: int, iterations: int) -> Cost:
    """Cost of F, A, G and their products with an iterated pseudo-inverse.

    Args:
        cells: the landmarks' cells.
        channels: d.
        value_channels: of the values that are multiplied.
        iterations: of the pseudo-inverse, four products each.
    """
    tokens, m = cells.window[0] * cells.window[1], cells.num_blocks
    core = m * m * (channels + value_channels + 4 * iterations * m)
    return Cost(2 * m * (channels + value_channels) + core / tokens, tokens * m)
