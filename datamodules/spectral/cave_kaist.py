"""The simulation of MST: scenes of CAVE train, scenes of KAIST test, both seen through one coded aperture."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.base.checks import check_reading
from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.published import shortfall_of
from datamodules.base.restoration import RestorationDataModule
from datamodules.cassi import DISPERSION
from datamodules.errors import DataError
from datamodules.files.cubes import list_cubes, read_cube, read_mask
from datamodules.files.images import to_tensor
from datamodules.loading.samples import SeededSamples
from datamodules.pairs.transforms import PairedTransform
from datamodules.spectral.camera import BANDS, Camera, NetInput, NetMask

# CAVE's cubes are 16-bit levels; upstream divides by this, not by 65535.
_LEVELS = 65536


class CASSIDataModule(RestorationDataModule, PublishedDataSet):
    """CAVE trains, KAIST tests (Meng et al., ECCV 2020; Cai et al., CVPR 2022), to be downloaded by the user.

    Layout below `root`, as the repository of MST arranges it::

        cave_1024_28/scene1.mat … scene205.mat      cubes of 16-bit levels, variable `img_expand` or `img`
        TSA_simu_data/mask.mat                      coded aperture of 256×256, variable `mask`
        TSA_simu_data/Truth/scene01.mat … 10.mat    cubes of 256×256×28 in [0, 1], variable `img`

    Of every step's samples the first half (rounded down) are crops, flipped and turned at random; the others are
    mosaics of two by two crops of half the side, as upstream makes them. Which samples of an epoch are which depends on
    `batch_size`. Test scenes validate too, because upstream validates on them and no split is published.

    Training scenes are kept in memory, as upstream does (24 GB in float32; less if they are stored as integers).

    Args:
        root: folder that the other paths are relative to.
        train: folder of training scenes; of those, numbers up to 205 train.
        test: folder of test scenes.
        mask: the coded aperture's file.
        bands: of all cubes.
        step: pixels by which the prism moves a band against the one before it.
        net_input: what the net is given; see `Camera`.
        net_mask: the form in which the net is given the mask; see `Camera`.
        patch_size: side of a training patch, at most the mask's.
        batch_size: training patches in a step of the optimiser, over all devices.
        num_workers: processes that cut patches and measure them; 0 does it in the main process.
        epoch_length: training patches in an epoch, over all devices.
        augment: flips and quarter turns of the crops (never of mosaics).

    Raises:
        ValueError: if a number is out of range, or `net_input` or `net_mask` is unknown.

    Examples:
        >>> import numpy as np
        >>> import scipy.io
        >>> from pathlib import Path
        >>> from datamodules import CASSIDataModule
        >>> Path("TSA_simu_data/Truth").mkdir(parents=True)
        >>> rng = np.random.default_rng(0)
        >>> scipy.io.savemat("TSA_simu_data/mask.mat", {"mask": rng.integers(0, 2, (32, 32))})
        >>> scipy.io.savemat("TSA_simu_data/Truth/scene01.mat", {"img": rng.random((32, 32, 28))})
        >>> data = CASSIDataModule(".", num_workers=0)
        >>> data.setup("test")
        >>> sample = next(iter(data.test_dataloader()[0]))
        >>> sample["input"].shape, sample["mask"].shape
        (torch.Size([1, 28, 32, 32]), torch.Size([1, 28, 32, 86]))
    """

    train_count: ClassVar[int] = 205
    test_count: ClassVar[int] = 10

    def __init__(
        self,
        root: Path,
        *,
        train: Path = Path("cave_1024_28"),
        test: Path = Path("TSA_simu_data/Truth"),
        mask: Path = Path("TSA_simu_data/mask.mat"),
        bands: int = BANDS,
        step: int = DISPERSION,
        net_input: NetInput = "estimate",
        net_mask: NetMask = "shifted",
        patch_size: int = 256,
        batch_size: int = 5,
        num_workers: int = 2,
        epoch_length: int = 5000,
        augment: bool = True,
    ) -> None:
        super().__init__(patch_size=patch_size, batch_size=batch_size, num_workers=num_workers)
        if epoch_length < batch_size:
            raise ValueError(f"epoch_length ({epoch_length}) must be at least batch_size ({batch_size})")
        if bands < 1:
            raise ValueError(f"bands ({bands}) must be at least 1")
        if step < 0:
            raise ValueError(f"step ({step}) must be at least 0 pixels; 2 is usual")
        for name, value, known in (
            ("net_input", net_input, get_args(NetInput)),
            ("net_mask", net_mask, get_args(NetMask)),
        ):
            if value not in known:
                raise ValueError(f"{name} ({value}) must be one of {', '.join(known)}")
        root = Path(root)
        self.train_folder = root / train
        self.test_folder = root / test
        self.mask_file = root / mask
        self.bands = bands
        self.step = step
        self.net_input: NetInput = net_input
        self.net_mask: NetMask = net_mask
        self.epoch_length = epoch_length
        self.augment = augment
        self._train_cubes: list[tuple[str, NDArray]] = []
        self._camera: Camera | None = None

    @property
    def published_counts(self) -> dict[str, int]:
        """Number of test scenes, as published."""
        return {"KAIST": self.test_count}

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List the scenes of CAVE and of KAIST, and the mask."""
        data = cls(root)
        mask = data.mask_file
        train = data.train_scenes if data.train_folder.exists() else None
        yield Part("CAVE", cls.train_count, train, partial(check_reading, read=read_levels))
        test = data.test_scenes if data.test_folder.exists() else None
        yield Part("KAIST", cls.test_count, test, partial(check_reading, read=read_truth))
        yield Part("mask", 1, (lambda: [mask]) if mask.exists() else None, partial(check_reading, read=read_mask))

    def setup(self, stage: str) -> None:
        """Read the mask and, to train, the scenes.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            DataError: if the mask or scenes are missing or cannot be used, or a patch is larger than they are.
        """
        mask = torch.from_numpy(read_mask(self.mask_file))
        self._camera = Camera(mask, self.bands, self.step, self.net_input, self.net_mask)
        if stage == "fit" and not self._train_cubes:
            self._train_cubes = self._read_training_scenes()
        if stage == "fit":
            self._check_patch_size(mask)
        sets = {"KAIST": _Snapshots(self.test_scenes(), self._camera)}
        if stage in ("fit", "validate"):
            self._val_sets = sets
        else:
            self._test_sets = sets

    def train_dataloader(self) -> DataLoader:
        """Make a loader of `epoch_length` new patches an epoch, with the present `patch_size` and `batch_size`."""
        if self._camera is None or not self._train_cubes:
            raise RuntimeError('setup("fit") must run before train_dataloader()')
        dataset = _TrainingSnapshots(
            self._train_cubes,
            self._camera,
            self.patch_size,
            self.augment,
            self.epoch_length,
            self._share(self.batch_size) * self._accumulated * self._world_size,
        )
        return self._training_loader(SeededSamples(dataset, self._run_seed()))

    def train_scenes(self) -> list[Path]:
        """Find the training scenes; DataError if there are none."""
        # Upstream leaves the rest of CAVE aside.
        files = [path for path in _scenes(self.train_folder, "train") if _number(path) <= self.train_count]
        if not files:
            raise DataError(
                f"train ({self.train_folder}) must hold scene1.mat to scene{self.train_count}.mat, got none of these; "
                "check the path"
            )
        if message := shortfall_of("CAVE", len(files), self.train_count, "scenes"):
            self._say(message)
        return files

    def test_scenes(self) -> list[Path]:
        """Find the test scenes; DataError if there are none."""
        files = _scenes(self.test_folder, "test")
        if message := shortfall_of("KAIST", len(files), self.test_count, "scenes"):
            self._say(message)
        return files

    def _read_training_scenes(self) -> list[tuple[str, NDArray]]:
        cubes = ((path, read_levels(path, self.bands)) for path in self.train_scenes())
        return [(path.stem, cube.astype(np.float32) if cube.dtype == np.float64 else cube) for path, cube in cubes]

    def _check_patch_size(self, mask: Tensor) -> None:
        if self.patch_size > min(mask.shape):
            raise DataError(
                f"patch_size ({self.patch_size}) must not exceed the mask {self.mask_file}, got "
                f"{mask.shape[0]}×{mask.shape[1]}; lower patch_size"
            )
        if self.patch_size % 2:
            raise ValueError(f"patch_size ({self.patch_size}) must be even: mosaics are of halves")


class _Snapshots(Dataset[dict[str, object]]):
    def __init__(self, files: Sequence[Path], camera: Camera) -> None:
        self.files = files
        self.camera = camera

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, object]:
        path = self.files[index]
        cube = read_truth(path, self.camera.bands)
        if any(have > most for have, most in zip(cube.shape, self.camera.mask.shape, strict=False)):
            raise DataError(
                f"cube {path} must be at most as large as the mask, {tuple(self.camera.mask.shape)}, got "
                f"{cube.shape[:2]}; crop it"
            )
        return {**self.camera.see(to_tensor(cube.astype(np.float32))), "name": path.stem}


class _TrainingSnapshots(Dataset[dict[str, object]]):
    def __init__(
        self,
        cubes: Sequence[tuple[str, NDArray]],
        camera: Camera,
        patch_size: int,
        augment: bool,
        length: int,
        batch_size: int,
    ) -> None:
        self.cubes = cubes
        self.camera = camera
        self.crop = PairedTransform(patch_size, augment=augment)
        self.piece = PairedTransform(patch_size // 2, augment=False)
        self.length = length
        self.batch_size = batch_size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, object]:
        # The index keeps processes apart that start from the same torch seed.
        rng = np.random.default_rng((int(torch.randint(2**62, ())), index))
        # Devices take turns, so this is the sample's place in its step, and the step's kinds spread over all of them.
        place = index % self.batch_size
        if place < self.batch_size // 2:
            name, levels = self._draw(self.crop, rng)
        else:
            drawn = [self._draw(self.piece, rng) for _ in range(4)]
            name = "+".join(part[0] for part in drawn)
            upper, lower = (np.concatenate([drawn[i][1], drawn[i + 1][1]], axis=1) for i in (0, 2))
            levels = np.concatenate([upper, lower])
        cube = torch.from_numpy(np.ascontiguousarray(levels.transpose(2, 0, 1), dtype=np.float32)) / _LEVELS
        return {**self.camera.see(cube), "name": name}

    def _draw(self, transform: PairedTransform, rng: np.random.Generator) -> tuple[str, NDArray]:
        name, cube = self.cubes[int(rng.integers(len(self.cubes)))]
        return name, transform(cube, cube, rng)[0]


def read_levels(path: Path, bands: int = BANDS) -> NDArray:
    """Read a cube of CAVE, which trains.

    Args:
        path: the .mat file, with `img_expand` or `img`.
        bands: that it must have.

    Returns:
        Shape (H, W, bands), levels of 16 bits, with the type that is stored.

    Raises:
        DataError: as `read_cube`, or if it does not hold levels.
    """
    cube = read_cube(path, ("img_expand", "img"), bands=bands)
    if cube.max() <= 1:
        raise DataError(
            f"cube {path} must hold levels of 16 bits, got values of at most {cube.max():.3g}; multiply it by {_LEVELS}"
        )
    return cube


def read_truth(path: Path, bands: int = BANDS) -> NDArray:
    """Read a cube of KAIST, which tests.

    Args:
        path: the .mat file, with `img`.
        bands: that it must have.

    Returns:
        Shape (H, W, bands), in [0, 1], with the type that is stored.

    Raises:
        DataError: as `read_cube`, or if values lie outside.
    """
    cube = read_cube(path, ("img",), bands=bands)
    if cube.min() < 0 or cube.max() > 1:
        raise DataError(f"cube {path} must lie in [0, 1], got [{cube.min():.3g}, {cube.max():.3g}]; rescale it")
    return cube


def _scenes(folder: Path, argument: str) -> list[Path]:
    files = sorted(list_cubes(folder), key=_number)
    if not files:
        raise DataError(f"{argument} ({folder}) must be a folder of .mat files, got none; check the path")
    return files


def _number(path: Path) -> int:
    """The number in a scene's name; scenes without one come last."""
    digits = re.search(r"\d+", path.stem)
    return int(digits[0]) if digits else 10**9
