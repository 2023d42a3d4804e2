"""Landmark-centred pooling natively: what each tile of queries sees is laid out once for a kind of window."""

import ctypes
import functools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nystra.programs.cpu.library import Operator, load
from nystra.programs.cpu.maps import Attention, Windows, empty_outputs, with_dense_channels
from nystra.windows.cells import Cells
from nystra.windows.geometry import WindowGeometry
from nystra.windows.partition import Cut


class Kind(ctypes.Structure):
    """What windows of one kind have in common, see `source/landmark_pooling.cpp`."""

    _fields_ = (
        ("tile", ctypes.c_void_p),
        ("tiles", ctypes.c_int64),
        ("run", ctypes.c_void_p),
        ("mean", ctypes.c_void_p),
        ("mean_head", ctypes.c_int64),
        ("bias", ctypes.c_void_p),
        ("bias_head", ctypes.c_int64),
    )


class Arguments(Attention):
    """Arguments of the program, see `source/landmark_pooling.cpp`."""

    _fields_ = (
        ("order", ctypes.c_void_p),
        ("blocks", ctypes.c_int64),
        ("cells", ctypes.c_int64),
        ("kind", ctypes.POINTER(Kind)),
    )


class Plan(NamedTuple):
    """Windows of one kind as the program takes them; tokens have their numbers in the cells' order.

    Attributes:
        order: numbers of the tokens, row by row, in the cells' order: int32, (N,).
        tiles: queries that are attended together: block, first token, number of tokens, first run, number of runs and
            first row of `bias`, int32, (n, 6).
        runs: tokens that queries of a tile see exactly: the first and their number, int32, (r, 2).
        mean: bias of landmarks to all tokens, times log2 e: (heads or 1, m / tile, N, tile); empty: none.
        bias: bias of each tile's queries to its block's summaries and to the tokens of its runs, times log2 e, minus
            infinity where a query does not see them: (heads or 1, rows, tile); empty: none, and every query of a tile
            sees the tokens of all its runs.
    """

    order: Tensor
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
            mean: bias of landmarks to tokens, (heads or 1, s, m, tokens of a cell); None: there is no bias.
            bias: of each group's tokens to summaries and exact tokens, (heads or 1, groups, tokens of a group, s +
                exact).
            tile: queries that the program attends together.
        """
        steps, same = _steps(layout, near, tile)
        tiles: list[tuple[int, ...]] = []
        runs: list[tuple[int, int]] = []
        row = 0
        size = math.prod(layout.window) // layout.num_cells
        for first, count, cells in steps:
            joined = _runs(cells)
            block = first * layout.num_blocks // math.prod(layout.window)
            tiles.append((block, first, count, len(runs), len(joined), row))
            runs += [(cell * size, number * size) for cell, number in joined]
            row += layout.num_cells + len(cells) * size
        nothing = bias.new_empty(0)
        return cls(
            layout.order(torch.arange(math.prod(layout.window)).unsqueeze(1)).flatten().int().contiguous(),
            torch.tensor(tiles, dtype=torch.int32),
            torch.tensor(runs, dtype=torch.int32).reshape(-1, 2),
            nothing if mean is None else _of_landmarks(mean, tile),
            nothing if mean is None and same else _of_tiles(bias, steps, near, layout, tile),
        )


Step = tuple[int, int, list[int]]


def _steps(layout: Cells, near: list[list[int]], tile: int) -> tuple[list[Step], bool]:
    """Cut a window's queries into tiles: first token, number, cells that any of them sees exactly; whether all do.

    A tile lies in one block. It takes the queries of one group, or, where groups are small, those of several.
    """
    tokens = math.prod(layout.window)
    group = tokens // len(near)
    plans = []
    for unit in {group: None, tokens // layout.num_blocks: None}:
        steps = []
        for start in range(0, tokens, unit):
            for first in range(start, start + unit, tile):
                count = min(tile, start + unit - first)
                seen = near[first // group : (first + count - 1) // group + 1]
                steps.append((first, count, sorted({cell for cells in seen for cell in cells})))
        plans.append(steps)

    # Of keys, summaries and tokens.
    costs = [sum(layout.num_cells + len(cells) * tokens // layout.num_cells for _, _, cells in plan) for plan in plans]
    steps = plans[costs.index(min(costs))]
    groups = [near[first // group : (first + count - 1) // group + 1] for first, count, _ in steps]
    same = all(sorted(cells) == step[2] for seen, step in zip(groups, steps, strict=True) for cells in seen)
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


def _of_landmarks(mean: Tensor, tile: int) -> Tensor:
    blocks = (mean.float() / math.log(2)).transpose(2, 3).flatten(1, 2)
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
    tokens = firsts + torch.minimum(torch.arange(tile), counts - 1)
    summaries = rows[:, tokens, :cells].transpose(2, 3)
    pairs = [(number, cell) for number, (_, _, seen) in enumerate(steps) for cell in seen]
    numbers, members = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    begin = begins[tokens[numbers] // group, members.unsqueeze(1)].unsqueeze(1)
    exact = rows[:, tokens[numbers].unsqueeze(1), (begin + torch.arange(size).unsqueeze(1)).clamp_max(unseen)]
    parts = exact.flatten(1, 2).split([len(seen) * size for _, _, seen in steps], 1)
    return torch.cat([part for both in zip(summaries.unbind(1), parts, strict=True) for part in both], 1)


def attend(
    query: Tensor, key: Tensor, value: Tensor, plans: list[Plan], layout: Cells, geometry: WindowGeometry, cut: Cut
) -> Tensor:
    """Attend within the windows of maps (B, H, W, heads, d) by the plans of all kinds; see `LandmarkPooling`."""
    return landmark_pooling(
        query,
        key,
        value,
        [table for plan in plans for table in plan],
        [layout.num_blocks, layout.num_cells],
        list(cut.window),
        list(cut.roll),
        list(cut.margins),
        list(geometry.grid),
        list(geometry.kind_counts),
    )


@functools.partial(Operator, "nystra::landmark_pooling")
def landmark_pooling(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plans: list[Tensor],
    counts: list[int],
    window: list[int],
    roll: list[int],
    margins: list[int],
    grid: list[int],
    kinds: list[int],
) -> Tensor:
    """Attend within the windows of maps by landmark-centred pooling.

    Args:
        query: (B, H, W, heads, d), the scale folded in; float32 or bfloat16, as key and value.
        key: (B, H, W, heads, d).
        value: (B, H, W, heads, d).
        plans: parts of the `Plan` of each kind of window, one after the other.
        counts: blocks and cells of a window.
        window: h and w of a window.
        roll: see `nystra.windows.Cut`.
        margins: see `nystra.windows.Cut`.
        grid: windows of an image along each axis.
        kinds: of windows, along each axis: 2 where the last ones differ from the others, else 1.

    Returns:
        (B, H, W, heads, d), contiguous.
    """
    library = load()
    assert library is not None, "the caller asks `usable` first"
    query, key, value = (with_dense_channels(maps) for maps in (query, key, value))
    output = empty_outputs(query)
    windows = Windows.of(query, window, roll, margins, grid)
    if not output.numel():
        return output
    parts = [Plan(*plans[i : i + len(Plan._fields)]) for i in range(0, len(plans), len(Plan._fields))]
    arguments = Arguments.of(
        windows,
        (query, key, value, output),
        kinds,
        parts[0].order.data_ptr(),
        *counts,
        (Kind * len(parts))(
            *(
                Kind(
                    plan.tiles.data_ptr(),
                    len(plan.tiles),
                    plan.runs.data_ptr(),
                    *_table(plan.mean),
                    *_table(plan.bias),
                )
                for plan in parts
            )
        ),
    )
    library.run("landmark_pooling", arguments)
    return output


def _table(table: Tensor) -> tuple[int | None, int]:
    """Address, and stride of heads."""
    if not table.numel():
        return None, 0
    return table.data_ptr(), table.stride(0) if len(table) > 1 else 0


landmark_pooling.register_fake(empty_outputs)
