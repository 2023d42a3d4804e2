"""How each family of hosts stores and applies channel attention: parameter names, projections, output.

An attention of this package owns its parameters under its host's names, so that checkpoints keep their keys; the
convention knows those names. It turns an image into cosines and values, and an attention matrix and values into an
image. What lies between, from cosines to attention matrix, is the attention's own (`glmha.attention`).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmha import functional, gradients
from glmha.layers import (
    MaskGuidance,
    depthwise,
    empty_like_image,
    pointwise,
    take_channels,
    to_image,
    to_tokens,
)
from glmha.streaming import bands, streams, trains_plainly

if TYPE_CHECKING:
    from glmha.attention import ChannelAttention

# Maps the paper's Q, as an image (B, C, H, W), to the factor (1 + αa) of every input channel, (B, C); Eqs. (4), (5).
Calibrate = Callable[[Tensor], Tensor]


class Convention(abc.ABC):
    """Builds a host's parameters on an attention module and applies them; the module is the only state."""

    @abc.abstractmethod
    def build(self, module: ChannelAttention) -> None:
        """Register the parameters on `module` under the host's names."""

    @abc.abstractmethod
    def temperature(self, module: ChannelAttention) -> Tensor:
        """1/β of Eq. (2), per head, shape (h, 1, 1)."""

    @abc.abstractmethod
    def tokens(self, module: ChannelAttention, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, N, C), keys and values (B, N, C') of an image (B, C, H, W)."""

    @abc.abstractmethod
    def output(
        self, module: ChannelAttention, attention: Tensor, value: Tensor, x: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Apply the attention matrix (B, h, d, d') to the values and project to an image like `x`."""

    def similarity(self, module: ChannelAttention, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor]:
        """Cosines (B, h, d, d') of queries and keys, and the values (B, N, C')."""
        query, key, value = self.tokens(module, x, calibrate)
        plain = trains_plainly(x) and not functional.computes_in_float16(x)
        similarity = gradients.similarity if plain else functional.similarity
        return similarity(query, key, module.heads), value


@dataclasses.dataclass(frozen=True)
class RestormerConvention(Convention):
    """Restormer's MDTA: a fused 1×1 then 3×3 depth-wise projection, softmax(q kᵀ·temperature), 1×1 output.

    With GLMHA the fused projection has C + 2C' channels: q first, then k, then v.

    Args:
        bias: whether the convolutions have biases (upstream's `bias`).
    """

    bias: bool = False

    def build(self, module: ChannelAttention) -> None:
        """Register temperature, qkv, qkv_dwconv and project_out."""
        channels, key_channels = module.channels, module.key_channels
        projected = channels + 2 * key_channels
        module.temperature = nn.Parameter(torch.ones(module.heads, 1, 1))
        module.qkv = nn.Conv2d(channels, projected, 1, bias=self.bias)
        module.qkv_dwconv = nn.Conv2d(projected, projected, 3, padding=1, groups=projected, bias=self.bias)
        module.project_out = nn.Conv2d(channels, channels, 1, bias=self.bias)

    def temperature(self, module: ChannelAttention) -> Tensor:
        """See base class."""
        return module.temperature

    def tokens(self, module: ChannelAttention, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor, Tensor]:
        """See base class; the calibration is folded into the weights: W (x ⊙ s) = (W diag(s)) x."""
        channels, key_channels = module.channels, module.key_channels
        if calibrate is None:
            projected = self._project(module, x, slice(None))
            query, key, value = to_tokens(projected).split([channels, key_channels, key_channels], 2)
            return query, key, value
        query = self._project(module, x, slice(channels))
        key_value = self._project(module, x, slice(channels, None), calibrate(query))
        key, value = to_tokens(key_value).chunk(2, 2)
        return to_tokens(query), key, value

    def similarity(self, module: ChannelAttention, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor]:
        """See base class; at inference in bands of rows, of which only the values (and calibrated queries) are kept."""
        if not streams(x) or functional.computes_in_float16(x):
            return super().similarity(module, x, calibrate)
        channels, key_channels, heads = module.channels, module.key_channels, module.heads
        query_map = scale = None
        if calibrate is not None:
            query_map = empty_like_image(x, channels)
            for band in bands(x, channels, halo=1):
                projected = self._project(module, x[:, :, band.low : band.high], slice(channels))
                query_map[:, :, band.start : band.stop] = band.inner(projected)
            scale = calibrate(query_map)
        rest = slice(0 if query_map is None else channels, None)
        value_map = empty_like_image(x, key_channels)
        products, query_square, key_square = [], [], []
        for band in bands(x, channels + 2 * key_channels, halo=1):
            projected = band.inner(self._project(module, x[:, :, band.low : band.high], rest, scale))
            key = to_tokens(projected[:, -2 * key_channels : -key_channels])
            if query_map is None:
                query = to_tokens(projected[:, :channels])
            else:
                query = to_tokens(query_map[:, :, band.start : band.stop])
            products.append(functional.at_least_float32(functional.head_products(query, key, heads)))
            query_square.append(functional.channel_norms(query, heads).square())
            key_square.append(functional.channel_norms(key, heads).square())
            value_map[:, :, band.start : band.stop] = projected[:, -key_channels:]
        norms = [torch.stack(squares).sum(0).sqrt() for squares in (query_square, key_square)]
        return functional.cosine(torch.stack(products).sum(0), *norms), to_tokens(value_map)

    def _project(self, module: ChannelAttention, x: Tensor, part: slice, scale: Tensor | None = None) -> Tensor:
        """Channels `part` of the fused projection, its input channels scaled by `scale` (B, C) if given."""
        point, depth = module.qkv, module.qkv_dwconv
        weight = point.weight[part]
        bias = None if point.bias is None else point.bias[part]
        if scale is None:
            projected = F.conv2d(x, weight, bias)
        else:
            projected = pointwise(x, weight.flatten(1) * scale.unsqueeze(1), bias)
        return depthwise(projected, depth.weight[part], None if depth.bias is None else depth.bias[part])

    def output(
        self, module: ChannelAttention, attention: Tensor, value: Tensor, x: Tensor, mask: Tensor | None
    ) -> Tensor:
        """See base class."""
        if mask is not None:
            raise ValueError("mask must be None for this attention: Restormer's convention has no mask guidance")
        weight = module.project_out.weight.flatten(1)
        return to_image(functional.attend(attention, value, weight, module.project_out.bias), x)


@dataclasses.dataclass(frozen=True)
class MSTConvention(Convention):
    """MST's S-MSA: linear projections, softmax(k qᵀ·rescale), a positional branch on V, optional mask guidance.

    Upstream's rows are indexed by its `k`, so upstream's k plays the paper's Q (full, C channels) and upstream's q the
    paper's K (low-rank, C' channels). At full rank nothing but the name differs.
    With C' < C the positional branch stays depth-wise: its first convolution runs on the C' channels of V, its second
    has C outputs, of which output j of a head reads channel ⌊j·d'/d⌋ of that head. A mask's attention is made for the
    channels that the low-rank values stand for: value j of a head for channel ⌊j·d/d'⌋ of it.

    Args:
        mask_guided: whether a mask's attention multiplies the values.
        dispersed: whether that mask is a coded aperture's, to be shifted back (MST for CASSI); no matter without mask.
        linear_std: standard deviation that the linear maps start with (MST++: 0.02, biases zero); None: PyTorch's way.
    """

    mask_guided: bool = False
    dispersed: bool = True
    linear_std: float | None = None

    def build(self, module: ChannelAttention) -> None:
        """Register rescale, to_q, to_k, to_v, proj, pos_emb and, with mask guidance, mm."""
        channels, key_channels = module.channels, module.key_channels
        module.rescale = nn.Parameter(torch.ones(module.heads, 1, 1))
        module.to_q = nn.Linear(channels, key_channels, bias=False)
        module.to_k = nn.Linear(channels, channels, bias=False)
        module.to_v = nn.Linear(channels, key_channels, bias=False)
        module.proj = nn.Linear(channels, channels)
        # Containers for upstream's key names; `output` applies them, the second one with repeated input channels.
        module.pos_emb = nn.Sequential(
            nn.Conv2d(key_channels, key_channels, 3, padding=1, groups=key_channels, bias=False),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        )
        if self.mask_guided:
            module.mm = MaskGuidance(channels, key_channels, dispersed=self.dispersed)
        if self.linear_std is not None:
            for linear in (module.to_q, module.to_k, module.to_v, module.proj):
                nn.init.trunc_normal_(linear.weight, std=self.linear_std)
            nn.init.zeros_(module.proj.bias)

    def temperature(self, module: ChannelAttention) -> Tensor:
        """See base class."""
        return module.rescale

    def tokens(self, module: ChannelAttention, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor, Tensor]:
        """See base class; the values are not yet multiplied by the mask's attention."""
        query = self._project(x, module.to_k)
        scale = None if calibrate is None else calibrate(query)
        # Two products, not one with both weights: halves of its rows would be copied by every kernel that reads them.
        key, value = self._project(x, module.to_q, scale), self._project(x, module.to_v, scale)
        return to_tokens(query), to_tokens(key), to_tokens(value)

    def similarity(self, module: ChannelAttention, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor]:
        """See base class; takes the Gram matrix of x where that is cheaper than forming keys (and queries).

        Squares of small queries come out of large sums there, so half precision always takes the direct route.
        """
        pixels = x.shape[-2] * x.shape[-1]
        shape = (pixels, module.channels, module.key_channels, module.heads)
        route = functional.similarity_route(*shape, query_needed=calibrate is not None)
        device = x.device.type
        autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        if route == "direct" or autocast or x.element_size() < 4:
            return super().similarity(module, x, calibrate)
        scale = None if calibrate is None else calibrate(self._project(x, module.to_k))
        value = to_tokens(self._project(x, module.to_v, scale))
        key_weight = module.to_q.weight if scale is None else module.to_q.weight * scale.unsqueeze(1)
        return functional.gram_similarity(to_tokens(x), module.to_k.weight, key_weight, module.heads), value

    def _project(self, x: Tensor, linear: nn.Linear, scale: Tensor | None = None) -> Tensor:
        """A linear map of every pixel, its input channels scaled by `scale` (B, C) if given: (B, C, H, W) → image."""
        if scale is not None:
            return pointwise(x, linear.weight * scale.unsqueeze(1))
        # The same as `linear`, by the convolution kernels, which are up to twice as fast at a few dozen channels.
        return F.conv2d(x, linear.weight[:, :, None, None])

    def output(
        self, module: ChannelAttention, attention: Tensor, value: Tensor, x: Tensor, mask: Tensor | None
    ) -> Tensor:
        """See base class.

        Raises:
            ValueError: if a mask is given without mask guidance, or the other way round, or has another size than `x`.
        """
        if (mask is not None) != self.mask_guided:
            raise ValueError(f"mask must be {'given' if self.mask_guided else 'None'}: mask_guided={self.mask_guided}")
        positional = self._positional(module, to_image(value, x))
        if mask is not None:
            # Upstream's rule: the first mask of the batch guides every image.
            guidance = module.mm(mask[:1])
            if guidance.shape[-2:] != x.shape[-2:]:
                raise ValueError(
                    f"mask (height {mask.shape[-2]}, width {mask.shape[-1]}) must give attention of the size of x, "
                    f"{tuple(x.shape[-2:])}, got {tuple(guidance.shape[-2:])}"
                )
            value = value * to_tokens(guidance)
        return to_image(functional.attend(attention, value, module.proj.weight, module.proj.bias), x) + positional

    def _positional(self, module: ChannelAttention, value: Tensor) -> Tensor:
        """The positional branch of values (B, C', H, W): (B, C, H, W)."""
        first, second = (module.pos_emb.get_parameter(name) for name in ("0.weight", "2.weight"))
        hidden = F.gelu(depthwise(value, first))
        return depthwise(take_channels(hidden, module.channels), second)
