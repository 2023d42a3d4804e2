"""One image file restored into another: depth, grey and alpha kept."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.errors import DataError
from datamodules.files.images import read_image, to_array, to_tensor, write_image
from glmha.shared.image_network import image_rules
from trainers.networks import in_unit_range, input_channels
from trainers.tiling.plan import TilePlan, plan_tiles
from trainers.tiling.restoration import restore_bands


@dataclass(frozen=True)
class RestoredImage:
    """What became of one image.

    Attributes:
        source: the image.
        target: its restored version.
        height: of the source, in pixels.
        width: of the source, in pixels.
        num_tiles: tiles that were restored one after the other.
        tile_size: height and width of each, in pixels.
        host_bytes: bound on the memory held beside the network's own: image, band being blended, result, and three
            copies of the result that its encoder makes.
        seconds: from reading the source to having written the target.
    """

    source: Path
    target: Path
    height: int
    width: int
    num_tiles: int
    tile_size: tuple[int, int]
    host_bytes: int
    seconds: float


@dataclass(frozen=True)
class RestoreOptions:
    """How images are restored."""

    tile: int | None
    overlap: int
    autocast: torch.dtype | None
    self_ensemble: bool


class _Colours(nn.Module):
    """A network between its own channels and the image's.

    Args:
        net: network from one or three channels to as many.
        channels: of the image, 1 or 3.

    Raises:
        ValueError: if the network takes neither one nor three channels.
    """

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net = net
        self.channels = channels
        self.taken = input_channels(net)

    def forward(self, image: Tensor) -> Tensor:
        """Restore a tile, shape (1, channels, h, w), into as many channels."""
        if self.channels < self.taken:
            result = in_unit_range(self.net, image.expand(-1, self.taken, -1, -1)).mean(1, keepdim=True)
        elif self.channels > self.taken:
            result = in_unit_range(self.net, image.transpose(0, 1)).transpose(0, 1)
        else:
            result = in_unit_range(self.net, image)
        if result.shape[1] != self.channels:
            raise ValueError(
                f"pretrained must give as many channels as it takes ({self.taken}), got {result.shape[1]}; "
                "evaluate it with its own data module: lowrank test"
            )
        return result


def restore_file(
    net: nn.Module, source: Path, target: Path, options: RestoreOptions, tile_done: Callable[[int, int], None]
) -> RestoredImage:
    """Restore one image file into another."""
    started = time.perf_counter()
    array = read_image(source)
    height, width, channels = array.shape
    colours = array[..., :3]
    rules = image_rules(net)
    plan = plan_tiles(
        height,
        width,
        tile=options.tile,
        overlap=options.overlap,
        size_multiple=rules.size_multiple,
        scale=rules.scale,
        taken=rules.takes,
    )

    def read(rows: Tensor, columns: Tensor) -> Tensor:
        return to_tensor(colours[rows.numpy()[:, None], columns.numpy()])[None]

    result = np.empty((plan.height, plan.width, channels), array.dtype)
    if channels == 4:
        result[..., 3:] = _resize(array[..., 3:], plan)
    top = 0
    for band in restore_bands(
        _Colours(net, colours.shape[2]),
        read,
        plan,
        self_ensemble=options.self_ensemble,
        autocast=options.autocast,
        progress=tile_done,
    ):
        if not band.isfinite().all():
            remedy = "choose another checkpoint" if options.autocast is None else "try --precision float32"
            raise DataError(f"image {source} must have a finite result, got NaN or Inf; {remedy}")
        bottom = top + band.shape[-2]
        result[top:bottom, :, :3] = to_array(band[0], array.dtype)
        top = bottom
    _write(target, result)
    return RestoredImage(
        source=source,
        target=target,
        height=height,
        width=width,
        num_tiles=plan.num_tiles,
        tile_size=plan.tile_size,
        host_bytes=array.nbytes + 4 * result.nbytes + 4 * colours.shape[2] * plan.band_pixels,
        seconds=time.perf_counter() - started,
    )


def _resize(alpha: NDArray, plan: TilePlan) -> NDArray:
    if plan.scale == 1:
        return alpha
    larger = F.interpolate(to_tensor(alpha)[None], (plan.height, plan.width), mode="bicubic", align_corners=False)
    return to_array(larger[0], alpha.dtype)


def _write(target: Path, array: NDArray) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_image(target, array)
    except OSError as error:
        # Not a DataError: every other image would fail alike, after the work on it.
        raise ValueError(
            f"output ({target}) must be writable, got: {error.strerror}; free space or give another folder"
        ) from error
    except ValueError as error:
        raise DataError(str(error)) from error


@contextmanager
def out_of_memory_explained(source: Path, tile: int | None, device: torch.device) -> Iterator[None]:
    """Turn the device's running out of memory into a message that names the tile."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if not isinstance(error, MemoryError) and "out of memory" not in text and "allocate memory" not in text:
            raise
        smaller = 512 if tile is None else max(tile // 2, 1)
        raise ValueError(
            f"tile ({'the whole image' if tile is None else tile}) must be smaller: memory of {device} ran out on "
            f"{source}; give --tile {smaller}, or --precision bf16"
        ) from error
