"""Checks that read files and list every fault, not only the first."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.files.images import read_image
from datamodules.pairs.dataset import fit_target

Check = Callable[[], list[str]]
"""Reads files and lists their faults; can be sent to another process."""


def call(check: Check) -> list[str]:
    """Make a check; a function that can be sent to another process."""
    return check()


def check_pair(image: Path, target: Path, *, scale: int = 1, crop_targets: bool = False) -> list[str]:
    """Read a pair of images.

    Args:
        image: the degraded one.
        target: the clean one; the same file where inputs are made of it.
        scale: size of the target relative to its input.
        crop_targets: whether a larger target is cut at the centre.

    Returns:
        A message for each fault: a file that is no complete image, pixels that are not 8-bit, kinds or sizes that do
        not fit.
    """
    faults, arrays = read_all([image] if image == target else [image, target])
    if len(arrays) == 2:
        pair = {image: arrays[0], target: arrays[1]}
        grey = [path for path, array in pair.items() if array.shape[2] == 1]
        if len(grey) == 1:
            (colour,) = pair.keys() - set(grey)
            faults.append(f"image {grey[0]} must be in colour as {colour} is, got grey; replace the wrong file")
        try:
            fit_target(arrays[1], arrays[0], scale, target, image, crop_targets=crop_targets)
        except DataError as error:
            faults.append(str(error))
    return faults


def check_reading(path: Path, read: Callable[[Path], object]) -> list[str]:
    """Read a file by a function that raises `DataError`; its message, if it does."""
    try:
        read(path)
    except DataError as error:
        return [str(error)]
    return []


def read_all(paths: list[Path]) -> tuple[list[str], list[NDArray]]:
    """Read image files: a message for each fault, and the images if there is none."""
    faults, arrays = [], []
    for path in paths:
        try:
            array = read_image(path)
        except DataError as error:
            faults.append(str(error))
            continue
        if array.dtype != np.uint8:
            faults.append(
                f"image {path} must have 8 bits a channel as published, got {array.dtype}; download it again, or "
                "convert it"
            )
        arrays.append(array)
    return faults, arrays
