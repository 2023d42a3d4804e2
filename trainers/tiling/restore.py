"""Restoration of images of any size in overlapping tiles, with memory bounded by the tile.

The image stays where it is (on the CPU); one tile at a time goes to the network's device. Along each axis the
tiles' weights are a smooth partition of unity that is exact in floating point, so results are summed without a
second buffer of weights and without a division.

How an overlap of `overlap` pixels between neighbours is spent: the outer third of it, at each tile's border, is
discarded; the middle third is a raised-cosine ramp from one tile to the other. A pixel within `overlap // 3`
pixels of a tile's inner border therefore never counts, and a network whose receptive radius is at most
`overlap // 3` gives the same result tiled and whole, up to rounding. (Where tiles happen to overlap by more, the
ramp keeps its width and the discarded margins grow.) A network that looks at the whole image, as channel
attention does, gives a different result for each tiling.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
from torch import Tensor, nn

from trainers.networks import in_unit_range, takes

# Weights are multiples of 2⁻¹², so products of two of them, and all sums up to 1, are exact in float32.
_WEIGHT_LEVELS = 4096

Progress = Callable[[int, int], None]
"""Called after each tile with the numbers of finished and of all tiles of the image."""

Reader = Callable[[Tensor, Tensor], Tensor]
"""Gives the pixels at some rows (h,) and columns (w,) of an image: two index tensors → shape (B, C, h, w)."""


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
class TilePlan:
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


def plan_tiles(
    height: int,
    width: int,
    *,
    tile: int | None,
    overlap: int,
    size_multiple: int = 1,
    scale: int = 1,
    taken: Callable[[int], bool] | None = None,
) -> TilePlan:
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

    Returns:
        The plan.

    Raises:
        ValueError: if no tile of that size and overlap exists, or the image is empty.
    """
    if height < 1 or width < 1:
        raise ValueError(f"image (height {height}, width {width}) must have at least one pixel")
    if overlap < 0:
        raise ValueError(f"overlap ({overlap}) must be at least 0; 0 gives visible seams, 48 is usual")
    if tile is not None and tile < size_multiple:
        raise ValueError(f"tile ({tile}) must be at least {size_multiple}, the network's size multiple; 512 is usual")
    side = None if tile is None else tile // size_multiple * size_multiple
    while side and taken and not taken(side):
        side -= size_multiple
    if side == 0:
        raise ValueError(f"tile ({tile}) must be at least the network's smallest input: raise it; 512 is usual")
    if side is not None and side - overlap < size_multiple:
        raise ValueError(
            f"overlap ({overlap}) must be at most {side - size_multiple} with tiles of {side} pixels; "
            "lower it or raise tile"
        )
    rows = _plan_axis(height, side, overlap, size_multiple, scale, taken)
    columns = _plan_axis(width, side, overlap, size_multiple, scale, taken)
    return TilePlan(rows, columns, height * scale, width * scale, scale)


def _plan_axis(
    length: int, tile: int | None, overlap: int, multiple: int, scale: int, taken: Callable[[int], bool] | None
) -> list[Span]:
    padded = math.ceil(length / multiple) * multiple
    if tile is None or padded <= tile:
        while taken and not taken(padded):
            padded += multiple
    tile = padded if tile is None else min(tile, padded)
    free = (padded - tile) // multiple
    gaps = math.ceil(free / ((tile - overlap) // multiple)) if free else 0
    starts = [multiple * (index * free // gaps) for index in range(gaps + 1)] if gaps else [0]

    ramp = overlap - 2 * (overlap // 3)
    # Where each tile's ramp up begins; the first tile has none, and nothing follows the last.
    rises = [after + (before + tile - after - ramp) // 2 for before, after in pairwise(starts)]
    spans = []
    for start, rise, fall in zip(starts, [None, *rises], [*rises, None], strict=True):
        begin = 0 if rise is None else rise * scale
        end = length * scale if fall is None else min(fall + ramp, length) * scale
        pixels = torch.arange(begin, end, dtype=torch.float32)
        weights = _ramp(pixels, rise, ramp, scale) - (0 if fall is None else _ramp(pixels, fall, ramp, scale))
        source = _reflect(torch.arange(start, start + tile), length)
        spans.append(Span(source, begin, end, begin - start * scale, weights))
    return spans


def _ramp(pixels: Tensor, rise: int | None, ramp: int, scale: int) -> Tensor:
    """Raised cosine from 0 to 1 over `ramp` input pixels from `rise` on, sampled at the centres of output pixels."""
    if rise is None:
        return torch.ones_like(pixels)
    # Without overlap the ramp is a step: half a pixel wide, it falls between two centres.
    part = ((pixels + 0.5 - rise * scale) / max(ramp * scale, 0.5)).clamp(0, 1)
    return ((0.5 - 0.5 * torch.cos(math.pi * part)) * _WEIGHT_LEVELS).round() / _WEIGHT_LEVELS


def _reflect(index: Tensor, length: int) -> Tensor:
    """Fold indices beyond 0 … length − 1 back, without repeating the border, as often as it takes."""
    period = max(2 * (length - 1), 1)
    folded = index % period
    return torch.minimum(folded, period - folded)


def restore_bands(
    net: nn.Module,
    read: Reader,
    plan: TilePlan,
    *,
    self_ensemble: bool = False,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Yield the restored image from top to bottom, in bands of finished rows.

    Memory, beside what the network itself needs for one tile: the tile, its result, and one band of
    `plan.band_pixels` float32 values per channel; nothing of the size of the image. A band is valid until the
    next one is asked for.

    Args:
        net: network, (B, C, h, w) → (B, C', h·scale, w·scale), in the mode in which it is to run.
        read: gives the pixels of a tile.
        plan: the tiles, laid out for this network's size multiple and scale.
        self_ensemble: average over the eight flips and quarter turns of each tile; eight times the time.
        device: where tiles are sent; None: where the network's parameters are.
        autocast: lower precision in which the network runs where that is safe (`torch.bfloat16`); None: as it is.
        progress: called after each tile.

    Yields:
        Rows of the output, shape (B, C', rows, W·scale), float32 (float64 if the pixels are), where the pixels are.

    Raises:
        ValueError: if the network's output is not `scale` times its input.
    """
    if device is None:
        device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    device = torch.device(device)
    expected = tuple(side * plan.scale for side in plan.tile_size)
    # One buffer serves all bands: rows that the next row of tiles adds to move to its top.
    band = torch.empty(0)
    done = 0
    ends = [*(row.start for row in plan.rows[1:]), plan.height]
    for row, end in zip(plan.rows, ends, strict=True):
        for column in plan.columns:
            pixels = read(row.source, column.source)
            with torch.no_grad(), torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                tile = pixels.to(device)
                result = _self_ensemble(net, tile) if self_ensemble else in_unit_range(net, tile)
            if result.shape[-2:] != expected:
                raise ValueError(
                    f"net's output {tuple(result.shape)} must end in {expected} for a tile of {tuple(pixels.shape)}; "
                    f"check the network's `scale` attribute ({plan.scale})"
                )
            result = result[..., row.kept, column.kept]
            result = result.to(pixels.device, torch.promote_types(pixels.dtype, torch.float32))
            if done == 0:
                band = result.new_zeros(*result.shape[:-2], plan.band_pixels // plan.width, plan.width)
            weights = (row.weights[:, None] * column.weights).to(result)
            band[..., : row.stop - row.start, column.start : column.stop].addcmul_(result, weights)
            done += 1
            if progress is not None:
                progress(done, plan.num_tiles)
        finished = end - row.start
        yield band[..., :finished, :]
        carried = band[..., finished : row.stop - row.start, :].clone()
        band.zero_()[..., : carried.shape[-2], :] = carried


def _self_ensemble(net: nn.Module, image: Tensor) -> Tensor:
    """Average the network over the eight symmetries of the square (Timofte et al., CVPR 2016)."""
    # Summed in float32 at least: under autocast the network may give bfloat16.
    total = torch.zeros(1, device=image.device)
    for turns in range(4):
        for flip in (False, True):
            turned = image.rot90(turns, (-2, -1))
            result = in_unit_range(net, turned.flip(-1) if flip else turned)
            total = total + (result.flip(-1) if flip else result).rot90(-turns, (-2, -1))
    return total / 8


def restore(
    net: nn.Module,
    image: Tensor,
    *,
    tile: int | None,
    overlap: int,
    self_ensemble: bool = False,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Restore an image of any size, whole or in blended tiles.

    Tiled equals whole, up to rounding, for a network of receptive radius at most `overlap // 3` (see the module's
    docstring). The network's attributes `size_multiple` (default 1), `scale` (default 1) and `value_range` (default
    (0, 1), the image's) are honoured: the image is reflected up to a multiple at the bottom and on the right, and the
    result is cropped.

    Memory, beside the image, the result and what the network needs for one tile: the tile, its result, and a
    band of the output of the tile's height and the image's width, float32.

    Args:
        net: network, (B, C, h, w) → (B, C', h·scale, w·scale), in the mode in which it is to run (usually `eval`).
        image: float, shape (C, H, W) or (B, C, H, W), any H and W; on the CPU, whatever the network's device.
        tile: largest side of what the network sees, in input pixels; None: the whole image at once.
        overlap: pixels that neighbouring tiles share at least.
        self_ensemble: average over the eight flips and quarter turns; eight times the time.
        device: where tiles are sent; None: where the network's parameters are.
        autocast: lower precision in which the network runs where that is safe (`torch.bfloat16`); None: as it is.
        progress: called after each tile with the numbers of finished and of all tiles.

    Returns:
        Shape (C', H·scale, W·scale), with B in front if the image has it, float32 (float64 if the image is), on the
        image's device.

    Raises:
        ValueError: if the image is not a float image of one of those shapes, if tile and overlap do not fit
            together, or if the network's output is not `scale` times its input.
    """
    if image.ndim not in (3, 4) or not image.is_floating_point():
        raise ValueError(
            f"image must be a float tensor of shape (C, H, W) or (B, C, H, W), got {image.dtype} {tuple(image.shape)}"
        )
    batch = image if image.ndim == 4 else image[None]
    plan = plan_tiles(
        *batch.shape[-2:],
        tile=tile,
        overlap=overlap,
        size_multiple=getattr(net, "size_multiple", 1),
        scale=getattr(net, "scale", 1),
        taken=functools.partial(takes, net),
    )

    def read(rows: Tensor, columns: Tensor) -> Tensor:
        return batch[..., rows[:, None], columns]

    bands = restore_bands(
        net, read, plan, self_ensemble=self_ensemble, device=device, autocast=autocast, progress=progress
    )
    first = next(bands)
    output = first.new_empty(*first.shape[:-2], plan.height, plan.width)
    top = 0
    for band in chain([first], bands):
        output[..., top : top + band.shape[-2], :] = band
        top += band.shape[-2]
    return output if image.ndim == 4 else output[0]
