"""Many images of one folder in a single file, without compression: faster to read than to decode."""

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.files.atomic import atomic_file

PACK_NAME = "images.h5"
"""A folder's pack. Its images are addressed as if it were a folder: `input/images.h5/0001.png`."""


def is_packed(path: Path) -> bool:
    """Whether a path means an image in a pack."""
    return path.parent.name == PACK_NAME


def list_pack(folder: Path) -> list[Path]:
    """List the images of a folder's pack, sorted by name; empty if it has none.

    Raises:
        DataError: if the pack is damaged.
    """
    pack = folder / PACK_NAME
    if not pack.is_file():
        return []
    try:
        with h5py.File(pack, "r") as file:
            return [pack / name for name in sorted(file)]
    except (OSError, RuntimeError) as error:
        raise DataError(_damaged(pack, error)) from error


def read_packed(path: Path) -> NDArray:
    """Read an image of a pack.

    Args:
        path: as `list_pack` gives it.

    Returns:
        Shape (H, W, C), as it was written.

    Raises:
        DataError: if the pack is missing or damaged, or has no such image, or something else in its place.
    """
    try:
        entry = _opened(path.parent, os.getpid())[path.name]
        if not _is_image(entry):
            raise DataError(
                f"image {path} must be of shape (H, W, 1, 3 or 4) and of 8 or 16 bits or float32, all of it in the "
                "pack; prepare the data again"
            )
        return np.asarray(entry)
    except KeyError as error:
        raise DataError(f"image {path} must be in {path.parent}, got no such image; prepare the data again") from error
    except (OSError, RuntimeError) as error:
        raise DataError(_damaged(path.parent, error)) from error


def _is_image(entry: object) -> bool:
    """Whether an entry of a pack holds what it claims, and is an image."""
    return (
        isinstance(entry, h5py.Dataset)
        and entry.ndim == 3
        and entry.shape[2] in (1, 3, 4)
        and entry.dtype in (np.uint8, np.uint16, np.float32)
        and 0 < entry.nbytes <= entry.id.get_storage_size()
    )


def write_pack(folder: Path, images: Iterable[tuple[str, NDArray]]) -> None:
    """Write a folder's pack, complete or not at all.

    Args:
        folder: where; made if need be.
        images: name and pixels (H, W, C) of each, taken one after another.

    Raises:
        OSError: if it cannot be written.
    """
    # The newest layout finds a name among many thousands fastest.
    with atomic_file(folder / PACK_NAME) as raw, h5py.File(raw, "w", libver="latest") as file:
        for name, image in images:
            file.create_dataset(name, data=image)


@lru_cache(maxsize=16)
def _opened(pack: Path, process: int) -> h5py.File:
    # A file that was opened before a fork must not be shared with the child: each process opens its own.
    return h5py.File(pack, "r")


def _damaged(pack: Path, error: Exception) -> str:
    return f"pack {pack} must be a complete file of images, got: {error}; remove its folder and prepare it again"
