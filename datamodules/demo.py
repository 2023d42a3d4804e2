"""The demonstration: real photographs, degraded as they are read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from datamodules.base import RestorationDataModule
from datamodules.degradations import Degradation, Rain
from datamodules.degraded import degraded_sample
from datamodules.photographs import photograph
from datamodules.transforms import PairedTransform

TRAIN = ("astronaut", "motorcycle", "rocket")
VAL = ("hopper",)
TEST = ("chelsea", "coffee")

# First word of the seed of each split, so that no two draw the same degradation.
_TRAIN_STREAM, _VAL_STREAM, _TEST_STREAM = range(3)


class DemoDataModule(RestorationDataModule):
    """Six natural colour photographs that scikit-image and matplotlib bundle, split by photograph; no download.

    Train: astronaut, motorcycle (the left one of a stereo pair; the right one would be the same scene) and rocket.
    Validation: hopper. Test: chelsea and coffee. Left out are what is grey, drawn, or seen through a microscope,
    ophthalmoscope or telescope, where rain means nothing. Every held-out photograph is cut in two across its longer
    side, each half cropped around its middle to `eval_size` at most, so that evaluation is quick.

    A training sample depends on `seed` and its number in the run alone: a resumed run, another number of workers,
    and another net in the same recipe all see the same patches. Held-out images have one degradation each, for good.

    Args:
        degradation: what happens to the clean images; None for `Rain()`, rain streaks with a light veil.
        patch_size: side of a training patch, in pixels of the input.
        batch_size: training patches in a batch, on each device.
        num_workers: processes that degrade patches; 0 does it in the main process, at about 1 ms a patch.
        seed: of all patches and degradations, at least 0.
        epoch_length: training patches in an epoch, over all devices.
        augment: flips and quarter turns of the clean patches, before they are degraded.
        eval_size: largest side of a held-out image in pixels, at least 8 times the degradation's scale.

    Raises:
        ValueError: if a number is out of range.
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
        super().__init__(patch_size=patch_size, batch_size=batch_size, num_workers=num_workers)
        self.degradation = Rain() if degradation is None else degradation
        if seed < 0:
            raise ValueError(f"seed ({seed}) must be at least 0")
        if epoch_length < batch_size:
            raise ValueError(f"epoch_length ({epoch_length}) must be at least batch_size ({batch_size})")
        if eval_size < 8 * self.degradation.scale:
            raise ValueError(f"eval_size ({eval_size}) must be at least {8 * self.degradation.scale}; use 320")
        self.seed = seed
        self.epoch_length = epoch_length
        self.augment = augment
        self.eval_size = eval_size

    def setup(self, stage: str) -> None:
        """Read and cut the held-out photographs.

        Args:
            stage: "fit", "validate", "test" or "predict".
        """
        if stage in ("fit", "validate"):
            self._val_sets = {"demo-val": self._held_out(VAL, _VAL_STREAM)}
        if stage in ("test", "predict"):
            self._test_sets = {"demo-test": self._held_out(TEST, _TEST_STREAM)}

    def train_dataloader(self) -> DataLoader:
        """Make a loader of `epoch_length` new patches an epoch, with the present `patch_size` and `batch_size`."""
        transform = PairedTransform(self.patch_size * self.degradation.scale, augment=self.augment)
        dataset = _Patches(TRAIN, self.degradation, transform, self.seed, self.epoch_length)
        return self._training_loader(dataset)

    def _held_out(self, names: Sequence[str], stream: int) -> "_HeldOut":
        multiple = 8 * self.degradation.scale
        size = self.eval_size // multiple * multiple
        images = {
            f"{name}-{part}": _centre(half, size, multiple)
            for name in names
            for part, half in enumerate(_halves(photograph(name)), start=1)
        }
        return _HeldOut(images, self.degradation, (stream, self.seed))


class _Patches(Dataset[dict[str, Any]]):
    def __init__(
        self,
        names: Sequence[str],
        degradation: Degradation,
        transform: PairedTransform,
        seed: int,
        length: int,
    ) -> None:
        self.names = names
        self.photographs = [photograph(name) for name in names]
        areas = np.array([image.shape[0] * image.shape[1] for image in self.photographs])
        self.chances = areas / areas.sum()
        self.degradation = degradation
        self.transform = transform
        self.seed = seed
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> dict[str, Any]:
        rng = np.random.default_rng((_TRAIN_STREAM, self.seed, number))
        chosen = rng.choice(len(self.names), p=self.chances)
        clean, _ = self.transform(self.photographs[chosen], self.photographs[chosen], rng)
        return degraded_sample(clean, self.degradation, rng, f"{self.names[chosen]}-{number}")


class _HeldOut(Dataset[dict[str, Any]]):
    def __init__(self, images: dict[str, NDArray], degradation: Degradation, seed: tuple[int, int]) -> None:
        self.images = list(images.items())
        self.degradation = degradation
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, clean = self.images[index]
        return degraded_sample(clean, self.degradation, np.random.default_rng((*self.seed, index)), name)


def _halves(image: NDArray) -> list[NDArray]:
    axis = 0 if image.shape[0] > image.shape[1] else 1
    return np.array_split(image, 2, axis=axis)


def _centre(image: NDArray, size: int, multiple: int) -> NDArray:
    height, width = (min(size, side // multiple * multiple) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
