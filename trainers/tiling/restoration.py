"""Restoration of images of any size in overlapping tiles, with memory bounded by the tile.

The image stays where it is (on the CPU); one tile at a time goes to the network's device. Along each axis the
tiles' weights are a smooth partition of unity that is exact in floating point, so results are summed without a
second buffer of weights and without a division.
"""

from collections.abc import Callable, Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from trainers.networks import in_unit_range
from trainers.tiling.layout import TileLayout, layout_of

Progress = Callable[[int, int], None]
"""Called after each tile with the numbers of finished and of all tiles of the image."""

Reader = Callable[[Tensor, Tensor], Tensor]
"""Gives the pixels at some rows (h,) and columns (w,) of an image: two index tensors → shape (B, C, h, w)."""


def restore_bands(
    net: nn.Module,
    read: Reader,
    layout: TileLayout,
    *,
    self_ensemble: bool = False,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Yield the restored image from top to bottom, in bands of finished rows.

    Memory, beside what the network itself needs for one tile: the tile, its result, and one band of
    `layout.band_pixels` float32 values per channel; nothing of the size of the image. A band is valid until the
    next one is asked for.

    Args:
        net: network, (B, C, h, w) → (B, C', h·scale, w·scale), in the mode in which it is to run.
        read: gives the pixels of a tile.
        layout: the tiles, laid out for this network's size multiple and scale.
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
    expected = tuple(side * layout.scale for side in layout.tile_size)
    # One buffer serves all bands: rows that the next row of tiles adds to move to its top.
    band = torch.empty(0)
    done = 0
    ends = [*(row.start for row in layout.rows[1:]), layout.height]
    for row, end in zip(layout.rows, ends, strict=True):
        for column in layout.columns:
            pixels = read(row.source, column.source)
            with torch.no_grad(), torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                tile = pixels.to(device)
                result = _self_ensemble(net, tile) if self_ensemble else in_unit_range(net, tile)
            if result.shape[-2:] != expected:
                raise ValueError(
                    f"net's output {tuple(result.shape)} must end in {expected} for a tile of {tuple(pixels.shape)}; "
                    f"check the network's `scale` attribute ({layout.scale})"
                )
            result = result[..., row.kept, column.kept]
            result = result.to(pixels.device, torch.promote_types(pixels.dtype, torch.float32))
            if done == 0:
                band = result.new_zeros(*result.shape[:-2], layout.band_pixels // layout.width, layout.width)
            weights = (row.weights[:, None] * column.weights).to(result)
            band[..., : row.stop - row.start, column.start : column.stop].addcmul_(result, weights)
            done += 1
            if progress is not None:
                progress(done, layout.num_tiles)
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
    """Restore an image of any size, whole or in blended tiles: on tensors, for code that has its network at hand.

    What the network demands of images (`glmha.shared.image_network.image_rules`) is honoured: the image is reflected at
    the bottom and on the right up to a size that the network takes, and the result is cropped.

    An overlap of `overlap` pixels between neighbours is spent in thirds. The outer third, at each tile's border, is
    discarded; the middle third is a raised-cosine ramp from one tile to the other. A pixel within `overlap // 3`
    pixels of a tile's inner border therefore never counts. A network whose receptive radius is at most `overlap // 3`
    gives the same result tiled and whole, up to rounding. (Where tiles overlap by more, the ramp keeps its width and
    the discarded margins grow.) A network that looks at the whole image, as channel attention does, gives a different
    result for each tiling.

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

    Examples:
        >>> import torch
        >>> from trainers.tiling import restore
        >>> net = torch.nn.Conv2d(3, 3, 3, padding=1).eval()
        >>> restore(net, torch.zeros(3, 20, 30), tile=16, overlap=4).shape
        torch.Size([3, 20, 30])
    """
    if image.ndim not in (3, 4) or not image.is_floating_point():
        raise ValueError(
            f"image must be a float tensor of shape (C, H, W) or (B, C, H, W), got {image.dtype} {tuple(image.shape)}"
        )
    batch = image if image.ndim == 4 else image[None]
    layout = layout_of(net, *batch.shape[-2:], tile=tile, overlap=overlap)

    def read(rows: Tensor, columns: Tensor) -> Tensor:
        return batch[..., rows[:, None], columns]

    bands = restore_bands(
        net, read, layout, self_ensemble=self_ensemble, device=device, autocast=autocast, progress=progress
    )
    first = next(bands)
    output = first.new_empty(*first.shape[:-2], layout.height, layout.width)
    top = 0
    for band in chain([first], bands):
        output[..., top : top + band.shape[-2], :] = band
        top += band.shape[-2]
    return output if image.ndim == 4 else output[0]


def whole_image(net: nn.Module, image: Tensor) -> Tensor:
    """Restore an image (1, C, H, W) of any size at once."""
    with torch.inference_mode():
        return restore(net, image, tile=None, overlap=0)
