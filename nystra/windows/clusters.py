"""Clusters of a window's tokens by content: equal groups of neighbours in feature space, by a balanced tree."""

from itertools import pairwise

import torch
from torch import Tensor

from nystra.functional import pool
from nystra.windows.cells import parts


def splits(count: int, ways: int) -> list[int]:
    """Numbers of parts into which the levels of a tree with `count` leaves split, `ways` while that divides."""
    factors = []
    while count > 1:
        parts = next(number for number in (ways, *range(2, count + 1)) if count % number == 0)
        factors.append(parts)
        count //= parts
    return factors


class Groups:
    """Runs of a sequence of tokens, see `nystra.windows.cells.parts`, side by side as runs of one size.

    Runs that are smaller than the largest hold their last token twice. The second copies are *repeats*, which are to
    count for nothing as keys.

    Args:
        count: number of tokens, N.
        number: of runs, g, at most N.
    """

    def __init__(self, count: int, number: int) -> None:
        self.number = number
        self.begins = parts(count, number)
        self.size = -(-count // number)
        self.even = self.size * number == count

    def spread(self, tokens: Tensor) -> Tensor:
        """Repeat tokens: (W, h, N, ...) → (W, h, g·size, ...)."""
        if self.even:
            return tokens
        places = [min(first + i, until - 1) for first, until in pairwise(self.begins) for i in range(self.size)]
        return tokens.index_select(2, torch.tensor(places, device=tokens.device))

    def joined(self, tokens: Tensor) -> Tensor:
        """Drop repeats: (W, h, g·size, ...) → (W, h, N, ...)."""
        if self.even:
            return tokens
        sizes = [until - first for first, until in pairwise(self.begins)]
        places = [run * self.size + i for run, size in enumerate(sizes) for i in range(size)]
        return tokens.index_select(2, torch.tensor(places, device=tokens.device))

    def repeats(self, device: torch.device) -> Tensor:
        """Which tokens are repeats: booleans, (g, size)."""
        counts = torch.tensor([until - first for first, until in pairwise(self.begins)], device=device)
        return torch.arange(self.size, device=device) >= counts.unsqueeze(1)

    def means(self, tokens: Tensor) -> Tensor:
        """Means of the runs: (W, h, g·size, d) → (W, h, g, d)."""
        if self.even:
            return pool(tokens, self.number)
        counted = (~self.repeats(tokens.device)).to(tokens.dtype).unsqueeze(2)
        return (tokens.unflatten(2, (self.number, -1)) * (counted / counted.sum(1, keepdim=True))).sum(3)


def balanced_order(tokens: Tensor, leaves: int, ways: int = 2) -> Tensor:
    """Order tokens so that each of `leaves` runs of neighbours, see `Groups`, holds tokens that are alike.

    From the root down every node sorts its tokens along the direction in which they vary most, and splits them evenly.
    The direction is the channel of largest variance after one power iteration with the covariance.

    Args:
        tokens: (W, h, N, d).
        leaves: number of runs, at most N.
        ways: parts that a level splits into, where that divides; more are faster and coarser.

    Returns:
        Numbers of the tokens, shape (W, h, N).
    """
    tokens = tokens.detach().to(torch.promote_types(tokens.dtype, torch.float32))
    order = torch.arange(tokens.shape[2], device=tokens.device).expand(*tokens.shape[:2], -1)
    nodes = 1
    for children in splits(leaves, ways):
        groups = Groups(tokens.shape[2], nodes)
        members = groups.spread(tokens)
        members = members.unflatten(2, (nodes, -1)) - groups.means(members).unsqueeze(3)
        repeats = None if groups.even else groups.repeats(tokens.device)
        if repeats is not None:
            members = members.masked_fill(repeats.unsqueeze(2), 0)
        variances = members.square().sum(3)
        widest = variances.argmax(3, keepdim=True).unsqueeze(3)
        # The covariance's column of that channel: one power iteration from the unit vector.
        column = members.gather(4, widest.expand(*members.shape[:4], 1)).transpose(3, 4) @ members
        places = (members @ column.transpose(3, 4)).squeeze(4)
        if repeats is not None:
            # Behind all others, also behind what is no number.
            places = places.nan_to_num(torch.finfo(places.dtype).max).masked_fill(repeats, torch.inf)
        first = torch.tensor(groups.begins[:-1], device=tokens.device)
        step = groups.joined((places.argsort(3) + first.unsqueeze(1)).flatten(2))
        tokens, order = rows(tokens, step), order.gather(2, step)
        nodes *= children
    return order


def rows(tokens: Tensor, order: Tensor) -> Tensor:
    """Bring tokens (W, h, N, d) into an order (W, h, n) of their numbers: (W, h, n, d)."""
    windows, heads, count, channels = tokens.shape
    start = count * torch.arange(windows * heads, device=tokens.device).view(windows, heads, 1)
    # Whole rows at once: several times faster than `gather` with an index for every channel.
    picked = tokens.reshape(-1, channels).index_select(0, (order + start).flatten())
    return picked.view(windows, heads, -1, channels)


def inverse(order: Tensor) -> Tensor:
    """The order that undoes an order (W, h, N)."""
    numbers = torch.arange(order.shape[2], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(2, order, numbers)
