"""Nyströmformer and Performer as training-free kernels: what ours are compared with."""

import dataclasses

import torch
from torch import Tensor

from glmha.shared.precision import at_least_float32
from nystra.functional import orthogonal_directions, random_features
from nystra.kernels.base import Cost, Kernel
from nystra.windows.geometry import WindowKind


@dataclasses.dataclass(frozen=True)
class Performer(Kernel):
    """Performer (Choromanski et al.): positive random features of the exponential kernel, for comparison.

    A product of features cannot carry a position bias or a mask. Where there is one, the N×N product of the features is
    formed and multiplied by the bias' exponential: faithful, and no longer linear in N.

    Args:
        features: number of random features M, >= 1.
        seed: of the random directions.

    Raises:
        ValueError: if `features` is below 1.
    """

    features: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what no window could be attended with."""
        if self.features < 1:
            raise ValueError(f"features ({self.features}) must be at least 1")

    def cost(self, window: tuple[int, int], channels: int) -> Cost:
        """See base class; without bias."""
        tokens = window[0] * window[1]
        return Cost(2 * self.features * channels + 2 * self.features * (channels + 1), tokens * self.features)

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> Tensor | None:
        """Exponential of bias and mask between tokens, over each one's largest: (heads or 1, N, N); None: no bias."""
        if not kind.has_bias:
            return None
        logits = kind.all_logits().to(torch.promote_types(dtype, torch.float32))
        # Each token's largest cancels in the normalisation; without it a row of masks underflows to 0/0.
        return (logits - logits.amax(2, keepdim=True)).exp()

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Tensor | None) -> Tensor:
        """See base class."""
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
