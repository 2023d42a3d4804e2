"""Closed-form start of GLMHA from trained dense weights: keys by selection, values by least squares.

Search and least squares never visit pixels: with patches p of the input (one tap of a 1×1 projection, nine of a
depth-wise 3×3 one), values are V = T p, and every error below is a quadratic form of the second moments R = Σ p pᵀ of
an image.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from glmha.attention.base import ChannelAttention
from glmha.conventions.mst import MSTConvention
from glmha.conventions.restormer import RestormerConvention
from glmha.low_rank.key_selection import restricted, select
from glmha.low_rank.moments import Statistics, second_moments
from glmha.low_rank.mst import write_mst
from glmha.low_rank.restormer import write_restormer
from glmha.low_rank.value_fit import mixing, refine


def fit(module: ChannelAttention, dense: ChannelAttention, features: Sequence[Tensor]) -> None:
    """Set a module's parameters so that its outputs on some inputs are close to those of a dense one.

    Queries, temperature and output are copied. Per head the keys are
    those of the subset of channels whose softmax best reproduces A V. Values minimise ‖W_out (A̲ V̲ - A V)‖² over the
    inputs: V̲ = M V by least squares, made separable by a rank-1 SVD per channel where the projection is 1×1 and then
    depth-wise, then refined by alternating least squares. In MST's convention the positional branch takes each value's
    most similar dense channel for its first convolution and fits its second; rows of the mask's guidance are spread.

    Args:
        module: changed in place; same channels, heads and convention as `dense`.
        dense: the trained module.
        features: inputs of `dense`, each (B, C, H, W); sizes may differ.

    Raises:
        ValueError: if there are no features, or one has another shape than (B, C, H, W) with C of `dense`.
        TypeError: if the convention is neither Restormer's nor MST's.
    """
    if not features:
        raise ValueError("features must hold at least one input of the dense module, got none")
    for index, x in enumerate(features):
        if x.ndim != 4 or x.shape[1] != dense.channels:
            raise ValueError(
                f"features[{index}] must have the shape (B, {dense.channels}, H, W) of the dense module's inputs, "
                f"got {tuple(x.shape)}"
            )
    with torch.no_grad():
        if module.key_channels == module.channels:
            module.load_state_dict(dense.state_dict(), strict=False)
            return
        exact = copy.deepcopy(dense).double()
        images = [image[None].double() for x in features for image in x.detach()]
        statistics = measure(exact, images)
        kept = select(statistics, module.key_channels // module.heads)
        attention = restricted(statistics.scores, kept)
        mix = mixing(statistics, attention, kept)
        offsets = torch.arange(0, module.channels, module.channels // module.heads, device=kept.device)
        rows = (kept + offsets[:, None]).flatten()
        if isinstance(module.convention, RestormerConvention):
            output = exact.project_out.weight.flatten(1)
            write_restormer(module, exact, rows, mix, *refine(statistics, attention, mix, output))
        elif isinstance(module.convention, MSTConvention):
            pointwise, factor = refine(statistics, attention, mix, exact.proj.weight)
            write_mst(module, exact, rows, pointwise * factor, images)
        else:
            raise TypeError(f"convention ({module.convention}) must be Restormer's or MST's to be started from weights")


def measure(dense: ChannelAttention, images: Sequence[Tensor]) -> Statistics:
    """Scores and second moments of float64 images (1, C, H, W), sizes may differ, and the values' linear map."""
    scores, moments = [], []
    for x in images:
        cosines, _ = dense.convention.similarity(dense, x, None)
        scores.append(cosines[0] * dense.convention.temperature(dense))
    if isinstance(dense.convention, RestormerConvention):
        part = slice(-dense.channels, None)
        pointwise, depth = dense.qkv.weight[part].flatten(1), dense.qkv_dwconv.weight[part].flatten(1)
        if dense.qkv.bias is not None:
            # A constant channel carries the bias, because zero padding comes between it and the depth-wise kernel.
            pointwise = torch.cat([pointwise, dense.qkv.bias[part, None]], 1)
            images = [torch.cat([x, torch.ones_like(x[:, :1])], 1) for x in images]
        values = (pointwise.unsqueeze(2) * depth.unsqueeze(1)).flatten(1)
    else:
        depth, values = None, dense.to_v.weight
    for x in images:
        moments.append(second_moments(x, 1 if depth is None else 3))
    return Statistics(torch.stack(scores), torch.stack(moments), values, 1 if depth is None else 9)
