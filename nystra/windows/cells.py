"""Blocks and cells of a window by position, and the order of tokens in which each of them is contiguous."""

from __future__ import annotations

import dataclasses
import math

from torch import Tensor


def cell_grid(window: tuple[int, int], count: int, name: str = "landmarks") -> tuple[int, int]:
    """Rows and columns of `count` equal cells that divide a window, as square as they can be.

    Args:
        window: h and w, in tokens.
        count: number of cells.
        name: of the number in the error.

    Raises:
        ValueError: if no such cells divide the window.
    """
    height, width = window
    grids = [
        (rows, count // rows)
        for rows in range(1, height + 1)
        if count % rows == 0 and height % rows == 0 and width % (count // rows) == 0
    ]
    if count < 1 or not grids:
        possible = sorted(
            {r * c for r in range(1, height + 1) for c in range(1, width + 1) if height % r == width % c == 0}
        )
        raise ValueError(
            f"{name} ({count}) must divide the {height}×{width} window into equal cells: one of {possible}"
        )
    # Where a square is impossible, cells are rather tall than wide.
    return min(grids, key=lambda grid: (abs(math.log(height / grid[0] * grid[1] / width)), grid[0]))


@dataclasses.dataclass(frozen=True)
class Cells:
    """Cells nested in the blocks of a window, and the order of tokens in which each block and each cell is contiguous.

    Args:
        window: h and w, in tokens.
        blocks: rows and columns of the blocks.
        cells: rows and columns of the cells; multiples of those of the blocks.
    """

    window: tuple[int, int]
    blocks: tuple[int, int]
    cells: tuple[int, int]

    @classmethod
    def landmarks(cls, window: tuple[int, int], count: int, name: str = "landmarks") -> Cells:
        """A window's `count` blocks without finer cells in them.

        Raises:
            ValueError: see `cell_grid`.
        """
        grid = cell_grid(window, count, name)
        return cls(window, grid, grid)

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
        """Sides of a window's row-by-row tokens: block row, cell row in it, token row, then the same for columns."""
        sides: list[int] = []
        for window, blocks, cells in zip(self.window, self.blocks, self.cells, strict=True):
            sides += [blocks, cells // blocks, window // cells]
        return tuple(sides)

    def gather(self, tokens: Tensor) -> Tensor:
        """Bring tokens (W, h, N, d), row by row, into the cells' order; contiguous."""
        return tokens.unflatten(2, self.dims).permute(0, 1, 2, 5, 3, 6, 4, 7, 8).reshape(tokens.shape)

    def means(self, tokens: Tensor) -> Tensor:
        """Mean of the tokens of every block, (W, h, N, d) row by row → (W, h, m, d)."""
        rows, columns = self.window[0] // self.blocks[0], self.window[1] // self.blocks[1]
        split = tokens.unflatten(2, (self.blocks[0], rows, self.blocks[1], columns))
        # Axis by axis: each sum then reads memory in order.
        return split.mean(5).mean(3).flatten(2, 3)

    def scatter(self, tokens: Tensor) -> Tensor:
        """Undo `gather`."""
        rows, columns = self.dims[:3], self.dims[3:]
        sides = [side for pair in zip(rows, columns, strict=True) for side in pair]
        return tokens.unflatten(2, sides).permute(0, 1, 2, 4, 6, 3, 5, 7, 8).reshape(tokens.shape)

    def order(self, positions: Tensor) -> Tensor:
        """Bring positions (N, 2) into the cells' order."""
        return self.gather(positions[None, None])[0, 0]

    def cut(self, axis: int, border: int) -> tuple[list[bool], list[bool]]:
        """Find the blocks and the cells, m and s of them, that have tokens on both sides of a border.

        Args:
            axis: 0: the border lies between rows, 1: between columns.
            border: the first token beyond it.
        """

        def crossed(cells: Cells) -> list[bool]:
            side = cells.window[axis] // cells.cells[axis]
            return [place[axis] * side < border < (place[axis] + 1) * side for place in cells.places()]

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
