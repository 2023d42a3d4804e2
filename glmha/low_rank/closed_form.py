"""Closed-form start of GLMHA from trained dense weights: keys by selection, values by least squares.

Search and least squares never visit pixels. With patches p of the input (one tap of a 1×1 projection, nine of a
depth-wise 3×3 one), values are V = T p, and every error below is a quadratic form of the second moments R = Σ p pᵀ of
an image.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from glmha.attention.base import ChannelAttention
from glmha.conventions.base import Convention
from glmha.conventions.mst import MSTConvention
from glmha.conventions.restormer import RestormerConvention
from glmha.low_rank.key_selection import restricted, select
from glmha.low_rank.moments import collect_statistics
from glmha.low_rank.mst import MSTWeights
from glmha.low_rank.restormer import RestormerWeights
from glmha.low_rank.value_fit import mixing, refine
from glmha.low_rank.weights import ConventionWeights, Fit

WEIGHTS: dict[type[Convention], ConventionWeights] = {
    RestormerConvention: RestormerWeights(),
    MSTConvention: MSTWeights(),
}


def fit(module: ChannelAttention, dense: ChannelAttention, features: Sequence[Tensor]) -> None:
    """Set a module's parameters so that its outputs on some inputs are close to those of a dense one.

    Queries, temperature and output are copied. Per head the keys are those of the subset of channels whose softmax best
    reproduces A V. Values minimise ‖W_out (A̲ V̲ - A V)‖² over the inputs: V̲ = M V by least squares, made separable by
    a rank-1 SVD per channel where the projection is 1×1 and then depth-wise, then refined by alternating least squares.
    A module of full rank gets the dense weights. Parameters that a dense module lacks stay as they are.

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
        weights = weights_of(module.convention)
        exact = copy.deepcopy(dense).double()
        images = [image[None].double() for x in features for image in x.detach()]
        statistics = collect_statistics(exact, weights, images)
        kept = select(statistics, module.key_channels // module.heads)
        attention = restricted(statistics.scores, kept)
        mix = mixing(statistics, attention, kept)
        pointwise, depth = refine(statistics, attention, mix, weights.output(exact))
        offsets = torch.arange(0, module.channels, module.channels // module.heads, device=kept.device)
        rows = (kept + offsets[:, None]).flatten()
        weights.write(module, exact, Fit(rows, mix, pointwise, depth), images)


def weights_of(convention: Convention) -> ConventionWeights:
    """Find the object that reads and writes the weights of a convention, by its class.

    Raises:
        TypeError: if the convention is neither Restormer's nor MST's.
    """
    for kind, weights in WEIGHTS.items():
        if isinstance(convention, kind):
            return weights
    raise TypeError(f"convention ({convention}) must be Restormer's or MST's to be started from weights")
