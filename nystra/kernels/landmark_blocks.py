"""The three blocks F, A and G of a Nyström approximation, and the base of the kernels that invert A by iteration."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from glmha.shared.precision import at_least_float32
from nystra.functional import add
from nystra.kernels.base import Cost, Kernel
from nystra.windows.cells import Cells
from nystra.windows.geometry import WindowKind


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
        cells = Cells.nearest(kind.window, landmarks)
        if not kind.has_bias:
            return cls(cells, None, None, None)
        positions = kind.positions()
        centres = cells.means(positions[None, None])[0, 0]
        wide = torch.promote_types(dtype, torch.float32)
        pairs = ((positions, centres), (centres, centres), (centres, positions))
        return cls(cells, *(kind.logits(queries, keys).to(wide) for queries, keys in pairs))


@dataclasses.dataclass(frozen=True)
class IteratedNystrom(Kernel):
    """Base of the kernels of three blocks, one of them inverted by iteration.

    Args:
        landmarks: m, means over cells of the window; see `Kernel.fitted`.
        iterations: of the pseudo-inverse.

    Raises:
        ValueError: if a number is out of range.
    """

    landmarks: int = 16
    iterations: int = 6

    def __post_init__(self) -> None:
        """Refuse numbers that fit no window."""
        if self.landmarks < 1 or self.iterations < 1:
            raise ValueError(f"landmarks ({self.landmarks}) and iterations ({self.iterations}) must be at least 1")

    def fitted(self, window: tuple[int, ...]) -> Self:
        """See base class."""
        return dataclasses.replace(self, landmarks=Cells.nearest(window, self.landmarks).num_blocks)

    def cost(self, window: tuple[int, ...], channels: int) -> Cost:
        """Cost without bias: 4md for the blocks, and the core's products, four of m×m matrices for an iteration."""
        tokens, m = math.prod(window), self.fitted(window).landmarks
        core = m * m * (2 * channels + 4 * self.iterations * m)
        return Cost(4 * m * channels + core / tokens, tokens * m)

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> Any:
        """Bias of the three blocks."""
        return BlockTables.of(kind, self.landmarks, dtype)
