"""Reading files for what is wrong with them: everything that is, not only what is found first."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.cubes import read_cube
from datamodules.errors import DataError
from datamodules.images import read_image
from datamodules.ntire2022 import BANDS, Scene, read_photograph
from datamodules.paired import fit_target

Check = Callable[[], list[str]]
"""Reads files and says what is wrong with them; can be sent to another process."""


def call(check: Check) -> list[str]:
    """Make a check, in whatever process."""
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
    faults, arrays = _read([image] if image == target else [image, target])
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


def check_scene(scene: Scene) -> list[str]:
    """Read a photograph and its cube; a message for each fault, as of `read_photograph` and `read_cube`."""
    faults = check_photograph(scene.rgb)
    size = None
    if not faults:
        height, width = read_image(scene.rgb).shape[:2]
        size = height, width
    try:
        read_cube(scene.cube, ("cube",), bands=BANDS, size=size)
    except DataError as error:
        faults.append(str(error))
    return faults


def check_photograph(path: Path) -> list[str]:
    """Read a photograph without a target; a message for each fault."""
    faults, _ = _read([path])
    if not faults:
        try:
            read_photograph(path)
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


def _read(paths: list[Path]) -> tuple[list[str], list[NDArray]]:
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
