"""Performer's attention within windows, one of the kernels that others are compared with."""

import dataclasses

import torch
from torch import Tensor

from glmha.shared.precision import at_least_float32
from nystra.functional import orthogonal_directions, random_features
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

    def cost(self, window: tuple[int, int], channels: int) -> Cost:
        """Cost without bias: 2Md for the features, 2M(d + 1) for the products with values and ones."""
        tokens = window[0] * window[1]
        return Cost(2 * self.features * channels + 2 * self.features * (channels + 1), tokens * self.features)

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> Tensor | None:
        """Exponentials of bias and mask between tokens, each row's largest 1: (heads or 1, N, N); None: no bias."""
        if not kind.has_bias:
            return None
        logits = kind.all_logits().to(torch.promote_types(dtype, torch.float32))
        # The largest entry of a row cancels in the normalisation; if it stayed, a row of masks would underflow to 0/0.
        return (logits - logits.amax(2, keepdim=True)).exp()

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Tensor | None) -> Tensor:
        """Attend (W, h, N, d) through M random features; a bias multiplies their products, which are N×N then."""
        channels = query.shape[3]
        directions = orthogonal_directions(self.features, channels, torch.Generator().manual_seed(self.seed))
        # The scale, usually d^-½ and folded into the queries, is shared out evenly: both then have small norms.
        balance = channels**0.25
        left = random_features(query * balance, directions.to(query.device), keys=False)
        right = random_features(key / balance, directions.to(query.device), keys=True)
        wide = at_least_float32(value)
        if tables is None:
            ones = torch.ones_like(wide[..., :1])
            mixed = left @ (right.transpose(2, 3) @ torch.cat([wide, ones], 3))
            return (mixed[..., :-1] / mixed[..., -1:]).to(value.dtype)
        kernel = left @ right.transpose(2, 3) * tables
        return (kernel @ wide / kernel.sum(3, keepdim=True)).to(value.dtype)
