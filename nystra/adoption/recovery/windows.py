"""Windows from what is added to their products: tables of offsets, borders of rolled maps, grids of windows."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from nystra.adoption.recovery.layout import Window
from nystra.windows.position_bias import TableBias

Split = tuple[int | None, int | None]


def shift_of(split: Split, window: Window) -> tuple[int, int]:
    """Tokens by which maps were rolled whose last windows have borders."""
    rows, columns = (0 if border is None else side - border for border, side in zip(split, window, strict=True))
    return rows, columns


def factorisations(tokens: int) -> list[Window]:
    """Windows of a number of tokens, the squarest first."""
    pairs = [(height, tokens // height) for height in range(1, tokens + 1) if tokens % height == 0]
    return sorted(pairs, key=lambda pair: abs(math.log(pair[0] / pair[1])))


@functools.lru_cache(maxsize=8)
def _offsets(window: Window) -> Tensor:
    """Numbers of the offsets from key to query in a table, (N, N)."""
    height, width = window
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).reshape(-1, 2)
    rows, columns = (places.unsqueeze(1) - places).unbind(2)
    return (rows + height - 1) * (2 * width - 1) + columns + width - 1


def table_of(bias: Tensor, window: Window, known: Tensor | None = None) -> TableBias | None:
    """The table from which a bias (h, N, N) is laid out where it is known, (N, N); None: there is none."""
    diagonal = bias.diagonal(dim1=1, dim2=2)
    if known is None and not torch.equal(diagonal, diagonal[:, :1].expand_as(diagonal)):
        return None
    offsets = _offsets(window).to(bias.device)
    # Any pair of tokens with an offset tells its bias.
    places = torch.arange(offsets.numel(), device=bias.device).reshape(offsets.shape)
    chosen = torch.full((int(offsets.max()) + 1,), -1, device=bias.device)
    chosen[offsets if known is None else offsets[known]] = places if known is None else places[known]
    table = torch.where(chosen >= 0, bias.flatten(1)[:, chosen.clamp_min(0)], 0.0)
    for head, values in zip(bias, table, strict=True):
        wrong = values[offsets] != head
        if bool((wrong if known is None else wrong & known).any()):
            return None
    return TableBias(table.T.contiguous(), window)


def split_of(hidden: Tensor, window: Window) -> Split | None:
    """The first row and column beyond the borders between which a mask (N, N) hides; None: it is another mask."""
    height, width = window
    seen = ~hidden[0].unflatten(0, window)
    rows, columns = int(seen[:, 0].sum()), int(seen[0].sum())
    split = (rows if rows < height else None, columns if columns < width else None)
    apart = torch.zeros_like(hidden)
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).reshape(-1, 2).to(hidden.device)
    for axis, border in enumerate(split):
        if border is not None:
            beyond = places[:, axis] >= border
            apart |= beyond.unsqueeze(1) != beyond
    return split if torch.equal(apart, hidden) else None


def grid_of(numbers: Tensor, splits: list[Split], window: Window) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Grid and shift of rolled maps whose windows, row by row, are of these kinds; None: there are none.

    Args:
        numbers: kind of each window, (W,).
        splits: of the kinds.
        window: h and w.
    """
    if all(split == (None, None) for split in splits):
        return (1, 1), (0, 0)
    vertical, horizontal = (
        torch.tensor([-1 if split[axis] is None else split[axis] for split in splits])[numbers.cpu()] for axis in (0, 1)
    )
    borders = [set(part.unique().tolist()) - {-1} for part in (vertical, horizontal)]
    if any(len(border) > 1 for border in borders):
        return None
    last = (vertical >= 0).nonzero()[:, 0]
    if borders[1]:
        columns = int((horizontal >= 0).nonzero()[0, 0]) + 1
    else:
        # Nothing tells where a row of windows ends but the first run of last ones.
        steps = (last.diff() != 1).nonzero()
        columns = int(steps[0, 0]) + 1 if len(steps) else len(last)
    rows = int(last[0]) // columns + 1 if borders[0] else 1
    if len(numbers) % (rows * columns):
        return None
    grid = (rows, columns)
    shift = shift_of((next(iter(borders[0]), None), next(iter(borders[1]), None)), window)
    expected = torch.full((2, rows, columns), -1)
    if borders[0]:
        expected[0, -1] = borders[0].pop()
    if borders[1]:
        expected[1, :, -1] = borders[1].pop()
    maps = len(numbers) // (rows * columns)
    fits = torch.equal(torch.stack([vertical, horizontal]), expected.flatten(1).repeat(1, maps))
    return (grid, shift) if fits else None
