"""Scenes of ARAD_1K: photographs and their cubes, read whole or by patches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from datamodules.base.checks import read_all
from datamodules.errors import DataError
from datamodules.files.cubes import Window, read_cube
from datamodules.files.images import convert_channels, read_image, to_tensor
from datamodules.pairs.transforms import PairedTransform

BANDS = 31
"""400 to 700 nm at 10 nm."""


@dataclass(frozen=True)
class Scene:
    """One photographed scene.

    Attributes:
        name: without suffix, as in the lists.
        rgb: its photograph.
        cube: its spectra.
    """

    name: str
    rgb: Path
    cube: Path


class Scenes(Dataset[dict[str, object]]):
    """Reads whole scenes, each a dict of `input` (3, H, W), `target` (31, H, W) and `name`.

    Args:
        scenes: to be read.
    """

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, object]:
        scene = self.scenes[index]
        image, cube = read_scene(scene)
        return {"input": to_tensor(image), "target": to_tensor(cube), "name": scene.name}


class Photographs(Dataset[dict[str, object]]):
    """Reads photographs without spectra, each a dict of `input` (3, H, W) and `name`.

    Args:
        files: to be read.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, object]:
        path = self.files[index]
        return {"input": to_tensor(read_photograph(path)), "name": path.stem}


class Patches(Dataset[dict[str, object]]):
    """Cuts patches on a grid: scene by scene, and in each row by row, as upstream counts them.

    Args:
        scenes: to be cut, all of one size.
        preloaded: scenes in memory by name; those that are not are read for each patch.
        patch_size: side in pixels.
        stride: pixels between patches.
        augment: draw one of the eight symmetries of the square from torch's global state and the index.

    Raises:
        DataError: if a patch is larger than the first scene. Reading raises it if another scene's size differs.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        preloaded: Mapping[str, tuple[NDArray, NDArray]],
        patch_size: int,
        stride: int,
        augment: bool,
    ) -> None:
        self.scenes = scenes
        self.preloaded = preloaded
        self.patch_size = patch_size
        self.stride = stride
        self.size = read_image(scenes[0].rgb).shape[:2]
        if patch_size > min(self.size):
            raise DataError(
                f"patch_size ({patch_size}) must not exceed the scenes, got {self.size[0]}×{self.size[1]} for "
                f"{scenes[0].rgb}; lower patch_size"
            )
        self.grid = tuple((side - patch_size) // stride + 1 for side in self.size)
        self.transform = PairedTransform(patch_size, augment=augment)

    def __len__(self) -> int:
        return len(self.scenes) * self.grid[0] * self.grid[1]

    def __getitem__(self, index: int) -> dict[str, object]:
        number, place = divmod(index, self.grid[0] * self.grid[1])
        top, left = (step * self.stride for step in divmod(place, self.grid[1]))
        window = slice(top, top + self.patch_size), slice(left, left + self.patch_size)
        scene = self.scenes[number]
        if scene.name in self.preloaded:
            image, cube = (part[window] for part in self.preloaded[scene.name])
        else:
            image, cube = read_scene(scene, window)
        if image.shape[:2] != (self.patch_size, self.patch_size):
            raise DataError(
                f"image {scene.rgb} must be of the first scene's size, {self.size[0]}×{self.size[1]}, got less; "
                "replace the file"
            )
        # The index keeps processes apart that start from the same torch seed.
        rng = np.random.default_rng((int(torch.randint(2**62, ())), index))
        image, cube = self.transform(image, cube, rng)
        return {"input": to_tensor(image), "target": to_tensor(cube), "name": f"{scene.name}-{place}"}


def read_photograph(path: Path) -> NDArray:
    """Read a photograph and stretch it to [0, 1] by its extremes.

    Args:
        path: of the image.

    Returns:
        Shape (H, W, 3), float32.

    Raises:
        DataError: if it cannot be read or is of one value.
    """
    image = convert_channels(read_image(path), 3).astype(np.float32)
    low, high = image.min(), image.max()
    if low == high:
        raise DataError(f"image {path} must show something, got {low:g} everywhere; replace the file")
    return (image - low) / (high - low)


def read_scene(scene: Scene, window: Window = (slice(None), slice(None))) -> tuple[NDArray, NDArray]:
    """Read a scene's photograph and its cube, or a part of both.

    Args:
        scene: which.
        window: rows and columns; the photograph is stretched as a whole.

    Returns:
        Shapes (H, W, 3) and (H, W, 31), float32.

    Raises:
        DataError: if a file cannot be used, or the sizes differ.
    """
    image = read_photograph(scene.rgb)
    size = image.shape[0], image.shape[1]
    cube = read_cube(scene.cube, ("cube",), bands=BANDS, size=size, window=window)
    return image[window], cube.astype(np.float32)


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
    faults, _ = read_all([path])
    if not faults:
        try:
            read_photograph(path)
        except DataError as error:
            faults.append(str(error))
    return faults
