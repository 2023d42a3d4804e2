"""How an image is laid out in overlapping tiles."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from glmha.shared.image_network import ImageRules, image_rules

# Weights are multiples of 2⁻¹², so products of two of them, and all sums up to 1, are exact in float32.
_WEIGHT_LEVELS = 4096


@dataclass(frozen=True)
class Span:
    """One tile along one axis.

    Attributes:
        source: the image's pixels under the tile, reflected where the tile reaches beyond the image, shape (tile,).
        start: first output pixel with a weight, counted from the image's border.
        stop: one past the last output pixel with a weight.
        first: the same pixel as `start`, counted from the tile's border.
        weights: of the output pixels from `start` to `stop`, in [0, 1], shape (stop − start,), float32.
    """

    source: Tensor
    start: int
    stop: int
    first: int
    weights: Tensor

    @property
    def kept(self) -> slice:
        """The tile's own output pixels that have a weight."""
        return slice(self.first, self.first + self.stop - self.start)


@dataclass(frozen=True)
class TileLayout:
    """The tiles of one image: every pair of a row and a column.

    Attributes:
        rows: tiles from top to bottom.
        columns: tiles from left to right.
        height: of the output, in pixels.
        width: of the output, in pixels.
        scale: output pixels per input pixel along each axis.
    """

    rows: list[Span]
    columns: list[Span]
    height: int
    width: int
    scale: int

    @property
    def num_tiles(self) -> int:
        """How often the network is called (eight times as often with a self-ensemble)."""
        return len(self.rows) * len(self.columns)

    @property
    def tile_size(self) -> tuple[int, int]:
        """Height and width of what the network sees, in input pixels."""
        return len(self.rows[0].source), len(self.columns[0].source)

    @property
    def band_pixels(self) -> int:
        """Pixels, per channel, of the largest band of the output that is accumulated at once."""
        return max(row.stop - row.start for row in self.rows) * self.width


def lay_out_tiles(
    height: int,
    width: int,
    *,
    tile: int | None,
    overlap: int,
    size_multiple: int = 1,
    scale: int = 1,
    taken: Callable[[int], bool] | None = None,
    clips: bool = False,
) -> TileLayout:
    """Lay tiles of equal size over an image, evenly spaced, so that neighbours overlap by at least `overlap`.

    Tiles begin at multiples of `size_multiple`, so that a network that downsamples sees every tile on the grid
    on which it would see the whole image. Tiles at the border are shifted inwards; only the fewer than
    `size_multiple` pixels that the image lacks are reflected, at the bottom and on the right.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        tile: largest side of a tile, in input pixels; lowered to a multiple of `size_multiple`. None: one tile.
        overlap: pixels that neighbours share at least, 0 <= overlap <= tile − size_multiple.
        size_multiple: what the network's input sides must be multiples of.
        scale: output pixels per input pixel.
        taken: which multiples of `size_multiple` the network takes; None: all.
        clips: as published scripts of video networks do: neighbours meet in the middle of what they share, without a
            ramp, and what a frame lacks repeats its edge when it is mirrored.

    Returns:
        The layout of all tiles.

    Raises:
        ValueError: if no tile of that size and overlap exists, or the image is empty.
    """
    if height < 1 or width < 1:
        raise ValueError(f"image (height {height}, width {width}) must have at least one pixel")
    if overlap < 0:
        raise ValueError(f"overlap ({overlap}) must be at least 0; 0 gives visible seams, 48 is usual")
    side = None if tile is None else _largest_side(tile, size_multiple, taken)
    if side is not None and side - overlap < size_multiple:
        raise ValueError(
            f"overlap ({overlap}) must be at most {side - size_multiple} with tiles of {side} pixels; "
            "lower it or raise tile"
        )
    rows, columns = (
        _lay_out_axis(length, side, overlap, size_multiple, scale, taken, clips=clips) for length in (height, width)
    )
    return TileLayout(rows, columns, height * scale, width * scale, scale)


def tile_side(net: nn.Module, tile: int | None) -> int | None:
    """Find the largest side of the tiles that a network is given.

    Args:
        net: any network.
        tile: as asked for, in input pixels; None: whole images.

    Returns:
        The largest side up to `tile` that the network takes; None: whole images.

    Raises:
        ValueError: if the network takes no image as small.
    """
    rules = image_rules(net)
    tile = _bounded(tile, rules)
    return None if tile is None else _largest_side(tile, rules.size_multiple, rules.takes)


def _bounded(tile: int | None, rules: ImageRules) -> int | None:
    """The largest side of tiles, also where whole images are asked for, of a network that takes none above a size."""
    sides = [side for side in (tile, rules.largest_side) if side is not None]
    return min(sides, default=None)


def layout_of(net: nn.Module, height: int, width: int, *, tile: int | None, overlap: int) -> TileLayout:
    """Lay tiles over an image, or the frames of a clip, as a network demands: see `image_rules`.

    Args:
        net: any network.
        height: of the image, in pixels.
        width: of the image, in pixels.
        tile: largest side of a tile, in input pixels; None: one tile.
        overlap: pixels that neighbours share at least.

    Returns:
        The layout of all tiles.

    Raises:
        ValueError: as `lay_out_tiles`.
    """
    rules = image_rules(net)
    return lay_out_tiles(
        height,
        width,
        tile=_bounded(tile, rules),
        overlap=overlap,
        size_multiple=rules.size_multiple,
        scale=rules.scale,
        taken=rules.takes,
        clips=rules.frame_multiple > 0,
    )


def _largest_side(tile: int, size_multiple: int, taken: Callable[[int], bool] | None) -> int:
    if tile < size_multiple:
        raise ValueError(f"tile ({tile}) must be at least {size_multiple}, the network's size multiple; 512 is usual")
    side = tile // size_multiple * size_multiple
    while side and taken and not taken(side):
        side -= size_multiple
    if side == 0:
        raise ValueError(f"tile ({tile}) must be at least the network's smallest input: raise it; 512 is usual")
    return side


def _lay_out_axis(
    length: int,
    tile: int | None,
    overlap: int,
    multiple: int,
    scale: int,
    taken: Callable[[int], bool] | None,
    *,
    clips: bool,
) -> list[Span]:
    padded = math.ceil(length / multiple) * multiple
    if tile is None or padded <= tile:
        while taken and not taken(padded):
            padded += multiple
    tile = padded if tile is None else min(tile, padded)
    free = (padded - tile) // multiple
    gaps = math.ceil(free / ((tile - overlap) // multiple)) if free else 0
    starts = [multiple * (index * free // gaps) for index in range(gaps + 1)] if gaps else [0]

    ramp = 0 if clips else overlap - 2 * (overlap // 3)
    # Where each tile's ramp up begins; the first tile has none, and nothing follows the last.
    rises = [after + (before + tile - after - ramp) // 2 for before, after in pairwise(starts)]
    spans = []
    for start, rise, fall in zip(starts, [None, *rises], [*rises, None], strict=True):
        begin = 0 if rise is None else rise * scale
        end = length * scale if fall is None else min(fall + ramp, length) * scale
        pixels = torch.arange(begin, end, dtype=torch.float32)
        weights = _ramp(pixels, rise, ramp, scale) - (0 if fall is None else _ramp(pixels, fall, ramp, scale))
        source = _reflect(torch.arange(start, start + tile), length, repeat_edge=clips)
        spans.append(Span(source, begin, end, begin - start * scale, weights))
    return spans


def _ramp(pixels: Tensor, rise: int | None, ramp: int, scale: int) -> Tensor:
    """Raised cosine from 0 to 1 over `ramp` input pixels from `rise` on, sampled at the centres of output pixels."""
    if rise is None:
        return torch.ones_like(pixels)
    # Without overlap the ramp is a step: half a pixel wide, it falls between two centres.
    part = ((pixels + 0.5 - rise * scale) / max(ramp * scale, 0.5)).clamp(0, 1)
    return ((0.5 - 0.5 * torch.cos(math.pi * part)) * _WEIGHT_LEVELS).round() / _WEIGHT_LEVELS


def _reflect(index: Tensor, length: int, *, repeat_edge: bool) -> Tensor:
    """Fold indices beyond 0 … length − 1 back, with or without repeating the border, as often as it takes."""
    period = 2 * length if repeat_edge else max(2 * (length - 1), 1)
    folded = index % period
    return torch.minimum(folded, period - int(repeat_edge) - folded)
