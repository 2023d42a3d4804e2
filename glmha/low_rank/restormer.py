"""The closed-form start in Restormer's convention: fitted weights written into a module."""

from __future__ import annotations

import torch
from torch import Tensor

from glmha.attention.base import ChannelAttention


def write_restormer(
    module: ChannelAttention, dense: ChannelAttention, rows: Tensor, mix: Tensor, pointwise: Tensor, depth: Tensor
) -> None:
    """Set a module in Restormer's convention: queries and output from `dense`, keys its `rows`, values as fitted."""
    channels = module.channels
    first = torch.cat([torch.arange(channels, device=rows.device), channels + rows])
    module.temperature.copy_(dense.temperature)
    module.project_out.load_state_dict(dense.project_out.state_dict())
    values = pointwise[:, :channels, None, None]
    module.qkv.weight.copy_(torch.cat([dense.qkv.weight[first], values]))
    module.qkv_dwconv.weight.copy_(torch.cat([dense.qkv_dwconv.weight[first], depth.view(-1, 1, 3, 3)]))
    if dense.qkv.bias is not None:
        depth_bias = dense.get_parameter("qkv_dwconv.bias")
        constants = (mix @ depth_bias[-channels:].view(len(mix), -1, 1)).flatten()
        module.get_parameter("qkv.bias").copy_(torch.cat([dense.qkv.bias[first], pointwise[:, channels]]))
        module.get_parameter("qkv_dwconv.bias").copy_(torch.cat([depth_bias[first], constants]))
