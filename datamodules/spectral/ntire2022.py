"""ARAD_1K, the data set of the NTIRE 2022 challenge on spectral reconstruction from RGB."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.published import shortfall_of
from datamodules.base.restoration import RestorationDataModule
from datamodules.errors import DataError, refuse
from datamodules.files.cubes import list_cubes
from datamodules.files.images import list_images
from datamodules.loading.samples import SeededSamples
from datamodules.spectral.scenes import Patches, Photographs, Scene, Scenes, check_photograph, check_scene, read_scene

# Training scenes that were released without a readable cube.
UNUSABLE = ("ARAD_1K_0314", "ARAD_1K_0340", "ARAD_1K_0531")

# The split by number, for a folder without lists.
_NUMBERS = {"train": range(1, 901), "valid": range(901, 951)}


class NTIRE2022DataModule(RestorationDataModule, PublishedDataSet):
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

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import NTIRE2022DataModule
        >>> from datamodules.files import write_cube
        >>> cube = np.random.default_rng(0).random((16, 24, 31), np.float32)
        >>> _ = write_image("Train_RGB/ARAD_1K_0901.jpg", np.rint(255 * cube[..., :3]).astype(np.uint8))
        >>> write_cube("Train_Spec/ARAD_1K_0901.mat", cube)
        >>> data = NTIRE2022DataModule(".", num_workers=0)
        >>> data.setup("test")
        >>> sample = next(iter(data.test_dataloader()[0]))
        >>> sample["name"], sample["input"].shape, sample["target"].shape
        (['ARAD_1K_0901'], torch.Size([1, 3, 16, 24]), torch.Size([1, 31, 16, 24]))
    """

    scene_counts: ClassVar[dict[str, int]] = {"train": 897, "valid": 50}

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
        """Number of validation scenes, as published."""
        return {"ARAD_1K-valid": self.scene_counts["valid"]}

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List the training and validation scenes, and the photographs of the test."""
        data = cls(root)
        folder = data.folder()
        for split, published in cls.scene_counts.items():
            find = partial(data.scenes, split) if (folder / "Train_RGB").is_dir() else None
            yield Part(f"ARAD_1K-{split}", published, find, check_scene)
        test = folder / "Test_RGB"
        find_test = partial(list_images, test, "source's Test_RGB") if test.is_dir() else None
        yield Part("ARAD_1K-test", None, find_test, check_photograph)

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
        folder, published = self.folder(), self.scene_counts[split]
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


def _number(name: str) -> int:
    """The number of a scene; 0 of other files."""
    digits = name.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0
