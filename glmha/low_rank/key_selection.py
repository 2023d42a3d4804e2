"""Keys of the closed-form start: the channels whose softmax best reproduces the dense output."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from glmha.low_rank.moments import Statistics

# Subsets of a head's channels are all tried up to this number, else searched greedily.
EXHAUSTIVE_LIMIT = 1000


def restricted(scores: Tensor, kept: Tensor) -> Tensor:
    """Take the softmax over the kept channels of each head: scores (B, h, d, d), kept (h, d') → (B, h, d, d')."""
    return scores.gather(3, kept[None, :, None].expand(*scores.shape[:3], -1)).softmax(-1)


def select(statistics: Statistics, rank: int) -> Tensor:
    """Select the channels of each head whose softmax best reproduces A V: (h, rank), ascending."""
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
    """Compute ‖softmax over a subset of channels times their values - A V‖² over the images, for every subset.

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
    """Search a subset greedily: add the best channel until there are `rank`, then swap single ones while that helps."""

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
