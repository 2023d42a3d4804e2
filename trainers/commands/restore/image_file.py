"""One image file restored into another: depth, grey and alpha kept."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from numpy.typing import NDArray
from torch import nn

from datamodules.errors import DataError
from datamodules.files.images import read_image, write_image
from trainers.tiling.arrays import RestoreOptions, restore_array


@dataclass(frozen=True)
class RestoredImage:
    """The result of one restored image.

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


def restore_file(
    net: nn.Module, source: Path, target: Path, options: RestoreOptions, tile_done: Callable[[int, int], None]
) -> RestoredImage:
    """Restore one image file into another."""
    started = time.perf_counter()
    array = read_image(source)
    result, layout = restore_array(net, array, options, name=str(source), tile_done=tile_done)
    _write(target, result)
    return RestoredImage(
        source=source,
        target=target,
        height=array.shape[0],
        width=array.shape[1],
        num_tiles=layout.num_tiles,
        tile_size=layout.tile_size,
        host_bytes=array.nbytes + 4 * result.nbytes + 4 * array[..., :3].shape[2] * layout.band_pixels,
        seconds=time.perf_counter() - started,
    )


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
