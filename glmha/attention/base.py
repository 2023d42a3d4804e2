"""Channel attentions: exact (CSA) and GLMHA; those it is compared with are in `glmha.comparisons`.

One call contract: `attention(x, mask=None)` maps an image (B, C, H, W) to the same shape, without the residual; `mask`
only where the host's convention is mask-guided. Every class takes `(channels, heads, ...)`; hosts accept any callable
`(channels, heads) -> nn.Module` and re-lay our own classes in their convention with `in_convention`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmha import functional, low_rank_fit
from glmha.conventions import Convention, RestormerConvention
from glmha.layers import MaskGuidance

AttentionFactory = Callable[[int, int], nn.Module]


class ChannelAttention(nn.Module):
    """Channel self-attention: CSA, "MDTA" in Restormer, "S-MSA" in MST (GLMHA, Eqs. 1-2).

    Args:
        channels: C.
        heads: h; divides C.
        convention: the host's projections, names and order of products.

    Raises:
        ValueError: if `heads` does not divide `channels`.
    """

    # What the conventions register; which of them exist depends on the convention.
    temperature: nn.Parameter
    qkv: nn.Conv2d
    qkv_dwconv: nn.Conv2d
    project_out: nn.Conv2d
    rescale: nn.Parameter
    to_q: nn.Linear
    to_k: nn.Linear
    to_v: nn.Linear
    proj: nn.Linear
    pos_emb: nn.Sequential
    mm: MaskGuidance

    def __init__(self, channels: int, heads: int, *, convention: Convention = RestormerConvention()) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(
                f"heads ({heads}) must divide channels ({channels}): choose one of "
                f"{[n for n in range(1, channels + 1) if channels % n == 0]}"
            )
        self.channels = channels
        self.heads = heads
        self.convention = convention
        convention.build(self)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments beyond (channels, heads, convention) that make another such attention."""
        return {}

    @property
    def key_channels(self) -> int:
        """C', the channels of keys and values."""
        return self.channels

    def in_convention(self, convention: Convention) -> Self:
        """A new attention with the same options in a host's convention; its parameters start afresh."""
        if convention == self.convention:
            return self
        return type(self)(self.channels, self.heads, convention=convention, **self.options)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend between the channels of an image.

        Args:
            x: shape (B, C, H, W).
            mask: mask features where the convention is mask-guided, else None.

        Returns:
            Shape (B, C, H, W), dtype of `x`, channels-last memory, residual not added.

        Raises:
            ValueError: if `mask` does not suit the convention.
        """
        attention, value = self.attention(x)
        return self.convention.output(self, attention, value, x, mask)

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attention matrix (B, h, d, d'), float32 at least, and values (B, H·W, C') of an image."""
        cosines, value = self.convention.similarity(self, x, self.calibrate)
        return self.normalise(cosines), value

    @property
    def calibrate(self) -> Callable[[Tensor], Tensor] | None:
        """The input's re-weighting as a function of the queries; None where there is none."""
        return None

    def normalise(self, cosines: Tensor) -> Tensor:
        """softmax(cosines/β) over the keys, in float32 at least."""
        return (cosines * functional.at_least_float32(self.convention.temperature(self))).softmax(-1)

    def product_macs(self, pixels: int) -> int:
        """Multiply-adds of the published form's products that are no layers: Q Kᵀ and A V, of an image of N pixels."""
        return 2 * self.channels * (self.key_channels // self.heads) * pixels

    def extra_repr(self) -> str:
        """Show what made it."""
        shown = {"channels": self.channels, "heads": self.heads, **self.options, "convention": self.convention}
        return ", ".join(f"{name}={value}" for name, value in shown.items())


class Calibration(nn.Module):
    """φ of Eq. (4): one weight in (-1, 1) for every channel, from the queries of the image itself.

    Adaptive max-pool to k×k, depth-wise k×k convolution without padding, GELU, one linear map shared by the heads,
    tanh. Costs n·k² + n²/h² parameters for n channels, as Eq. (8) counts.

    Args:
        channels: C.
        heads: h.
        kernel_size: k.
    """

    def __init__(self, channels: int, heads: int, kernel_size: int) -> None:
        super().__init__()
        self.heads = heads
        self.pool = nn.Conv2d(channels, channels, kernel_size, groups=channels, bias=False)
        self.mix = nn.Linear(channels // heads, channels // heads, bias=False)

    def forward(self, query: Tensor) -> Tensor:
        """Map queries (B, C, H, W) to calibration weights (B, C)."""
        pooled = self.pool(F.adaptive_max_pool2d(query, self.pool.kernel_size))
        per_head = F.gelu(pooled.flatten(1)).unflatten(1, (self.heads, -1))
        return torch.tanh(self.mix(per_head)).flatten(1)


class RecordedAttention(ChannelAttention):
    """A channel attention whose options travel with its weights.

    α, seeds and the like leave no trace in the tensors, so the state dict has one entry more, `_extra_state`: the
    options as JSON bytes, a tensor that every file format keeps and no cast touches.
    """

    def get_extra_state(self) -> Tensor:
        """The class and its options, as bytes."""
        content = json.dumps({"class": type(self).__name__, **self.options})
        return torch.tensor(list(content.encode()), dtype=torch.uint8)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Weights without a record, exact attention's for one, are taken on their shapes' word.
        state_dict.setdefault(f"{prefix}_extra_state", self.get_extra_state())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse weights that were trained as another attention.

        Raises:
            ValueError: if the recorded class or options are not this module's.
        """
        recorded, own = decode_options(state), {"class": type(self).__name__, **self.options}
        if recorded != own:
            raise ValueError(f"attention must be the checkpoint's, {recorded}, got {own}")


def decode_options(state: Tensor) -> dict[str, Any]:
    """Read the class name ("class") and options that `RecordedAttention` put into a state dict."""
    return json.loads(bytes(state.tolist()))


class GLMHA(RecordedAttention):
    """Guided low-rank multi-head attention (Ilyas et al., Eqs. 3-7).

    Queries keep C channels; keys and values are made with C' = h·max(1, round((1 - reduction)·C/h)) channels from the
    input re-weighted by 1 + α·φ(Q). Keys and values have one size: the columns of Q Kᵀ are the rows of V.
    With α = 0 and no reduction it is `ChannelAttention`.

    Args:
        channels: C.
        heads: h; divides C.
        reduction: fraction of K's and V's channels removed, 0 <= reduction < 1.
        alpha: α of Eq. (5); 0 leaves the calibration network out.
        kernel_size: k of the calibration network's depth-wise convolution, >= 1.
        convention: the host's projections, names and order of products.

    Raises:
        ValueError: if `heads` does not divide `channels`, or `reduction`, `alpha` or `kernel_size` is out of range.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        reduction: float = 0.5,
        alpha: float = 0.6,
        kernel_size: int = 3,
        convention: Convention = RestormerConvention(),
    ) -> None:
        if not 0 <= reduction < 1:
            raise ValueError(f"reduction ({reduction}) must be at least 0 and below 1: it is the fraction removed")
        if not alpha >= 0:
            raise ValueError(f"alpha ({alpha}) must be at least 0: the paper uses 0.3 to 0.7, 0 turns calibration off")
        if kernel_size < 1:
            raise ValueError(f"kernel_size ({kernel_size}) must be at least 1: the paper uses 3")
        self.reduction = reduction
        self.alpha = alpha
        self.kernel_size = kernel_size
        super().__init__(channels, heads, convention=convention)
        self.calibration = Calibration(channels, heads, kernel_size) if alpha else None

    @classmethod
    def from_dense(
        cls,
        csa: ChannelAttention,
        features: Sequence[Tensor],
        *,
        reduction: float = 0.5,
        alpha: float = 0.6,
        kernel_size: int = 3,
    ) -> Self:
        """Start from a trained exact attention, in closed form, on some of its inputs (`glmha.low_rank_fit.fit`).

        Args:
            csa: the trained module; left as it is.
            features: inputs of `csa`, each (B, C, H, W); sizes may differ.
            reduction: see the class.
            alpha: see the class; the calibration starts neutral.
            kernel_size: see the class.

        Returns:
            A module in the convention, on the device and of the dtype of `csa`.

        Raises:
            TypeError: if `csa` is not exact channel attention.
            ValueError: if `features` is empty or has other channels than `csa`, or an option is out of range.
        """
        if type(csa) is not ChannelAttention:
            raise TypeError(f"csa must be a ChannelAttention, whose weights are dense, got {type(csa).__name__}")
        module = cls(
            csa.channels,
            csa.heads,
            reduction=reduction,
            alpha=alpha,
            kernel_size=kernel_size,
            convention=csa.convention,
        ).to(csa.convention.temperature(csa))
        low_rank_fit.fit(module, csa, features)
        return module

    @property
    def options(self) -> dict[str, Any]:
        """See base class."""
        return {"reduction": self.reduction, "alpha": self.alpha, "kernel_size": self.kernel_size}

    @property
    def key_channels(self) -> int:
        """See base class."""
        return self.heads * low_rank(self.channels // self.heads, self.reduction)

    @property
    def calibrate(self) -> Callable[[Tensor], Tensor] | None:
        """1 + αa of Eq. (5), as a function of the queries."""
        calibration = self.calibration
        return None if calibration is None else lambda query: 1 + self.alpha * calibration(query)


def low_rank(head_channels: int, reduction: float) -> int:
    """Channels of a head that a reduction leaves: max(1, round((1 - reduction)·d))."""
    return max(1, round((1 - reduction) * head_channels))


def build(factory: AttentionFactory, channels: int, heads: int, convention: Convention) -> nn.Module:
    """Make a host's attention: our own classes are re-laid in the host's convention, others are taken as they come."""
    module = factory(channels, heads)
    return module.in_convention(convention) if isinstance(module, ChannelAttention) else module


def per_level(attention: AttentionFactory | Sequence[AttentionFactory], levels: int) -> list[AttentionFactory]:
    """One factory for every level of a host, finest first (Table 9 of GLMHA).

    Raises:
        ValueError: if a sequence has another length than the host has levels.
    """
    if callable(attention):
        return [attention] * levels
    if len(attention) != levels:
        raise ValueError(
            f"attention must be one factory or {levels}, one per level from the finest to the bottleneck, "
            f"got {len(attention)}"
        )
    return list(attention)
