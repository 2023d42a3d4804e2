"""The closed-form start in MST's convention: values of single pixels, a positional branch fitted to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from glmha.attention.base import ChannelAttention
from glmha.layers import channels_read, depthwise, take_channels
from glmha.low_rank.moments import second_moments
from glmha.low_rank.weights import ConventionWeights, Fit

# Relative weight of the ridge for a positional kernel. It only keeps the system regular: any image determines nine
# unknowns.
POSITIONAL_RIDGE = 1e-6


class MSTWeights(ConventionWeights):
    """Weights of `MSTConvention`: linear projections of single pixels, a positional branch, mask guidance."""

    kernel_size = 1

    def patch_source(self, dense: ChannelAttention, x: Tensor) -> Tensor:
        """Return the input itself, whose pixels the values are a linear map of."""
        return x

    def values(self, dense: ChannelAttention) -> Tensor:
        """Return W_V, (C, C)."""
        return dense.to_v.weight

    def output(self, dense: ChannelAttention) -> Tensor:
        """Return the weights of the output's linear map, (C, C)."""
        return dense.proj.weight

    def write(self, module: ChannelAttention, dense: ChannelAttention, fit: Fit, images: Sequence[Tensor]) -> None:
        """Copy queries and output from `dense`, its rows as keys, and the values as fitted.

        The positional branch sees single values and is fitted to `images`. Of the mask's guidance, the rows of the
        channels that the values stand for are copied.
        """
        values = fit.pointwise * fit.depth
        module.rescale.copy_(dense.rescale)
        module.to_k.weight.copy_(dense.to_k.weight)
        module.proj.load_state_dict(dense.proj.state_dict())
        module.to_q.weight.copy_(dense.to_q.weight[fit.rows])
        module.to_v.weight.copy_(values)
        first, second = positional(dense, values, images)
        module.pos_emb.get_parameter("0.weight").copy_(first)
        module.pos_emb.get_parameter("2.weight").copy_(second)
        if hasattr(module, "mm"):
            read = channels_read(module.key_channels, module.channels)
            module.mm.conv1.load_state_dict(dense.mm.conv1.state_dict())
            for name in ("conv2", "depth_conv"):
                layer, source = getattr(module.mm, name), getattr(dense.mm, name)
                layer.weight.copy_(source.weight[read])
                layer.bias.copy_(source.bias[read])


def positional(dense: ChannelAttention, pointwise: Tensor, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Fit the kernels of the positional branch to low-rank values: (C', 1, 3, 3) and (C, 1, 3, 3).

    Value i takes the first kernel of the dense channel of its head that it resembles most, divided by the factor
    between the two; the second kernels reproduce the dense branch by least squares, nine unknowns a channel.
    """
    heads, channels, kept = dense.heads, dense.channels, len(pointwise)
    moments = torch.stack([second_moments(x, 1) for x in images]).sum(0)
    full = dense.to_v.weight
    products = (pointwise @ moments @ full.T).view(heads, kept // heads, heads, -1)
    products = products.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    squares = (full @ moments * full).sum(1).view(heads, 1, -1).clamp_min(torch.finfo(full.dtype).tiny)
    nearest = (products.square() / squares).argmax(2, keepdim=True)
    factor = (products / squares).gather(2, nearest).flatten()
    factor = torch.where(factor.abs() < 1e-3, 1.0, factor)
    index = nearest.flatten() + torch.arange(kept, device=full.device) // (kept // heads) * (channels // heads)
    first = dense.pos_emb.get_parameter("0.weight")[index] / factor[:, None, None, None]
    dense_first, dense_second = (dense.pos_emb.get_parameter(name) for name in ("0.weight", "2.weight"))
    system = full.new_zeros(channels, 9, 9)
    target = full.new_zeros(channels, 9)
    for x in images:
        wanted = depthwise(F.gelu(depthwise(F.conv2d(x, full[:, :, None, None]), dense_first)), dense_second)
        hidden = F.gelu(depthwise(F.conv2d(x, pointwise[:, :, None, None]), first))
        patches = F.unfold(take_channels(hidden, channels).contiguous(), 3, padding=1).view(channels, 9, -1)
        scale = wanted.square().mean().clamp_min(torch.finfo(full.dtype).tiny)
        system += patches @ patches.transpose(1, 2) / scale
        target += (patches @ wanted.reshape(channels, -1, 1))[:, :, 0] / scale
    ridge = POSITIONAL_RIDGE * system.diagonal(dim1=1, dim2=2).mean(1) + torch.finfo(full.dtype).tiny
    system.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
    return first, torch.linalg.solve(system, target).view(channels, 1, 3, 3)
