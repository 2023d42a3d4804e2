"""Windows of feature maps as the programs read and write them: in place, by strides.

Programs are started once for each window, head and part of a window. Numbers of tiles run fastest, then those of heads.
"""

import functools
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from nystra.programs.places import in_frames, places

LOG2E: float = 1.4426950408889634
# Triton's products take no less.
LEAST = 16


class Windows(NamedTuple):
    """Feature maps (B, frames·H, W, heads, d) cut into windows.

    Attributes:
        rows: row of the map for each that is cut; -1 - row where no result is written: int32.
        columns: the same of columns.
        counts: windows of an image along each axis.
        sides: rows and columns of a window, those of all its frames.
        grid: windows along each axis by which the last ones are known, also where the maps are single windows.
        number: of windows, all images together.
        heads: h.
        channels: of a head, d.
    """

    rows: Tensor
    columns: Tensor
    counts: tuple[int, int]
    sides: tuple[int, int]
    grid: tuple[int, int]
    number: int
    heads: int
    channels: int

    @property
    def tokens(self) -> int:
        """Tokens of a window, N."""
        return self.sides[0] * self.sides[1]

    @property
    def arguments(self) -> tuple[Tensor | int, ...]:
        """What every program is told: see `located` and `kind_of`."""
        return (self.rows, self.columns, *self.counts, *self.sides, *self.grid, self.heads, self.channels)

    @classmethod
    def of(
        cls, maps: Tensor, window: list[int], roll: list[int], margins: list[int], grid: list[int], frames: int
    ) -> "Windows":
        """Describe the windows of maps, see `nystra.programs.places.Layout`."""
        rows = _numbers(maps.shape[1] // frames, roll[0], *margins[:2], window[0], frames, maps.device)
        columns = _numbers(maps.shape[2], roll[1], *margins[2:], window[1], 1, maps.device)
        sides = frames * window[0], window[1]
        counts = len(rows) // sides[0], len(columns) // sides[1]
        number = len(maps) * counts[0] * counts[1]
        return cls(rows, columns, counts, sides, (grid[0], grid[1]), number, *maps.shape[3:])


@functools.lru_cache(maxsize=256)
def _numbers(side: int, roll: int, before: int, after: int, window: int, frames: int, device: torch.device) -> Tensor:
    """Rows (columns) of maps for each that is cut, with a sign where reflection put them there."""
    numbers = places(side, roll, before, after)
    if frames > 1:
        numbers = in_frames(numbers, window, frames)
    outside = [not before <= place < len(numbers) - after for place in range(len(numbers))]
    signed = [-1 - number if out else number for number, out in zip(numbers, outside, strict=True)]
    with torch.inference_mode(mode=False):
        return torch.tensor(signed, dtype=torch.int32, device=device)


def padded(channels: int) -> int:
    """Channels of a head as the programs' products take them: a power of two."""
    return max(LEAST, triton.next_power_of_2(channels))


def precision() -> str:
    """That of products of float32 numbers: torch's own setting."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


@triton.jit
def kind_of(window, grid_rows, grid_columns, row_kinds, column_kinds):
    """Number of a window's kind: the last windows along an axis differ where there are two kinds."""
    last_row = (window // grid_columns % grid_rows + 1 == grid_rows) & (row_kinds > 1)
    last_column = (window % grid_columns + 1 == grid_columns) & (column_kinds > 1)
    return last_row.to(tl.int32) * column_kinds + last_column.to(tl.int32)


@triton.jit
def located(numbers, valid, window, rows, columns, row_windows, column_windows, tall, wide):
    """Image of a window, rows and columns of its tokens, and whether their results are written."""
    image = (window // (row_windows * column_windows)).to(tl.int64)
    top = window // column_windows % row_windows * tall
    left = window % column_windows * wide
    row = tl.load(rows + top + numbers // wide, mask=valid, other=-1)
    column = tl.load(columns + left + numbers % wide, mask=valid, other=-1)
    inside = (row >= 0) & (column >= 0) & valid
    row = tl.where(row < 0, -1 - row, row).to(tl.int64)
    column = tl.where(column < 0, -1 - column, column).to(tl.int64)
    return image, row, column, inside


@triton.jit
def loaded(data, image, row, column, valid, head, strides, channels, WIDE: tl.constexpr):
    """Channels of tokens of one head, (tokens, WIDE); 0 beyond the last."""
    channel = tl.arange(0, WIDE)
    first = data + image * strides[0] + row * strides[1] + column * strides[2] + head.to(tl.int64) * strides[3]
    present = valid[:, None] & (channel < channels)[None, :]
    return tl.load(first[:, None] + channel[None, :] * strides[4], mask=present, other=0.0)


@triton.jit
def further(logits, most, total):
    """Take further keys into a softmax: their weights, how much those before count still, and its maxima and sums.

    Logits are times log2 e; of rows that have seen nothing up to here the maximum is minus infinity.
    """
    new_most = tl.maximum(most, tl.max(logits, 1))
    base = tl.where(new_most == -float("inf"), 0.0, new_most)
    kept = tl.exp2(most - base)
    weights = tl.exp2(logits - base[:, None])
    return weights, kept[:, None], new_most, total * kept + tl.sum(weights, 1)
