"""Clusters of a window's tokens by content: equal groups of neighbours in feature space, by a balanced tree."""

import torch
from torch import Tensor


def splits(count: int, ways: int) -> list[int]:
    """Numbers of parts into which the levels of a tree with `count` leaves split, `ways` while that divides."""
    factors = []
    while count > 1:
        parts = next(number for number in (ways, *range(2, count + 1)) if count % number == 0)
        factors.append(parts)
        count //= parts
    return factors


def balanced_order(tokens: Tensor, leaves: int, ways: int = 2) -> Tensor:
    """Order tokens so that each of `leaves` equal runs of neighbours holds tokens that are alike.

    From the root down every node sorts its tokens along the direction in which they vary most, and splits them evenly.
    The direction is the channel of largest variance after one power iteration with the covariance.

    Args:
        tokens: (W, h, N, d); `leaves` divides N.
        leaves: number of groups.
        ways: parts that a level splits into, where that divides; more are faster and coarser.

    Returns:
        Numbers of the tokens, shape (W, h, N).
    """
    tokens = tokens.detach().to(torch.promote_types(tokens.dtype, torch.float32))
    order = torch.arange(tokens.shape[2], device=tokens.device).expand(tokens.shape[:3])
    nodes = 1
    for parts in splits(leaves, ways):
        members = tokens.unflatten(2, (nodes, -1))
        members = members - members.mean(3, keepdim=True)
        variances = members.square().sum(3)
        widest = variances.argmax(3, keepdim=True).unsqueeze(3)
        # The covariance's column of that channel: one power iteration from the unit vector.
        column = members.gather(4, widest.expand(*members.shape[:4], 1)).transpose(3, 4) @ members
        places = (members @ column.transpose(3, 4)).squeeze(4).argsort(3).flatten(2)
        first = members.shape[3] * torch.arange(nodes, device=tokens.device)
        step = (places.unflatten(2, (nodes, -1)) + first.unsqueeze(1)).flatten(2)
        tokens, order = rows(tokens, step), order.gather(2, step)
        nodes *= parts
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
