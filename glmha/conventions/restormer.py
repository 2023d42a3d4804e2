"""Restormer's convention: a fused 1×1 and depth-wise projection, and a 1×1 output."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmha import functional
from glmha.conventions.base import AttentionModule, Calibrate, Convention
from glmha.cpu.row_bands import bands, streams
from glmha.layers import depthwise, empty_like_image, pointwise, to_image, to_tokens


@dataclasses.dataclass(frozen=True)
class RestormerConvention(Convention):
    """Restormer's MDTA: a fused 1×1 then 3×3 depth-wise projection, softmax(q kᵀ·temperature), 1×1 output.

    With GLMHA the fused projection has C + 2C' channels: q first, then k, then v.

    Args:
        bias: whether the convolutions have biases (upstream's `bias`).
    """

    bias: bool = False

    def build(self, module: AttentionModule) -> None:
        """Register temperature, qkv, qkv_dwconv and project_out."""
        channels, key_channels = module.channels, module.key_channels
        projected = channels + 2 * key_channels
        module.temperature = nn.Parameter(torch.ones(module.heads, 1, 1))
        module.qkv = nn.Conv2d(channels, projected, 1, bias=self.bias)
        module.qkv_dwconv = nn.Conv2d(projected, projected, 3, padding=1, groups=projected, bias=self.bias)
        module.project_out = nn.Conv2d(channels, channels, 1, bias=self.bias)

    def temperature(self, module: AttentionModule) -> Tensor:
        """Return the parameter `temperature`: 1/β of Eq. (2), per head, shape (h, 1, 1)."""
        return module.temperature

    def tokens(self, module: AttentionModule, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor, Tensor]:
        """Project an image to queries, keys and values; arguments and results as in the base class.

        The calibration is folded into the weights: W (x ⊙ s) = (W diag(s)) x.
        """
        channels, key_channels = module.channels, module.key_channels
        if calibrate is None:
            projected = self._project(module, x, slice(None))
            query, key, value = to_tokens(projected).split([channels, key_channels, key_channels], 2)
            return query, key, value
        query = self._project(module, x, slice(channels))
        key_value = self._project(module, x, slice(channels, None), calibrate(query))
        key, value = to_tokens(key_value).chunk(2, 2)
        return to_tokens(query), key, value

    def similarity(self, module: AttentionModule, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor]:
        """Compute the cosines of queries and keys; arguments and results as in the base class.

        At inference the image is processed in bands of rows, of which only values and calibrated queries are kept.
        """
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

    def _project(self, module: AttentionModule, x: Tensor, part: slice, scale: Tensor | None = None) -> Tensor:
        """Compute channels `part` of the fused projection, with input channels scaled by `scale` (B, C) if given."""
        point, depth = module.qkv, module.qkv_dwconv
        weight = point.weight[part]
        bias = None if point.bias is None else point.bias[part]
        if scale is None:
            projected = F.conv2d(x, weight, bias)
        else:
            projected = pointwise(x, weight.flatten(1) * scale.unsqueeze(1), bias)
        return depthwise(projected, depth.weight[part], None if depth.bias is None else depth.bias[part])

    def output(
        self, module: AttentionModule, attention: Tensor, value: Tensor, x: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Apply the attention matrix and the 1×1 output convolution; arguments and result as in the base class.

        Raises:
            ValueError: if a mask is given.
        """
        if mask is not None:
            raise ValueError("mask must be None for this attention: Restormer's convention has no mask guidance")
        weight = module.project_out.weight.flatten(1)
        return to_image(functional.attend(attention, value, weight, module.project_out.bias), x)
