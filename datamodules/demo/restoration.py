"""The demonstration: real photographs, degraded as they are read."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from datamodules.base.restoration import RestorationDataModule
from datamodules.degradations.base import Degradation
from datamodules.degradations.rain import Rain
from datamodules.demo.photographs import photograph
from datamodules.pairs.degraded import degraded_sample
from datamodules.pairs.transforms import PairedTransform

TRAIN = ("astronaut", "motorcycle", "rocket")
VAL = ("hopper",)
TEST = ("chelsea", "coffee")

# First word of the seed of each split, so that no two draw the same degradation.
_TRAIN_STREAM, _VAL_STREAM, _TEST_STREAM = range(3)


Sample = Callable[..., dict[str, Any]]
"""Makes a sample of a clean photograph (H, W, 3), with keywords `rng` and `name`; workers get a copy."""


class PhotographDataModule(RestorationDataModule, ABC):
    """Six natural colour photographs that scikit-image and matplotlib bundle, split by photograph; no download.

    Train: astronaut, motorcycle (the left one of a stereo pair; the right one would be the same scene) and rocket.
    Validation: hopper. Test: chelsea and coffee. Left out are what is grey, drawn, or seen through a microscope,
    ophthalmoscope or telescope, where rain means nothing. Every held-out photograph is cut in two across its longer
    side, each half cropped around its middle to `eval_size` at most, so that evaluation is quick.

    A training sample depends on `seed` and its number in the run alone: a resumed run, another number of workers,
    and another net in the same recipe all see the same patches. Held-out images have one sample each, for good.
    Subclasses choose the samples that are made of them.

    Args:
        scale: size of the photographs relative to the network's input.
        patch_size: side of a training patch, in pixels of the input.
        batch_size: training patches in a step of the optimiser, over all devices.
        num_workers: processes that make samples; 0 makes them in the main process.
        seed: of all patches and samples, at least 0.
        epoch_length: training patches in an epoch, over all devices.
        augment: flips and quarter turns of the clean patches.
        eval_size: largest side of a held-out image in pixels, at least 8 · scale.

    Raises:
        ValueError: if a number is out of range.
    """

    # Sets are called `demo-val` and `demo-test`.
    set_name = "demo"

    def __init__(
        self,
        *,
        scale: int,
        patch_size: int,
        batch_size: int,
        num_workers: int,
        seed: int,
        epoch_length: int,
        augment: bool,
        eval_size: int,
    ) -> None:
        super().__init__(patch_size=patch_size, batch_size=batch_size, num_workers=num_workers)
        if seed < 0:
            raise ValueError(f"seed ({seed}) must be at least 0")
        if epoch_length < batch_size:
            raise ValueError(f"epoch_length ({epoch_length}) must be at least batch_size ({batch_size})")
        if eval_size < 8 * scale:
            raise ValueError(f"eval_size ({eval_size}) must be at least {8 * scale}; use 320")
        self.scale = scale
        self.seed = seed
        self.epoch_length = epoch_length
        self.augment = augment
        self.eval_size = eval_size

    @property
    def margin(self) -> int:
        """Pixels around a patch or an image that a sample is given beyond what it shows."""
        return 0

    def picture(self, name: str) -> NDArray:
        """Read what samples are made of: a photograph (H, W, 3)."""
        return photograph(name)

    @abstractmethod
    def training_sample(self) -> Sample:
        """Return the function that makes training samples."""

    @abstractmethod
    def held_out_sample(self) -> Sample:
        """Return the function that makes samples of validation and test."""

    def setup(self, stage: str) -> None:
        """Read and cut the held-out photographs.

        Args:
            stage: "fit", "validate", "test" or "predict".
        """
        if stage in ("fit", "validate"):
            self._val_sets = {f"{self.set_name}-val": self._held_out(VAL, _VAL_STREAM)}
        if stage in ("test", "predict"):
            self._test_sets = {f"{self.set_name}-test": self._held_out(TEST, _TEST_STREAM)}

    def train_dataloader(self) -> DataLoader:
        """Make a loader of `epoch_length` new patches an epoch, with the present `patch_size` and `batch_size`."""
        transform = PairedTransform(self.patch_size * self.scale + 2 * self.margin, augment=self.augment)
        pictures = {name: self.picture(name) for name in TRAIN}
        dataset = _Patches(pictures, self.training_sample(), transform, self.seed, self.epoch_length)
        return self._training_loader(dataset)

    def _held_out(self, names: Sequence[str], stream: int) -> "_HeldOut":
        multiple = 8 * self.scale
        size = self.eval_size // multiple * multiple + 2 * self.margin
        images = {
            f"{name}-{part}": _centre(half, size, multiple)
            for name in names
            for part, half in enumerate(_halves(self.picture(name)), start=1)
        }
        return _HeldOut(images, self.held_out_sample(), (stream, self.seed))


class DemoDataModule(PhotographDataModule):
    """The photographs of `PhotographDataModule`, degraded.

    Args:
        degradation: what happens to the clean images; None for `Rain()`, rain streaks with a light veil.
        patch_size: side of a training patch, in pixels of the input.
        batch_size: training patches in a step of the optimiser, over all devices.
        num_workers: processes that degrade patches; 0 does it in the main process, at about 1 ms a patch.
        seed: of all patches and degradations, at least 0.
        epoch_length: training patches in an epoch, over all devices.
        augment: flips and quarter turns of the clean patches, before they are degraded.
        eval_size: largest side of a held-out image in pixels, at least 8 times the degradation's scale.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> from datamodules import DemoDataModule
        >>> from datamodules.degradations import GaussianNoise
        >>> data = DemoDataModule(GaussianNoise((25, 25)), patch_size=16, batch_size=4, eval_size=32)
        >>> data.setup("fit")
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["input"].shape, batch["name"][0]
        (torch.Size([4, 3, 16, 16]), 'motorcycle-0')
        >>> data.val_set_names
        ['demo-val']
    """

    def __init__(
        self,
        degradation: Degradation | None = None,
        *,
        patch_size: int = 64,
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
        epoch_length: int = 800,
        augment: bool = True,
        eval_size: int = 320,
    ) -> None:
        self.degradation = Rain() if degradation is None else degradation
        super().__init__(
            scale=self.degradation.scale,
            patch_size=patch_size,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            epoch_length=epoch_length,
            augment=augment,
            eval_size=eval_size,
        )

    def training_sample(self) -> Sample:
        """Return the function that degrades a patch."""
        return partial(degraded_sample, degradation=self.degradation)

    def held_out_sample(self) -> Sample:
        """Return the function that degrades an image."""
        return self.training_sample()


class _Patches(Dataset[dict[str, Any]]):
    def __init__(
        self,
        pictures: Mapping[str, NDArray],
        sample: Sample,
        transform: PairedTransform,
        seed: int,
        length: int,
    ) -> None:
        self.names = list(pictures)
        self.photographs = list(pictures.values())
        areas = np.array([image.shape[0] * image.shape[1] for image in self.photographs])
        self.chances = areas / areas.sum()
        self.sample = sample
        self.transform = transform
        self.seed = seed
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> dict[str, Any]:
        rng = np.random.default_rng((_TRAIN_STREAM, self.seed, number))
        chosen = rng.choice(len(self.names), p=self.chances)
        clean, _ = self.transform(self.photographs[chosen], self.photographs[chosen], rng)
        return self.sample(clean, rng=rng, name=f"{self.names[chosen]}-{number}")


class _HeldOut(Dataset[dict[str, Any]]):
    def __init__(self, images: dict[str, NDArray], sample: Sample, seed: tuple[int, int]) -> None:
        self.images = list(images.items())
        self.sample = sample
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, clean = self.images[index]
        return self.sample(clean, rng=np.random.default_rng((*self.seed, index)), name=name)


def _halves(image: NDArray) -> list[NDArray]:
    axis = 0 if image.shape[0] > image.shape[1] else 1
    return np.array_split(image, 2, axis=axis)


def _centre(image: NDArray, size: int, multiple: int) -> NDArray:
    height, width = (min(size, side // multiple * multiple) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
