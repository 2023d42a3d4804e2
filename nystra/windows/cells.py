"""Blocks and cells of a window by position, and the order of tokens in which each of them is contiguous."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Iterator
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def _kept(function: Callable[..., Result]) -> Callable[..., Result]:
    """Keep the results of a function of hashable arguments; traces take them as they are."""
    cached = functools.cache(function)

    def call(*arguments: Hashable) -> Result:
        return cached(*arguments)

    return torch.compiler.assume_constant_result(call)


def parts(count: int, number: int) -> list[int]:
    """Where each of a number of parts of a sequence begins, and its end; sizes of parts differ by one at most."""
    return [part * count // number for part in range(number + 1)]


@dataclasses.dataclass(frozen=True)
class Cells:
    """Cells nested in the blocks of a window, and the order of tokens in which each block and each cell is contiguous.

    Where the cells do not divide the window, some are a row or a column larger than others::

        a side of 7 tokens in 4 cells     0 | 1 2 | 3 4 | 5 6
        the same in the cells' order      0 0 1 2 3 4 5 6

    In the cells' order all are then of the largest's size: smaller ones hold their last row or column twice. The second
    copies are *repeats*, which are to count for nothing as keys.

    Args:
        window: h and w, in tokens.
        blocks: rows and columns of the blocks.
        cells: rows and columns of the cells; multiples of those of the blocks, at most those of the window.
    """

    window: tuple[int, int]
    blocks: tuple[int, int]
    cells: tuple[int, int]

    @classmethod
    def nearest(cls, window: tuple[int, int], blocks: int, cells: int | None = None) -> Cells:
        """Lay out about so many blocks and cells, as square as they can be.

        Numbers that divide the window into equal blocks and cells are kept. Elsewhere the layout has numbers near to
        those wanted and nearly square blocks and cells, whose sides differ by a token at most. There are never more
        cells than tokens.

        Args:
            window: h and w, in tokens.
            blocks: wanted number, >= 1.
            cells: wanted number, a multiple of `blocks`; None: each block is one cell.
        """
        return cls(window, *_nearest(window, blocks, blocks if cells is None else cells))

    @property
    def even(self) -> bool:
        """Whether all cells are of one size."""
        return all(window % cells == 0 for window, cells in zip(self.window, self.cells, strict=True))

    @property
    def num_blocks(self) -> int:
        """Number of blocks, m."""
        return math.prod(self.blocks)

    @property
    def num_cells(self) -> int:
        """Number of cells, s."""
        return math.prod(self.cells)

    @property
    def dims(self) -> tuple[int, ...]:
        """Sides of the tokens with their repeats: block row, cell row in it, token row, then the same for columns."""
        sides: list[int] = []
        for window, blocks, cells in zip(self.window, self.blocks, self.cells, strict=True):
            sides += [blocks, cells // blocks, -(-window // cells)]
        return tuple(sides)

    @property
    def num_ordered(self) -> int:
        """Number of tokens in the cells' order, their repeats included, N'; N where cells are even."""
        return math.prod(self.dims)

    def gather(self, tokens: Tensor) -> Tensor:
        """Bring tokens (W, h, N, d), row by row, into the cells' order, (W, h, N', d); contiguous."""
        if not self.even:
            return tokens.index_select(2, torch.tensor(self._order()[0], device=tokens.device))
        return tokens.unflatten(2, self.dims).permute(0, 1, 2, 5, 3, 6, 4, 7, 8).reshape(tokens.shape)

    def means(self, tokens: Tensor) -> Tensor:
        """Mean of the tokens of every block, (W, h, N, d) row by row → (W, h, m, d)."""
        rows, columns = (window // blocks for window, blocks in zip(self.window, self.blocks, strict=True))
        if (rows * self.blocks[0], columns * self.blocks[1]) != self.window:
            down, across = (tokens.new_tensor(self._shares(axis)) for axis in (0, 1))
            in_rows = down @ tokens.unflatten(2, self.window).flatten(3)
            return (across @ in_rows.unflatten(3, (self.window[1], -1))).flatten(2, 3)
        split = tokens.unflatten(2, (self.blocks[0], rows, self.blocks[1], columns))
        # Axis by axis: each sum then reads memory in order.
        return split.mean(5).mean(3).flatten(2, 3)

    def scatter(self, tokens: Tensor) -> Tensor:
        """Undo `gather`; what was computed for repeats is dropped."""
        if not self.even:
            kept = self.kept(tokens.device)
            numbers = torch.tensor(self._order()[0], device=tokens.device)[kept]
            return tokens.index_select(2, torch.empty_like(kept).scatter_(0, numbers, kept))
        rows, columns = self.dims[:3], self.dims[3:]
        sides = [side for pair in zip(rows, columns, strict=True) for side in pair]
        return tokens.unflatten(2, sides).permute(0, 1, 2, 4, 6, 3, 5, 7, 8).reshape(tokens.shape)

    def order(self, positions: Tensor) -> Tensor:
        """Bring positions (N, 2) into the cells' order."""
        return self.gather(positions[None, None])[0, 0]

    def repeats(self, device: torch.device) -> Tensor:
        """Which tokens in the cells' order are repeats: booleans, (N',)."""
        return torch.tensor(self._order()[1], device=device)

    def kept(self, device: torch.device) -> Tensor:
        """Places, in the cells' order, of the tokens that are no repeats: (N,)."""
        places = [place for place, repeated in enumerate(self._order()[1]) if not repeated]
        return torch.tensor(places, device=device)

    def sizes(self) -> list[int]:
        """Number of tokens of each cell."""
        down, across = (
            [until - first for first, until in pairwise(parts(self.window[axis], self.cells[axis]))] for axis in (0, 1)
        )
        return [down[row] * across[column] for row, column in self.places()]

    def cut(self, axis: int, border: int) -> tuple[list[bool], list[bool]]:
        """Find the blocks and the cells, m and s of them, that have tokens on both sides of a border.

        Args:
            axis: 0: the border lies between rows, 1: between columns.
            border: the first token beyond it.
        """

        def crossed(cells: Cells) -> list[bool]:
            begins = parts(cells.window[axis], cells.cells[axis])
            return [begins[place[axis]] < border < begins[place[axis] + 1] for place in cells.places()]

        return crossed(Cells(self.window, self.blocks, self.blocks)), crossed(self)

    def places(self) -> list[tuple[int, int]]:
        """Row and column of every cell among the cells of the window, in the cells' order."""
        rows, inner_rows, _, columns, inner_columns, _ = self.dims
        return [
            (row * inner_rows + inner_row, column * inner_columns + inner_column)
            for row in range(rows)
            for column in range(columns)
            for inner_row in range(inner_rows)
            for inner_column in range(inner_columns)
        ]

    def neighbours(self) -> list[list[int]]:
        """Numbers of each cell and of the cells above, below, left and right of it, as far as these are there."""
        places = self.places()
        number = {place: index for index, place in enumerate(places)}
        steps = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
        around = [[(row + down, column + right) for down, right in steps] for row, column in places]
        return [[number[place] for place in cell if place in number] for cell in around]

    def _order(self) -> tuple[list[int], list[bool]]:
        return _order(self.window, self.blocks, self.cells)

    def _shares(self, axis: int) -> list[list[float]]:
        """Share of each row or column in the mean of a block: blocks × side."""
        begins = parts(self.window[axis], self.blocks[axis])
        side = range(self.window[axis])
        return [[(first <= place < until) / (until - first) for place in side] for first, until in pairwise(begins)]


@_kept
def _order(window: tuple[int, int], blocks: tuple[int, int], cells: tuple[int, int]) -> tuple[list[int], list[bool]]:
    """Numbers of the tokens, row by row, in the cells' order, and whether they are repeats."""
    axes = []
    for side, number in zip(window, cells, strict=True):
        inner = range(-(-side // number))
        begins = pairwise(parts(side, number))
        axes.append([[(min(first + i, until - 1), first + i >= until) for i in inner] for first, until in begins])
    every = [
        (row * window[1] + column, again or too)
        for cell_row, cell_column in Cells(window, blocks, cells).places()
        for row, again in axes[0][cell_row]
        for column, too in axes[1][cell_column]
    ]
    return [number for number, _ in every], [repeated for _, repeated in every]


@_kept
def _nearest(window: tuple[int, int], blocks: int, cells: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the blocks and of the cells, see `Cells.nearest`."""
    tokens = math.prod(window)
    blocks, cells = min(blocks, tokens), min(cells, tokens)
    wanted = blocks, cells

    def distance(layout: Cells) -> tuple[float, ...]:
        numbers = layout.num_blocks, layout.num_cells
        shapes = [_elongation(window, grid) for grid in (layout.blocks, layout.cells)]
        # Where a square is impossible, cells are rather tall than wide.
        if layout.even and numbers == wanted:
            return 0, shapes[0], layout.blocks[0], shapes[1], layout.cells[0]
        ratios = [abs(math.log(number / goal)) for number, goal in zip(numbers, wanted, strict=True)]
        return 1, sum(ratios) + sum(shapes) / 2, layout.blocks[0], layout.cells[0]

    def possible() -> Iterator[Cells]:
        if cells == tokens:
            # Exact attention, whatever the blocks.
            divisors = [[part for part in range(1, side + 1) if side % part == 0] for side in window]
            yield from (Cells(window, (rows, columns), window) for rows in divisors[0] for columns in divisors[1])
            return
        for grid in _grids(window, 2 * blocks):
            inner_window = window[0] // grid[0], window[1] // grid[1]
            most = 1 if blocks == cells else max(2 * cells // math.prod(grid), 1)
            for rows, columns in _grids(inner_window, most):
                if 2 * math.prod(grid) >= blocks:
                    yield Cells(window, grid, (grid[0] * rows, grid[1] * columns))

    best = min(possible(), key=distance)
    return best.blocks, best.cells


def _grids(window: tuple[int, int], most: int) -> Iterator[tuple[int, int]]:
    """Rows and columns of up to `most` cells in a window."""
    for rows in range(1, min(window[0], most) + 1):
        for columns in range(1, min(window[1], most // rows) + 1):
            yield rows, columns


def _elongation(window: tuple[int, int], grid: tuple[int, int]) -> float:
    """Logarithm of the ratio of a cell's sides; 0: a square."""
    return abs(math.log(window[0] / grid[0] * grid[1] / window[1]))
