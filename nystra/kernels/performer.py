"""Performer's attention within windows, one of the kernels that others are compared with."""

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from glmha.shared.precision import at_least_float32
from nystra.functional import features_and_maxima, orthogonal_directions
from nystra.kernels.base import Cost, Kernel
from nystra.windows.geometry import WindowKind


@dataclasses.dataclass(frozen=True)
class Performer(Kernel):
    """Performer (Choromanski et al., ICLR 2021): positive random features of the exponential kernel, for comparison.

    A product of features cannot carry a position bias or a mask. Where there is one, the N×N product of the features is
    formed and multiplied by the bias' exponential, so that the cost is no longer linear in N.

    Args:
        features: number of random features M, >= 1.
        seed: of the random directions.

    Raises:
        ValueError: if `features` is below 1.

    Examples:
        >>> import torch
        >>> from nystra import Performer, Softmax, WindowGeometry
        >>> query, key, value = torch.rand(3, 1, 2, 64, 8, generator=torch.Generator().manual_seed(0))
        >>> geometry = WindowGeometry((8, 8))
        >>> exact = Softmax()(query, key, value, geometry)
        >>> errors = [(Performer(count)(query, key, value, geometry) - exact).norm() for count in (16, 4096)]
        >>> bool(errors[1] < errors[0])
        True
    """

    features: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that fit no window."""
        if self.features < 1:
            raise ValueError(f"features ({self.features}) must be at least 1")

    def cost(self, window: tuple[int, ...], channels: int) -> Cost:
        """Cost without bias: 2Md for the features, 2M(d + 1) for the products with values and ones."""
        tokens = math.prod(window)
        return Cost(2 * self.features * channels + 2 * self.features * (channels + 1), tokens * self.features)

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> "PerformerTables | None":
        """Exponentials of bias and mask between tokens; None: no bias."""
        if not kind.has_bias:
            return None
        logits = kind.all_logits().to(torch.promote_types(dtype, torch.float32))
        # The largest entry of a row cancels in the normalisation; if it stayed, a row of masks would underflow to 0/0.
        largest = logits.amax(2, keepdim=True)
        return PerformerTables((logits - largest).exp(), largest)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: "PerformerTables | None") -> Tensor:
        """Attend (W, h, N, d) through M random features; a bias multiplies their products, which are N×N then."""
        return self.attend_with_masses(query, key, value, tables)[0]

    def attend_with_masses(
        self, query: Tensor, key: Tensor, value: Tensor, tables: "PerformerTables | None"
    ) -> tuple[Tensor, Tensor]:
        """See base class: the denominators."""
        channels = query.shape[3]
        directions = orthogonal_directions(self.features, channels, torch.Generator().manual_seed(self.seed))
        # The scale, usually d^-½ and folded into the queries, is shared out evenly: both then have small norms.
        balance = channels**0.25
        left, of_queries = features_and_maxima(query * balance, directions.to(query.device), keys=False)
        right, of_keys = features_and_maxima(key / balance, directions.to(query.device), keys=True)
        most = of_queries + of_keys
        wide = at_least_float32(value)
        if tables is None:
            ones = torch.ones_like(wide[..., :1])
            mixed = left @ (right.transpose(2, 3) @ torch.cat([wide, ones], 3))
            return (mixed[..., :-1] / mixed[..., -1:]).to(value.dtype), mixed[..., -1:].log() + most
        kernel = left @ right.transpose(2, 3) * tables.exponentials
        sums = kernel.sum(3, keepdim=True)
        return (kernel @ wide / sums).to(value.dtype), sums.log() + most + tables.largest


class PerformerTables(NamedTuple):
    """Bias and mask between tokens.

    Attributes:
        exponentials: each row's largest 1, (heads or 1, N, N).
        largest: logarithms by which rows were divided, (heads or 1, N, 1).
    """

    exponentials: Tensor
    largest: Tensor
