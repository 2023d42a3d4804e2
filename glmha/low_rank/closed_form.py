"""Closed-form start of GLMHA from trained dense weights: keys by selection, values by least squares.

Search and least squares never visit pixels: with patches p of the input (one tap of a 1×1 projection, nine of a
depth-wise 3×3 one), values are V = T p, and every error below is a quadratic form of the second moments R = Σ p pᵀ of
an image.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glmha.conventions import MSTConvention, RestormerConvention
from glmha.layers import depthwise, spread, take_channels

if TYPE_CHECKING:
    from glmha.attention import GLMHA, ChannelAttention

# Subsets of a head's channels are all tried up to this number, else searched greedily.
EXHAUSTIVE_LIMIT = 1000
# Relative weight that holds least squares to what they start from: a few images leave directions undetermined.
RIDGE = 1e-2
SWEEPS = 5
# The same for a positional kernel, whose nine unknowns any image determines.
POSITIONAL_RIDGE = 1e-6
# Pixels whose patches are written at once.
PIXELS = 2**14


class Statistics(NamedTuple):
    """What the fit needs of the calibration images, all float64.

    Args:
        scores: cosines times temperature, (B, h, d, d).
        moments: second moments of the patches, (B, F, F), F = channels · taps.
        values: T, dense values as a linear map of the patches, (C, F).
        taps: 9 for a depth-wise 3×3 convolution after the 1×1, 1 without.
    """

    scores: Tensor
    moments: Tensor
    values: Tensor
    taps: int


def fit(module: GLMHA, dense: ChannelAttention, features: Sequence[Tensor]) -> None:
    """Set a module's parameters so that its outputs on some inputs are close to those of a dense one.

    φ is made neutral (its last linear map zero), queries, temperature and output are copied. Per head the keys are
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
        if module.calibration is not None:
            module.calibration.mix.weight.zero_()
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


def second_moments(x: Tensor, size: int) -> Tensor:
    """Σ p pᵀ over all size×size patches p, zero-padded, of an image (1, C, H, W): (C·size², C·size²), mean scale 1."""
    height, width = x.shape[-2:]
    padded = F.pad(x, [size // 2] * 4)
    total = x.new_zeros(x.shape[1] * size**2, x.shape[1] * size**2)
    rows = max(1, PIXELS // width)
    for start in range(0, height, rows):
        patches = F.unfold(padded[:, :, start : start + rows + size - 1], size)[0]
        total += patches @ patches.T
    # Images of any size and brightness weigh the same, as in a relative error.
    return total / total.diagonal().mean().clamp_min(torch.finfo(total.dtype).tiny)


def restricted(scores: Tensor, kept: Tensor) -> Tensor:
    """Softmax over the kept channels of each head: scores (B, h, d, d), kept (h, d') → (B, h, d, d')."""
    return scores.gather(3, kept[None, :, None].expand(*scores.shape[:3], -1)).softmax(-1)


def select(statistics: Statistics, rank: int) -> Tensor:
    """Channels of each head whose softmax best reproduces A V, ascending, (h, rank)."""
    scores, moments, values, _ = statistics
    heads = scores.shape[1]
    kept = []
    for head, weight in enumerate(values.chunk(heads)):
        gram = weight @ moments @ weight.T
        own = scores[:, head]
        channels = own.shape[-1]
        if math.comb(channels, rank) <= EXHAUSTIVE_LIMIT:
            candidates = torch.tensor(list(itertools.combinations(range(channels), rank)), device=own.device)
            kept.append(candidates[subset_errors(own, gram, candidates).argmin()])
        else:
            kept.append(search(own, gram, rank))
    return torch.stack(kept)


def subset_errors(scores: Tensor, gram: Tensor, subsets: Tensor) -> Tensor:
    """‖softmax over a subset of channels times their values - A V‖² over the images, for every subset.

    Args:
        scores: of one head, (B, d, d).
        gram: V Vᵀ, (B, d, d).
        subsets: channels, (n, d').

    Returns:
        Shape (n,).
    """
    channels = scores.shape[-1]
    visible = torch.zeros(len(subsets), 1, 1, channels, dtype=torch.bool, device=scores.device)
    visible[:, 0, 0].scatter_(1, subsets, True)
    difference = scores.masked_fill(~visible, -torch.inf).softmax(-1) - scores.softmax(-1)
    return ((difference @ gram) * difference).sum((1, 2, 3))


def search(scores: Tensor, gram: Tensor, rank: int) -> Tensor:
    """Greedy subset: add the best channel until there are `rank`, then swap one at a time while that helps."""

    def best(candidates: list[list[int]]) -> tuple[float, list[int]]:
        errors = subset_errors(scores, gram, torch.tensor(candidates, device=scores.device))
        return float(errors.min()), candidates[int(errors.argmin())]

    channels = range(scores.shape[-1])
    subset: list[int] = []
    error = math.inf
    while len(subset) < rank:
        error, subset = best([[*subset, new] for new in channels if new not in subset])
    improved = True
    while improved:
        improved = False
        for old in tuple(subset):
            rest = [channel for channel in subset if channel != old]
            lower, swapped = best([[*rest, new] for new in channels if new not in subset] or [subset])
            if lower < error * (1 - 1e-9):
                error, subset, improved = lower, swapped, True
    return torch.tensor(sorted(subset), device=scores.device)


def mixing(statistics: Statistics, attention: Tensor, kept: Tensor) -> Tensor:
    """M of each head that minimises ‖A̲ M V - A V‖² over the images, held to the selection: (h, d', d)."""
    scores, moments, values, _ = statistics
    heads = scores.shape[1]
    mixed = []
    for head, weight in enumerate(values.chunk(heads)):
        gram = weight @ moments @ weight.T
        low, full = attention[:, head], scores[:, head].softmax(-1)
        selection = F.one_hot(kept[head], weight.shape[0]).to(weight)
        inner = low.transpose(1, 2) @ low
        # Row-major M: (H ⊗ G) vec M = vec(A̲ᵀ A G), H = A̲ᵀ A̲, summed over the images.
        system = torch.einsum("bij,bkl->ikjl", inner, gram).flatten(2).flatten(0, 1)
        residual = ((low.transpose(1, 2) @ (full - low @ selection)) @ gram).sum(0)
        ridge = RIDGE * system.diagonal().mean()
        system.diagonal().add_(ridge.clamp_min(torch.finfo(system.dtype).tiny))
        mixed.append(selection + torch.linalg.solve(system, residual.flatten()).view_as(selection))
    return torch.stack(mixed)


def refine(statistics: Statistics, attention: Tensor, mix: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Separable values that minimise ‖W_out (A̲ V̲ - A V)‖²: rank-1 SVD of M V, then alternating least squares.

    Args:
        statistics: of the calibration images.
        attention: A̲, (B, h, d, d').
        mix: M, (h, d', d).
        output: W_out, (C, C).

    Returns:
        1×1 weights (C', channels of the moments) and depth-wise kernels (C', taps).
    """
    scores, moments, values, taps = statistics
    per_head = output.unflatten(1, (attention.shape[1], -1)).transpose(0, 1)
    low = (per_head @ attention).transpose(1, 2).flatten(2)
    full = (per_head @ scores.softmax(-1)).transpose(1, 2).flatten(2) @ values
    composite = torch.cat([m @ v for m, v in zip(mix, values.chunk(len(mix)), strict=True)])
    left, singular, right = torch.linalg.svd(composite.unflatten(1, (-1, taps)), full_matrices=False)
    size = singular[:, 0].sqrt()[:, None]
    pointwise, depth = left[:, :, 0] * size, right[:, 0] * size
    inner = low.transpose(1, 2) @ low
    cross = low.transpose(1, 2) @ full
    for _ in range(SWEEPS):
        for row in range(len(pointwise)):
            kernels = (pointwise.unsqueeze(2) * depth.unsqueeze(1)).flatten(1)
            # What this channel should add up to, given all the others.
            wanted = cross[:, row] - inner[:, row] @ kernels + inner[:, row, row, None] * kernels[row]
            target = torch.einsum("bf,bfg->g", wanted, moments).view(-1, taps)
            quadratic = torch.einsum("b,bfg->fg", inner[:, row, row], moments).view(
                len(target), taps, len(target), taps
            )
            system = torch.einsum("ckdl,k,l->cd", quadratic, depth[row], depth[row])
            pointwise[row] = held(system, target @ depth[row], pointwise[row])
            if taps > 1:
                halved = (pointwise[row] @ quadratic.view(len(target), -1)).view(taps, len(target), taps)
                system = torch.einsum("kdl,d->kl", halved, pointwise[row])
                depth[row] = held(system, pointwise[row] @ target, depth[row])
    return pointwise, depth


def held(system: Tensor, target: Tensor, start: Tensor) -> Tensor:
    """Solve a least-squares system with a ridge towards where it starts."""
    ridge = RIDGE * system.diagonal().mean() + torch.finfo(system.dtype).tiny
    regular = system + ridge * torch.eye(len(system), dtype=system.dtype, device=system.device)
    return start + torch.linalg.solve(regular, target - system @ start)


def write_restormer(
    module: GLMHA, dense: ChannelAttention, rows: Tensor, mix: Tensor, pointwise: Tensor, depth: Tensor
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


def write_mst(
    module: GLMHA, dense: ChannelAttention, rows: Tensor, pointwise: Tensor, images: Sequence[Tensor]
) -> None:
    """Set a module in MST's convention: queries and output from `dense`, keys its `rows`, values as fitted.

    The positional branch and the mask's guidance, which see single values, are fitted and spread.
    """
    module.rescale.copy_(dense.rescale)
    module.to_k.weight.copy_(dense.to_k.weight)
    module.proj.load_state_dict(dense.proj.state_dict())
    module.to_q.weight.copy_(dense.to_q.weight[rows])
    module.to_v.weight.copy_(pointwise)
    first, second = positional(dense, pointwise, images)
    module.pos_emb.get_parameter("0.weight").copy_(first)
    module.pos_emb.get_parameter("2.weight").copy_(second)
    if hasattr(module, "mm"):
        read = spread(module.key_channels, module.channels)
        module.mm.conv1.load_state_dict(dense.mm.conv1.state_dict())
        for name in ("conv2", "depth_conv"):
            layer, source = getattr(module.mm, name), getattr(dense.mm, name)
            layer.weight.copy_(source.weight[read])
            layer.bias.copy_(source.bias[read])


def positional(dense: ChannelAttention, pointwise: Tensor, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Kernels of the positional branch on low-rank values: (C', 1, 3, 3) and (C, 1, 3, 3).

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
