"""Blocks and cells of a window by position, and the order of tokens in which each of them is contiguous."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Iterator
from itertools import combinations, pairwise, product
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
        window: its sides, in tokens: (h, w), or (t, h, w) for one that reaches over frames.
        blocks: number of blocks along each side: rows and columns of them in an image.
        cells: number of cells along each side; multiples of those of the blocks, at most those of the window.
    """

    window: tuple[int, ...]
    blocks: tuple[int, ...]
    cells: tuple[int, ...]

    @classmethod
    def nearest(cls, window: tuple[int, ...], blocks: int, cells: int | None = None) -> Cells:
        """Lay out about so many blocks and cells, as square as they can be.

        Numbers that divide the window into equal blocks and cells are kept. Elsewhere the layout has numbers near to
        those wanted and nearly square blocks and cells, whose sides differ by a token at most. There are never more
        cells than tokens. The layout's own numbers give it again.

        Args:
            window: its sides, in tokens.
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
        """Sides of the tokens with their repeats: for each axis blocks, cells in a block, tokens in a cell."""
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
        # Blocks of all axes, then cells, then tokens.
        places = [2 + level + 3 * axis for level in range(3) for axis in range(len(self.window))]
        return tokens.unflatten(2, self.dims).permute(0, 1, *places, 2 + len(self.dims)).flatten(2, 1 + len(self.dims))

    def means(self, tokens: Tensor) -> Tensor:
        """Mean of the tokens of every block, (W, h, N, d) row by row → (W, h, m, d)."""
        axes = range(len(self.window))
        # Axis by axis: each sum then reads memory in order.
        if any(window % blocks for window, blocks in zip(self.window, self.blocks, strict=True)):
            means = tokens.unflatten(2, self.window)
            for axis in axes:
                rest = means.shape[3 + axis :]
                means = tokens.new_tensor(self._shares(axis)) @ means.flatten(3 + axis)
                means = means.unflatten(3 + axis, rest)
            return means.flatten(2, -2)
        sides = [(blocks, window // blocks) for window, blocks in zip(self.window, self.blocks, strict=True)]
        means = tokens.unflatten(2, [side for pair in sides for side in pair])
        for axis in reversed(axes):
            means = means.mean(3 + 2 * axis)
        return means.flatten(2, -2)

    def scatter(self, tokens: Tensor) -> Tensor:
        """Undo `gather`; what was computed for repeats is dropped."""
        if not self.even:
            kept = self.kept(tokens.device)
            numbers = torch.tensor(self._order()[0], device=tokens.device)[kept]
            return tokens.index_select(2, torch.empty_like(kept).scatter_(0, numbers, kept))
        axes = len(self.window)
        sides = [self.dims[level + 3 * axis] for level in range(3) for axis in range(axes)]
        places = [2 + axis + axes * level for axis in range(axes) for level in range(3)]
        return tokens.unflatten(2, sides).permute(0, 1, *places, 2 + len(self.dims)).flatten(2, 1 + len(self.dims))

    def order(self, positions: Tensor) -> Tensor:
        """Bring positions (N, axes) into the cells' order."""
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
        axes = [
            [until - first for first, until in pairwise(parts(side, number))]
            for side, number in zip(self.window, self.cells, strict=True)
        ]
        # Lists, as torch.compile cannot trace a product of anything else.
        return [math.prod([axis[at] for axis, at in zip(axes, place, strict=True)]) for place in self.places()]

    def cut(self, axis: int, border: int) -> tuple[list[bool], list[bool]]:
        """Find the blocks and the cells, m and s of them, that have tokens on both sides of a border.

        Args:
            axis: across which the border lies: in an image 0, between rows, or 1, between columns.
            border: the first token beyond it.
        """

        def crossed(cells: Cells) -> list[bool]:
            begins = parts(cells.window[axis], cells.cells[axis])
            return [begins[place[axis]] < border < begins[place[axis] + 1] for place in cells.places()]

        return crossed(Cells(self.window, self.blocks, self.blocks)), crossed(self)

    def places(self) -> list[tuple[int, ...]]:
        """Place of every cell among the cells of the window, (row, column) in an image, in the cells' order."""
        return _places(self.dims[::3], self.dims[1::3])

    def neighbours(self) -> list[list[int]]:
        """Numbers of each cell and of those before and after it along each axis, as far as these are there."""
        return _neighbours(self.dims[::3], self.dims[1::3])

    def _order(self) -> tuple[list[int], list[bool]]:
        return _order(self.window, self.blocks, self.cells)

    def _shares(self, axis: int) -> list[list[float]]:
        """Share of each row or column in the mean of a block: blocks × side."""
        begins = parts(self.window[axis], self.blocks[axis])
        side = range(self.window[axis])
        return [[(first <= place < until) / (until - first) for place in side] for first, until in pairwise(begins)]


@_kept
def _places(blocks: tuple[int, ...], inner: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Places of the cells, see `Cells.places`, from the numbers of blocks and of cells in a block along each axis."""
    return [
        tuple(each * count + at for each, count, at in zip(block, inner, cell, strict=True))
        for block in product(*map(range, blocks))
        for cell in product(*map(range, inner))
    ]


@_kept
def _neighbours(blocks: tuple[int, ...], inner: tuple[int, ...]) -> list[list[int]]:
    """Numbers of neighbours, see `Cells.neighbours`; arguments as of `_places`."""
    places = _places(blocks, inner)
    number = {place: index for index, place in enumerate(places)}

    def around(place: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        yield place
        for axis, at in enumerate(place):
            for beside in (at - 1, at + 1):
                yield (*place[:axis], beside, *place[axis + 1 :])

    return [[number[each] for each in around(place) if each in number] for place in places]


@_kept
def _order(window: tuple[int, ...], blocks: tuple[int, ...], cells: tuple[int, ...]) -> tuple[list[int], list[bool]]:
    """Numbers of the tokens, row by row, in the cells' order, and whether they are repeats."""
    axes = []
    for side, number in zip(window, cells, strict=True):
        inner = range(-(-side // number))
        begins = pairwise(parts(side, number))
        axes.append([[(min(first + i, until - 1), first + i >= until) for i in inner] for first, until in begins])
    numbers, repeated = [], []
    for place in Cells(window, blocks, cells).places():
        for token in product(*(axis[at] for axis, at in zip(axes, place, strict=True))):
            number = 0
            for side, (at, _) in zip(window, token, strict=True):
                number = number * side + at
            numbers.append(number)
            repeated.append(any(again for _, again in token))
    return numbers, repeated


@_kept
def _nearest(window: tuple[int, ...], blocks: int, cells: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Numbers of the blocks and of the cells along each axis, see `Cells.nearest`.

    A layout is taken only if it is also the best one for its own numbers, so that these give it again. The whole window
    as one cell always is.
    """
    tokens = math.prod(window)
    wanted = min(blocks, tokens), min(cells, tokens)
    whole = (1,) * len(window)
    for grids in (*_ranked(window, *wanted), (whole, whole)):
        numbers = math.prod(grids[0]), math.prod(grids[1])
        if numbers == wanted or _ranked(window, *numbers)[0] == grids:
            break
    return grids


def _ranked(window: tuple[int, ...], blocks: int, cells: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Grids of the blocks and of the cells that come into question for numbers of them, the best first."""
    tokens = math.prod(window)
    wanted = blocks, cells

    def distance(layout: Cells) -> tuple[float | tuple[int, ...], ...]:
        numbers = layout.num_blocks, layout.num_cells
        shapes = [_elongation(window, grid) for grid in (layout.blocks, layout.cells)]
        # Where a square is impossible, cells are rather tall than wide, and reach over frames.
        if layout.even and numbers == wanted:
            return 0, shapes[0], layout.blocks[:-1], shapes[1], layout.cells[:-1]
        ratios = [abs(math.log(number / goal)) for number, goal in zip(numbers, wanted, strict=True)]
        return 1, sum(ratios) + sum(shapes) / 2, layout.blocks[:-1], layout.cells[:-1]

    def possible() -> Iterator[Cells]:
        if cells == tokens:
            # Exact attention, whatever the blocks.
            divisors = [[part for part in range(1, side + 1) if side % part == 0] for side in window]
            yield from (Cells(window, grid, window) for grid in product(*divisors))
            return
        for grid in _grids(window, 2 * blocks):
            if 2 * math.prod(grid) < blocks:
                continue
            inner_window = tuple(side // number for side, number in zip(window, grid, strict=True))
            most = 1 if blocks == cells else max(2 * cells // math.prod(grid), 1)
            for inner in _grids(inner_window, most):
                yield Cells(window, grid, tuple(outer * each for outer, each in zip(grid, inner, strict=True)))

    return [(layout.blocks, layout.cells) for layout in sorted(possible(), key=distance)]


def _grids(window: tuple[int, ...], most: int) -> Iterator[tuple[int, ...]]:
    """Numbers along each axis of up to `most` cells in a window."""
    if not window:
        yield ()
        return
    for number in range(1, min(window[0], most) + 1):
        for rest in _grids(window[1:], most // number):
            yield number, *rest


def _elongation(window: tuple[int, ...], grid: tuple[int, ...]) -> float:
    """Logarithm of the largest ratio of two sides of a cell; 0: a square or cube."""
    pairs = combinations(range(len(window)), 2)
    ratios = (window[one] / grid[one] * grid[other] / window[other] for one, other in pairs)
    return max((abs(math.log(ratio)) for ratio in ratios), default=0.0)
