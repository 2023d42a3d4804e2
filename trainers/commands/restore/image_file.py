"""One image file restored into another: depth, grey, alpha and colour profile kept."""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from numpy.typing import NDArray
from torch import nn

from datamodules.errors import DataError
from datamodules.files.encoding import check_format
from datamodules.files.images import read_image_with_metadata, write_image
from datamodules.files.metadata import Metadata
from trainers.tiling.arrays import RestoreOptions, restore_array
from trainers.tiling.layout import layout_of

# Of a single name; all others, such as a full disk, concern every file.
_OF_ONE_FILE = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EILSEQ, errno.ELOOP, errno.EFBIG)


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
        lost: what the source says beside its pixels and the target does not, in words.
    """

    source: Path
    target: Path
    height: int
    width: int
    num_tiles: int
    tile_size: tuple[int, int]
    host_bytes: int
    seconds: float
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileOptions:
    """How results are written.

    Attributes:
        quality: 1 to 100, of JPEG and WebP; None: 95, and without loss.
        exif: hand on description, camera, exposure, date, place and author.
    """

    quality: int | None = None
    exif: bool = False


def restore_file(
    net: nn.Module,
    source: Path,
    target: Path,
    options: RestoreOptions,
    files: FileOptions,
    tile_done: Callable[[int, int], None],
) -> RestoredImage:
    """Restore one image file into another.

    Raises:
        DataError: if the image cannot be read or restored, or its result not be held by the target's format.
        ValueError: if the network does not fit, or no file can be written.
    """
    started = time.perf_counter()
    array, metadata = read_image_with_metadata(source)
    expected = layout_of(net, *array.shape[:2], tile=options.tile, overlap=options.overlap)
    try:
        # Before the network runs: afterwards its work would be lost.
        check_format(target.suffix, (expected.height, expected.width, array.shape[2]), array.dtype, str(target))
    except ValueError as error:
        raise DataError(f"{error} (--format chooses another)") from error
    result, layout = restore_array(net, array, options, name=str(source), tile_done=tile_done)
    lost = write_result(target, result, files.quality, metadata if files.exif else replace(metadata, exif=None))
    return RestoredImage(
        source=source,
        target=target,
        height=array.shape[0],
        width=array.shape[1],
        num_tiles=layout.num_tiles,
        tile_size=layout.tile_size,
        host_bytes=array.nbytes + 4 * result.nbytes + 4 * array[..., :3].shape[2] * layout.band_pixels,
        seconds=time.perf_counter() - started,
        lost=lost,
    )


def write_result(target: Path, array: NDArray, quality: int | None, metadata: Metadata) -> tuple[str, ...]:
    """Write an image; what of its metadata it does not hold, in words.

    Raises:
        DataError: if it cannot be written under this name or in this format.
        ValueError: if nothing can be written there.
    """
    try:
        return write_image(target, array, quality=quality, metadata=metadata)
    except OSError as error:
        message = f"output ({target}) must be writable, got: {error.strerror}; free space or give another folder"
        if error.errno in _OF_ONE_FILE:
            raise DataError(message) from error
        # Not a DataError: every other image would fail alike, after the work on it.
        raise ValueError(message) from error
    except ValueError as error:
        raise DataError(str(error)) from error


@contextmanager
def out_of_memory_explained(source: Path, tile: int | None, device: torch.device) -> Iterator[None]:
    """Turn running out of memory into a message that names the image and the tile.

    Raises:
        DataError: if memory ran out; other images may be smaller.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if not isinstance(error, MemoryError) and "out of memory" not in text and "allocate memory" not in text:
            raise
        smaller = 512 if tile is None else max(tile // 2, 1)
        raise DataError(
            f"tile ({'the whole image' if tile is None else tile}) must be smaller: memory of {device} ran out on "
            f"{source}; give --tile {smaller}, or --precision bf16"
        ) from error
