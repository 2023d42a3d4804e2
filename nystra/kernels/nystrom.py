"""Two-level Nyström: the regularised form of PnP-Nystra's approximation."""

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from glmha.shared.precision import at_least_float32
from nystra.functional import add, ridge_solve, weighted_cells
from nystra.kernels.base import Cost, Kernel
from nystra.kernels.pnp_nystra import PublishedNystrom
from nystra.windows.cells import Cells
from nystra.windows.geometry import WindowKind


@dataclasses.dataclass(frozen=True)
class Nystrom(Kernel):
    """Two-level Nyström: PnP-Nystra's form without its small denominators.

    Keys and values of s cells are pooled with the weights exp(q₀·k), q₀ the window's mean query, into K̃, Ṽ. With
    softmaxed blocks F (tokens × pooled keys), A (landmark queries × pooled keys), G (landmark queries × tokens) and
    W = F Aᵀ(A Aᵀ + λ·tr(A Aᵀ)/m·I)⁻¹, the output is F Ṽ + W (G V - A Ṽ): where W vanishes it falls back to a convex
    estimate instead of 0/0.

    Keys are pooled once for all queries: where the border of a shifted window cuts a cell, both sides see the tokens of
    that cell. Windows shifted by half their side need an even number of cells along each axis.

    Args:
        landmarks: m, landmark queries; see `Kernel.fitted`.
        key_landmarks: s, cells of keys; at least m.
        ridge: λ, above 0.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import torch
        >>> from nystra import Nystrom, WindowGeometry
        >>> kernel = Nystrom(landmarks=4, key_landmarks=16)
        >>> query, key, value = torch.rand(3, 1, 2, 64, 8)
        >>> kernel(query, key, value, WindowGeometry((8, 8))).shape
        torch.Size([1, 2, 64, 8])
        >>> Nystrom.as_published(landmarks=4)
        PublishedNystrom(landmarks=4, iterations=6, threshold=5.0)
    """

    landmarks: int = 16
    key_landmarks: int = 32
    ridge: float = 0.03

    def __post_init__(self) -> None:
        """Refuse numbers that fit no window."""
        if self.landmarks < 1 or self.key_landmarks < self.landmarks:
            raise ValueError(
                f"key_landmarks ({self.key_landmarks}) must be at least landmarks ({self.landmarks}), both at least 1"
            )
        if not self.ridge > 0:
            raise ValueError(f"ridge ({self.ridge}) must be above 0: it keeps the system regular")

    @staticmethod
    def as_published(landmarks: int = 16, iterations: int = 6, threshold: float = 5.0) -> "PublishedNystrom":
        """Give the kernel with the authors' arithmetic, without bias and mask: see `PublishedNystrom`."""
        return PublishedNystrom(landmarks, iterations, threshold)

    def fitted(self, window: tuple[int, ...]) -> "Nystrom":
        """See base class."""
        queries, keys = self._cells(window)
        return dataclasses.replace(self, landmarks=queries.num_blocks, key_landmarks=keys.num_blocks)

    def _cells(self, window: tuple[int, ...]) -> tuple[Cells, Cells]:
        """Blocks of the landmark queries, and cells of the keys."""
        queries, keys = (Cells.nearest(window, number) for number in (self.landmarks, self.key_landmarks))
        # Numbers near to those wanted may be the other way round.
        return queries, keys if keys.num_blocks >= queries.num_blocks else queries

    def cost(self, window: tuple[int, ...], channels: int) -> Cost:
        """Cost: 3d + 2d(m + s) + core/N multiply-adds a token (m landmarks, s cells, N tokens); N·max(m, s) numbers."""
        fitted = self.fitted(window)
        tokens, m, s = math.prod(window), fitted.landmarks, fitted.key_landmarks
        core = m * s * (3 * channels + m) + m * m * (m + channels)
        return Cost(3 * channels + 2 * channels * (m + s) + core / tokens, tokens * max(m, s))

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> "NystromTables":
        """Bias of tokens and landmarks to cells (log of the mean of its exponential) and of landmarks to tokens."""
        queries, keys = self._cells(kind.window)
        repeats = None if keys.even else torch.where(keys.repeats(kind.device), -torch.inf, 0.0)
        if not kind.has_bias:
            return NystromTables(queries, keys, repeats, None, None, None)
        positions = kind.positions()
        centres = queries.means(positions[None, None])[0, 0]
        ordered = keys.order(positions)
        wide = torch.promote_types(dtype, torch.float32)

        counts = torch.tensor(keys.sizes(), dtype=wide, device=kind.device)

        def to_cells(logits: Tensor) -> Tensor:
            logits = add(logits.to(wide), repeats).unflatten(2, (keys.num_blocks, -1))
            return logits.logsumexp(3) - counts.log()

        offsets = kind.offset_logits()
        # In pieces: N×N values of all heads would not fit for large windows.
        pieces = [to_cells(kind.token_logits(part, ordered, offsets)) for part in positions.split(256)]
        of_landmarks = kind.logits(centres, ordered)
        biases = torch.cat(pieces, 1), to_cells(of_landmarks), of_landmarks.to(wide)
        return NystromTables(queries, keys, repeats, *biases)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: "NystromTables") -> Tensor:
        """Attend (W, h, N, d) through cells of keys, corrected at the landmark queries by a regularised solve."""
        return self._attend(query, key, value, tables)[0]

    def attend_with_masses(
        self, query: Tensor, key: Tensor, value: Tensor, tables: "NystromTables"
    ) -> tuple[Tensor, Tensor]:
        """See base class: of the cells."""
        outputs, logits = self._attend(query, key, value, tables)
        return outputs, logits.logsumexp(3, keepdim=True)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, tables: "NystromTables") -> tuple[Tensor, Tensor]:
        """Outputs, and logits of queries to cells, (W, h, N, s)."""
        cells = tables.keys.num_blocks
        key, value = tables.keys.gather(key), tables.keys.gather(value)
        landmark = tables.queries.means(query)
        centre = landmark.mean(2, keepdim=True)
        masses = add(at_least_float32(centre @ key.transpose(2, 3)), tables.repeats).unflatten(3, (cells, -1))
        mass = masses.logsumexp(4)
        weights = (masses - mass.unsqueeze(4)).exp().to(key.dtype)
        pooled = weighted_cells(weights, torch.cat([key, value], 3).unflatten(2, (cells, -1))).squeeze(2)
        pooled_key, pooled_value = pooled.split([key.shape[3], value.shape[3]], 3)
        transposed = pooled_key.transpose(2, 3)
        offset = mass - at_least_float32(centre @ transposed)
        logits = add(at_least_float32(query @ transposed) + offset, tables.token_bias)
        tokens = logits.softmax(3)
        core = add(at_least_float32(landmark @ transposed) + offset, tables.core_bias).softmax(3)
        to_keys = add(at_least_float32(landmark @ key.transpose(2, 3)), tables.repeats)
        landmarks = add(to_keys, tables.landmark_bias).softmax(3)
        values = at_least_float32(pooled_value)
        correction = landmarks @ at_least_float32(value) - core @ values
        # W is N×m and F N×s: F (Ṽ + Aᵀ(…)⁻¹ correction) multiplies F once.
        return (tokens @ (values + ridge_solve(core, correction, self.ridge))).to(value.dtype), logits


class NystromTables(NamedTuple):
    """Static tables of the two-level Nyström kernel for one kind of window.

    Attributes:
        queries: the blocks of the landmark queries.
        keys: the cells of the keys, as blocks.
        repeats: added to the logits of keys in the cells' order, minus infinity for repeats, (N',); None: there are
            none.
        token_bias: of tokens to cells, (heads or 1, N, s); None: no bias.
        core_bias: of landmark queries to cells, (heads or 1, m, s).
        landmark_bias: of landmark queries to tokens in the cells' order, (heads or 1, m, N).
    """

    queries: Cells
    keys: Cells
    repeats: Tensor | None
    token_bias: Tensor | None
    core_bias: Tensor | None
    landmark_bias: Tensor | None
