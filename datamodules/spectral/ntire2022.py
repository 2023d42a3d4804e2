"""ARAD_1K, the data set of the NTIRE 2022 challenge on spectral reconstruction from RGB."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from datamodules.base import RestorationDataModule
from datamodules.cubes import Window, list_cubes, read_cube
from datamodules.errors import DataError, refuse
from datamodules.images import convert_channels, list_images, read_image, to_tensor
from datamodules.layout import shortfall_of
from datamodules.loaders import SeededSamples
from datamodules.transforms import PairedTransform

BANDS = 31
"""400 to 700 nm at 10 nm."""

TRAIN_COUNT = 897
VALID_COUNT = 50

# Training scenes that were released without a readable cube.
UNUSABLE = ("ARAD_1K_0314", "ARAD_1K_0340", "ARAD_1K_0531")

# The split by number, for a folder without lists.
_NUMBERS = {"train": range(1, 901), "valid": range(901, 951)}


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


class NTIRE2022DataModule(RestorationDataModule):
    """ARAD_1K (Arad et al., CVPR Workshops 2022), to be downloaded by the user: RGB → 31 bands, 400 to 700 nm.

    Layout, as the repository of MST++ arranges it::

        Train_Spec/ARAD_1K_0001.mat … 0950.mat    cubes of 482×512×31, MATLAB 7.3, variable `cube`
        Train_RGB/ARAD_1K_0001.jpg … 0950.jpg     their photographs
        Test_RGB/ARAD_1K_0951.jpg … 1000.jpg      photographs whose cubes are not public
        split_txt/{train,valid}_list.txt          names of scenes; without them 0001–0900 and 0901–0950

    897 scenes train (0314, 0340 and 0531 were released without a usable cube) and 50 validate, on which published
    figures are measured. Photographs are stretched to [0, 1] by their own minimum and maximum, as upstream does.

    An epoch takes every patch on a grid of `stride` pixels once: 45 × 49 a scene at the sizes above, 1 977 885 patches
    in all, the upstream's epoch. Only the patch is read from a cube, so that memory does not grow with the data set;
    `preload` trades 27 GB of memory for that reading.

    `test` scores the validation scenes; `predict` reconstructs `Test_RGB` if it is there, and else these.

    Args:
        root: the folder that holds `Train_Spec`, or the one that `ARAD_1K` or `dataset` with it is in.
        patch_size: side of a training patch.
        batch_size: training patches in a step of the optimiser, over all devices.
        num_workers: processes that read; 0 reads in the main process.
        stride: pixels between the training patches of a scene.
        augment: flips and quarter turns of training patches.
        preload: keep all training scenes in memory.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        root: Path,
        *,
        patch_size: int = 128,
        batch_size: int = 20,
        num_workers: int = 2,
        stride: int = 8,
        augment: bool = True,
        preload: bool = False,
    ) -> None:
        super().__init__(patch_size=patch_size, batch_size=batch_size, num_workers=num_workers)
        if stride < 1:
            raise ValueError(f"stride ({stride}) must be at least 1 pixel; upstream's is 8")
        self.root = Path(root)
        self.stride = stride
        self.augment = augment
        self.preload = preload
        self._train_scenes: Sequence[Scene] = ()
        self._preloaded: dict[str, tuple[NDArray, NDArray]] = {}

    @property
    def published_counts(self) -> dict[str, int]:
        """Number of scenes that validate, as published; see base class."""
        return {"ARAD_1K-valid": VALID_COUNT}

    def setup(self, stage: str) -> None:
        """Find the scenes that a stage needs.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            DataError: if folders or scenes are missing, or there are fewer patches than a batch.
        """
        folder = self.folder()
        if stage == "fit":
            self._train_scenes = self.scenes("train")
            patches = len(self._patches())
            if patches < self.batch_size:
                raise DataError(
                    f"batch_size ({self.batch_size}) must not exceed the patches of an epoch, got {patches}; lower "
                    "batch_size or stride"
                )
        if stage == "predict" and (folder / "Test_RGB").is_dir():
            photographs = list_images(folder / "Test_RGB", "root's Test_RGB")
            self._test_sets = {"ARAD_1K-test": Photographs(photographs)}
            return
        valid = {"ARAD_1K-valid": Scenes(self.scenes("valid"))}
        if stage in ("fit", "validate"):
            self._val_sets = valid
        else:
            self._test_sets = valid

    def train_dataloader(self) -> DataLoader:
        """Make a loader of shuffled, augmented patches, with the present `patch_size` and `batch_size`."""
        if not self._train_scenes:
            raise RuntimeError('setup("fit") must run before train_dataloader()')
        seed = self._run_seed()
        return self._training_loader(SeededSamples(self._patches(), seed), seed)

    def _patches(self) -> "Patches":
        scenes = self._train_scenes
        if self.preload and not self._preloaded:
            self._preloaded = {scene.name: read_scene(scene) for scene in scenes}
        return Patches(scenes, self._preloaded, self.patch_size, self.stride, self.augment)

    def folder(self) -> Path:
        """Find the folder that holds `Train_RGB` or `Test_RGB`; DataError if there is none."""
        candidates = (self.root, self.root / "ARAD_1K", self.root / "dataset")
        for folder in candidates:
            if (folder / "Train_RGB").is_dir() or (folder / "Test_RGB").is_dir():
                return folder
        raise DataError(
            f"root ({self.root}) must be or hold the folder of ARAD_1K, with Train_Spec and Train_RGB inside, got "
            "neither; download the data set, or check the path"
        )

    def scenes(self, split: str) -> list[Scene]:
        """Find the scenes of a split, "train" or "valid"; DataError if files of some are missing."""
        folder, published = self.folder(), {"train": TRAIN_COUNT, "valid": VALID_COUNT}[split]
        photographs = {path.stem: path for path in list_images(folder / "Train_RGB", "root's Train_RGB")}
        cubes = {path.stem: path for path in list_cubes(folder / "Train_Spec")}
        text = folder / "split_txt" / f"{split}_list.txt"
        if text.is_file():
            # Lists that were edited on Windows may begin with a mark.
            names = [line.strip() for line in text.read_text("utf-8-sig").splitlines() if line.strip()]
            source = f"names {text}"
            if not names:
                refuse(f"list ({text}) must name the scenes that {split}, one a line, got none; download it again")
                return []
        else:
            names = [name for name in photographs if _number(name) in _NUMBERS[split]]
            source = f"names {folder / 'Train_RGB'}"
        names = sorted(name for name in names if name not in UNUSABLE)
        absent = [name for name in names if name not in photographs or name not in cubes]
        if absent or not names:
            refuse(
                f"root ({folder}) must hold Train_RGB and Train_Spec of every scene that {source}, got {len(absent)} "
                f"of {len(names)} without: {', '.join(absent[:5])}; add the missing files, or take these names from "
                "the list",
                [
                    f"scene {name} of {text if text.is_file() else folder / 'Train_RGB'} must have a photograph in "
                    f"Train_RGB and a cube in Train_Spec of {folder}, got "
                    f"{'no photograph' if name not in photographs else 'no cube'}; add the missing file"
                    for name in absent
                ],
            )
        scenes = [Scene(name, photographs[name], cubes[name]) for name in names if name not in absent]
        if message := shortfall_of(f"ARAD_1K-{split}", len(scenes), published, "scenes"):
            self._say(message)
        return scenes


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


def _number(name: str) -> int:
    """The number of a scene; 0 of other files."""
    digits = name.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0
