"""Landmark-centred pooling as programs take it: what each tile of queries sees, laid out once for a kind of window."""

import math
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nystra.windows.cells import Cells


class Plan(NamedTuple):
    """Windows of one kind as the program takes them; tokens have their numbers in the cells' order.

    Attributes:
        order: numbers of the tokens, row by row, in the cells' order without repeats: int32, (N,).
        begin: the first token of each cell, and N: int32, (s + 1).
        tiles: queries that are attended together: block, first token, number of tokens, first run, number of runs and
            first row of `bias`, int32, (n, 6).
        runs: cells that queries of a tile see exactly: the first and their number, int32, (r, 2).
        mean: bias of landmarks to all tokens, times log2 e: (heads or 1, m / tile, N, tile); empty: none.
        bias: bias of each tile's queries to its block's summaries and to the tokens of its runs, times log2 e, minus
            infinity where a query does not see them: (heads or 1, rows, tile); empty: none, and every query of a tile
            sees the tokens of all its runs.
    """

    order: Tensor
    begin: Tensor
    tiles: Tensor
    runs: Tensor
    mean: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layout: Cells, near: list[list[int]], mean: Tensor | None, bias: Tensor, tile: int) -> "Plan":
        """Lay out the tables of `LandmarkPooling` for the program.

        Args:
            layout: blocks and cells.
            near: numbers of the cells that each group of tokens sees exactly, see `LandmarkPooling.near_cells`.
            mean: bias of landmarks to tokens, (heads or 1, s, m, tokens of a cell), repeats among them; None: there is
                no bias.
            bias: of each group's tokens to summaries and exact tokens, (heads or 1, groups, tokens of a group, s +
                exact), repeats among them.
            tile: queries that the program attends together.
        """
        begins = _begins(layout)
        steps, same = _steps(begins, near, layout.num_blocks, tile)
        tiles: list[tuple[int, ...]] = []
        runs: list[tuple[int, int]] = []
        row, block = 0, 0
        inner = layout.num_cells // layout.num_blocks
        for first, count, cells in steps:
            joined = _runs(cells)
            while begins[(block + 1) * inner] <= first:
                block += 1
            tiles.append((block, first, count, len(runs), len(joined), row))
            runs += joined
            row += layout.num_cells + _tokens(begins, cells)
        nothing = bias.new_empty(0)
        kept = layout.kept(bias.device)
        return cls(
            layout.order(torch.arange(math.prod(layout.window)).unsqueeze(1)).flatten()[kept].int().contiguous(),
            torch.tensor(begins, dtype=torch.int32),
            torch.tensor(tiles, dtype=torch.int32),
            torch.tensor(runs, dtype=torch.int32).reshape(-1, 2),
            nothing if mean is None else _of_landmarks(mean, kept, tile),
            nothing if mean is None and same else _of_tiles(bias, steps, near, layout, tile),
        )


Step = tuple[int, int, list[int]]


def _begins(layout: Cells) -> list[int]:
    """The first token of each cell, and the number of tokens."""
    return [0, *accumulate(layout.sizes())]


def _tokens(begins: list[int], cells: list[int]) -> int:
    """Number of tokens of some cells."""
    return sum(begins[cell + 1] - begins[cell] for cell in cells)


def _steps(begins: list[int], near: list[list[int]], blocks: int, tile: int) -> tuple[list[Step], bool]:
    """Cut a window's queries into tiles: first token, number, cells that any of them sees exactly; whether all do.

    A tile lies in one block. It takes the queries of one group, or, where groups are small, those of several.
    """
    cells = len(begins) - 1
    groups = begins[:: cells // len(near)]
    group = [number for number, (first, until) in enumerate(pairwise(groups)) for _ in range(first, until)]
    plans = []
    for units in (groups, begins[:: cells // blocks]):
        steps = []
        for start, end in pairwise(units):
            for first in range(start, end, tile):
                count = min(tile, end - first)
                seen = near[group[first] : group[first + count - 1] + 1]
                steps.append((first, count, sorted({cell for some in seen for cell in some})))
        plans.append(steps)

    # Of keys, summaries and tokens.
    costs = [sum(cells + _tokens(begins, exact) for _, _, exact in plan) for plan in plans]
    steps = plans[costs.index(min(costs))]
    seen_by = [near[group[first] : group[first + count - 1] + 1] for first, count, _ in steps]
    same = all(sorted(some) == step[2] for seen, step in zip(seen_by, steps, strict=True) for some in seen)
    return steps, same


def _runs(cells: list[int]) -> list[tuple[int, int]]:
    """Join cells that follow each other: the first and their number."""
    result: list[tuple[int, int]] = []
    for cell in cells:
        if result and sum(result[-1]) == cell:
            result[-1] = (result[-1][0], result[-1][1] + 1)
        else:
            result.append((cell, 1))
    return result


def _of_landmarks(mean: Tensor, kept: Tensor, tile: int) -> Tensor:
    blocks = (mean.float() / math.log(2)).transpose(2, 3).flatten(1, 2)[:, kept]
    return F.pad(blocks, (0, -blocks.shape[2] % tile)).unflatten(2, (-1, tile)).transpose(1, 2).contiguous()


def _of_tiles(bias: Tensor, steps: list[Step], near: list[list[int]], layout: Cells, tile: int) -> Tensor:
    # A further column for what is not seen.
    rows = F.pad((bias.float() / math.log(2)).flatten(1, 2), (0, 1), value=-torch.inf)
    cells, unseen = layout.num_cells, rows.shape[2] - 1
    size, group = rows.shape[1] // cells, rows.shape[1] // len(near)
    # The columns of a group at which the tokens of each cell begin.
    begins = torch.full((len(near), cells), unseen)
    columns = [
        (number, cell, cells + place * size) for number, seen in enumerate(near) for place, cell in enumerate(seen)
    ]
    numbers, members, places = torch.tensor(columns, dtype=torch.long).reshape(-1, 3).unbind(1)
    begins[numbers, members] = places
    firsts, counts = torch.tensor([step[:2] for step in steps]).T.unsqueeze(2)
    # Beyond the last query anything will do.
    tokens = layout.kept(bias.device)[firsts + torch.minimum(torch.arange(tile), counts - 1)]
    summaries = rows[:, tokens, :cells].transpose(2, 3)
    pairs = [(number, cell) for number, (_, _, seen) in enumerate(steps) for cell in seen]
    numbers, members = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    begin = begins[tokens[numbers] // group, members.unsqueeze(1)].unsqueeze(1)
    exact = rows[:, tokens[numbers].unsqueeze(1), (begin + torch.arange(size).unsqueeze(1)).clamp_max(unseen)]
    # Of tokens, not of their repeats.
    exact = exact[:, ~layout.repeats(bias.device).unflatten(0, (cells, size))[members]]
    parts = exact.split([_tokens(_begins(layout), seen) for _, _, seen in steps], 1)
    return torch.cat([part for both in zip(summaries.unbind(1), parts, strict=True) for part in both], 1)
