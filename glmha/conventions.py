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

from glmha import functional
from glmha.layers import MaskGuidance, depthwise, pointwise, spread, to_image, to_tokens

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
    def tokens(
        self, module: ChannelAttention, x: Tensor, calibrate: Calibrate | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, N, C), keys and values (B, N, C') of an image (B, C, H, W)."""

    @abc.abstractmethod
    def output(
        self, module: ChannelAttention, attention: Tensor, value: Tensor, x: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Apply the attention matrix (B, h, d, d') to the values and project to an image like `x`."""

    def similarity(self, module: ChannelAttention, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor]:
        """Cosines (B, h, d, d') of queries and keys, and the values (B, N, C')."""
        query, key, value = self.tokens(module, x, calibrate)
        return functional.similarity(query, key, module.heads), value


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

    def tokens(
        self, module: ChannelAttention, x: Tensor, calibrate: Calibrate | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See base class; the calibration is folded into the weights: W (x ⊙ s) = (W diag(s)) x."""
        channels, key_channels = module.channels, module.key_channels
        if calibrate is None:
            projected = depthwise(module.qkv(x), module.qkv_dwconv.weight, module.qkv_dwconv.bias)
            query, key, value = to_tokens(projected).split([channels, key_channels, key_channels], 2)
            return query, key, value
        sizes = [channels, 2 * key_channels]
        weight_q, weight_kv = module.qkv.weight.split(sizes)
        depth_q, depth_kv = module.qkv_dwconv.weight.split(sizes)
        bias_q = bias_kv = depth_bias_q = depth_bias_kv = None
        if module.qkv.bias is not None and module.qkv_dwconv.bias is not None:
            bias_q, bias_kv = module.qkv.bias.split(sizes)
            depth_bias_q, depth_bias_kv = module.qkv_dwconv.bias.split(sizes)
        query = depthwise(F.conv2d(x, weight_q, bias_q), depth_q, depth_bias_q)
        folded = weight_kv.flatten(1) * calibrate(query).unsqueeze(1)
        key_value = to_tokens(depthwise(pointwise(x, folded, bias_kv), depth_kv, depth_bias_kv))
        key, value = key_value.chunk(2, 2)
        return to_tokens(query), key, value

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
    has C outputs, of which output j of a head reads channel ⌊j·d'/d⌋ of that head. A mask's attention is read at the
    channels that the low-rank values stand for, by the same rule.

    Args:
        mask_guided: whether a mask's attention multiplies the values (MST for CASSI).
    """

    mask_guided: bool = False

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
            module.mm = MaskGuidance(channels)

    def temperature(self, module: ChannelAttention) -> Tensor:
        """See base class."""
        return module.rescale

    def tokens(
        self, module: ChannelAttention, x: Tensor, calibrate: Calibrate | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See base class; the values are not yet multiplied by the mask's attention."""
        tokens = to_tokens(x)
        query = F.linear(tokens, module.to_k.weight)
        key_value_weight = torch.cat([module.to_q.weight, module.to_v.weight])
        if calibrate is None:
            key_value = F.linear(tokens, key_value_weight)
        else:
            key_value = to_tokens(pointwise(x, key_value_weight * calibrate(to_image(query, x)).unsqueeze(1)))
        key, value = key_value.chunk(2, 2)
        return query, key, value

    def similarity(self, module: ChannelAttention, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor]:
        """See base class; takes the Gram matrix of x where that is cheaper than forming keys (and queries)."""
        pixels = x.shape[-2] * x.shape[-1]
        shape = (pixels, module.channels, module.key_channels, module.heads)
        if functional.similarity_route(*shape, query_needed=calibrate is not None) == "direct":
            return super().similarity(module, x, calibrate)
        tokens = to_tokens(x)
        key_weight, value_weight = module.to_q.weight, module.to_v.weight
        gram = functional.head_products(tokens, tokens, 1)[:, 0]
        if calibrate is None:
            value = F.linear(tokens, value_weight)
        else:
            scale = calibrate(to_image(F.linear(tokens, module.to_k.weight), x)).unsqueeze(1)
            key_weight = key_weight * scale
            value = to_tokens(pointwise(x, value_weight * scale))
        return functional.gram_similarity(gram, module.to_k.weight, key_weight, module.heads), value

    def output(
        self, module: ChannelAttention, attention: Tensor, value: Tensor, x: Tensor, mask: Tensor | None
    ) -> Tensor:
        """See base class.

        Raises:
            ValueError: if a mask is given without mask guidance, or the other way round.
        """
        if (mask is not None) != self.mask_guided:
            raise ValueError(f"mask must {'be given' if self.mask_guided else 'be None'}: mask_guided={self.mask_guided}")
        image = to_image(value, x)
        positional = F.gelu(depthwise(image, module.pos_emb[0].weight))
        if mask is not None:
            # Upstream's rule: the first mask of the batch guides every image.
            guidance = module.mm(mask)[:1]
            value = value * to_tokens(guidance[:, spread(module.key_channels, module.channels, module.heads)])
        positional = depthwise(
            positional[:, spread(module.channels, module.key_channels, module.heads)], module.pos_emb[2].weight
        )
        mixed = functional.attend(attention, value, module.proj.weight, module.proj.bias)
        return to_image(mixed, x) + positional
