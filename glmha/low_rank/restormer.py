"""The closed-form start in Restormer's convention, whose values come after a depth-wise convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glmha.attention.base import ChannelAttention
from glmha.low_rank.weights import ConventionWeights, Fit


class RestormerWeights(ConventionWeights):
    """Weights of `RestormerConvention`: a fused 1×1 and depth-wise 3×3 projection, and a 1×1 output."""

    kernel_size = 3

    def patch_source(self, dense: ChannelAttention, x: Tensor) -> Tensor:
        """Append a constant channel if the convolutions have biases: (1, C, H, W) → (1, C + 1, H, W).

        The constant channel carries the bias, because zero padding comes between it and the depth-wise kernel.
        """
        return x if dense.qkv.bias is None else torch.cat([x, torch.ones_like(x[:, :1])], 1)

    def values(self, dense: ChannelAttention) -> Tensor:
        """Multiply the 1×1 weights of V by its depth-wise kernels: (C, 9·C), or (C, 9·(C + 1)) with biases."""
        part = slice(-dense.channels, None)
        pointwise, depth = dense.qkv.weight[part].flatten(1), dense.qkv_dwconv.weight[part].flatten(1)
        if dense.qkv.bias is not None:
            pointwise = torch.cat([pointwise, dense.qkv.bias[part, None]], 1)
        return (pointwise.unsqueeze(2) * depth.unsqueeze(1)).flatten(1)

    def output(self, dense: ChannelAttention) -> Tensor:
        """Return the weights of the 1×1 output convolution as a matrix, (C, C)."""
        return dense.project_out.weight.flatten(1)

    def write(self, module: ChannelAttention, dense: ChannelAttention, fit: Fit, images: Sequence[Tensor]) -> None:
        """Copy queries and output from `dense`, its rows as keys, and the values as fitted; `images` are not needed."""
        channels = module.channels
        first = torch.cat([torch.arange(channels, device=fit.rows.device), channels + fit.rows])
        module.temperature.copy_(dense.temperature)
        module.project_out.load_state_dict(dense.project_out.state_dict())
        values = fit.pointwise[:, :channels, None, None]
        module.qkv.weight.copy_(torch.cat([dense.qkv.weight[first], values]))
        module.qkv_dwconv.weight.copy_(torch.cat([dense.qkv_dwconv.weight[first], fit.depth.view(-1, 1, 3, 3)]))
        if dense.qkv.bias is not None:
            depth_bias = dense.get_parameter("qkv_dwconv.bias")
            constants = (fit.mix @ depth_bias[-channels:].view(len(fit.mix), -1, 1)).flatten()
            module.get_parameter("qkv.bias").copy_(torch.cat([dense.qkv.bias[first], fit.pointwise[:, channels]]))
            module.get_parameter("qkv_dwconv.bias").copy_(torch.cat([depth_bias[first], constants]))
