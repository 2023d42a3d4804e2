"""Pairs whose inputs are made from the clean images as they are read."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.degradations.base import Degradation
from datamodules.files.images import convert_channels, read_image, to_tensor
from datamodules.pairs.dataset import PairedImageDataset, whole_multiple
from datamodules.pairs.matching import Pairs
from datamodules.pairs.transforms import PairedTransform


@dataclass(frozen=True)
class CleanImages(Pairs):
    """Clean images, of which inputs are made: `inputs` and `targets` are the same files.

    Attributes:
        degradation: makes the inputs.
        studio: reduce colour to the luma of `rgb2ycbcr`, see `convert_channels`.
    """

    degradation: Degradation
    studio: bool = False

    @classmethod
    def of(cls, files: Iterable[Path], degradation: Degradation, *, studio: bool = False) -> "CleanImages":
        """Name each file by its stem."""
        images = tuple(files)
        return cls(images, images, tuple(path.stem for path in images), degradation, studio)


class DegradedImageDataset(PairedImageDataset):
    """Reads clean images and degrades them: dicts of `input`, `target` (float32) and `name`.

    A training patch is cut with the border that its input depends on, so that it equals that part of the degraded
    image. Whole images are cropped to a multiple of the degradation's scale, and get the same degradation each time.

    Args:
        images: the files, and the degradation that makes inputs of them.
        patch_size: side of a random patch, in pixels of the input; None keeps whole images.
        augment: flips and quarter turns of the clean patches.
        repeat: passes over the files that count as one epoch.
        channels: 1 or 3, see `convert_channels`; alpha is dropped.

    Raises:
        DataError, ValueError: see `PairedImageDataset`.
    """

    def __init__(
        self,
        images: CleanImages,
        patch_size: int | None = None,
        *,
        augment: bool = True,
        repeat: int = 1,
        channels: int = 3,
    ) -> None:
        degradation = images.degradation
        transform = None
        if patch_size is not None:
            transform = PairedTransform((patch_size + 2 * degradation.reach) * degradation.scale, augment=augment)
        super().__init__(
            images.inputs,
            images.targets,
            transform,
            repeat,
            names=images.names,
            channels=channels,
            scale=degradation.scale,
        )
        self.degradation = degradation
        self.studio = images.studio

    def __getitem__(self, index: int) -> dict[str, object]:
        """Read an image, draw its patch and degrade it.

        Args:
            index: 0 ≤ index < len(self).

        Returns:
            `input` of shape (channels, H, W), `target` of shape (channels, scale·H, scale·W), `name`.

        Raises:
            DataError: if the file is no complete image.
        """
        file = self._file(index)
        clean = convert_channels(read_image(self.targets[file]), self.channels, studio=self.studio)
        if self.transform is None:
            whole = whole_multiple(clean, self.scale)
            return degraded_sample(whole, self.degradation, np.random.default_rng(file), self.names[file])
        rng = self._generator(index)
        clean, _ = self.transform(clean, clean, rng)
        sample = degraded_sample(clean, self.degradation, rng, self.names[file])
        for key, reach in (("input", self.degradation.reach), ("target", self.degradation.reach * self.scale)):
            height, width = sample[key].shape[1:]
            sample[key] = sample[key][:, reach : height - reach, reach : width - reach].contiguous()
        return sample


def degraded_sample(clean: NDArray, degradation: Degradation, rng: np.random.Generator, name: str) -> dict[str, Any]:
    """Degrade a clean image.

    Args:
        clean: shape (H, W, C); uint8, uint16, or float32 in [0, 1].
        degradation: what happens to it.
        rng: the source of its randomness.
        name: of the sample.

    Returns:
        `input` (C, H / scale, W / scale) and `target` (C, H, W), float32, and `name`.
    """
    target = to_tensor(clean)
    degraded = degradation.apply(np.ascontiguousarray(target.permute(1, 2, 0).numpy()), rng)
    return {"input": to_tensor(degraded), "target": target, "name": name}
