"""Data sets that read pairs of a degraded image and its clean target, whole, by patches or by their middle."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from datamodules.errors import DataError
from datamodules.files.images import convert_channels, read_image, to_tensor
from datamodules.pairs.matching import listed

Transform = Callable[[NDArray, NDArray, np.random.Generator], tuple[NDArray, NDArray]]


class PairedImageDataset(Dataset[dict[str, object]]):
    """Reads pairs of images, each a dict of `input`, `target` (float32 in [0, 1]) and `name`.

    Of a larger target, rows and columns beyond a multiple of `scale` are left out at the bottom and right: the inputs
    of super-resolution benchmarks are made without them.

    Args:
        inputs: files of degraded images.
        targets: the clean image of each, in the same order.
        transform: maps (input, target, generator) to patches, as `PairedTransform`; None keeps whole images. The
            generator is seeded from torch's global state, which training loaders set for each sample, and the index.
        repeat: passes over the files that count as one epoch.
        names: a unique name for each pair; by default the input's file name without suffix.
        channels: 1 or 3, see `convert_channels`; alpha is dropped.
        scale: size of a target relative to its input.
        crop_targets: cut a larger target at the centre to what its input needs; else its size must fit.

    Raises:
        DataError: if there are no files, the counts differ, or names are not unique. Reading an item raises it if one
            of its files is no complete image, or their sizes do not fit.
        ValueError: if `repeat`, `channels` or `scale` is out of range.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import PairedImageDataset, PairedTransform
        >>> _ = write_image("rainy/1.png", np.full((32, 48, 3), 204, np.uint8))
        >>> _ = write_image("clean/1.png", np.full((32, 48, 3), 51, np.uint8))
        >>> whole = PairedImageDataset(["rainy/1.png"], ["clean/1.png"])[0]
        >>> whole["name"], whole["input"].shape, round(float(whole["target"].mean()), 3)
        ('1', torch.Size([3, 32, 48]), 0.2)
        >>> patches = PairedImageDataset(["rainy/1.png"], ["clean/1.png"], PairedTransform(16), repeat=5)
        >>> len(patches), patches[4]["input"].shape
        (5, torch.Size([3, 16, 16]))
    """

    def __init__(
        self,
        inputs: Sequence[str | Path],
        targets: Sequence[str | Path],
        transform: Transform | None = None,
        repeat: int = 1,
        *,
        names: Sequence[str] | None = None,
        channels: int = 3,
        scale: int = 1,
        crop_targets: bool = False,
    ) -> None:
        if len(inputs) != len(targets) or not inputs:
            raise DataError(
                f"inputs ({len(inputs)} images) must be as many as targets ({len(targets)}), and at least one; "
                "add the missing files"
            )
        if repeat < 1:
            raise ValueError(f"repeat ({repeat}) must be at least 1; it multiplies the length of an epoch")
        if channels not in (1, 3):
            raise ValueError(f"channels ({channels}) must be 1 (grey) or 3 (RGB)")
        if scale < 1:
            raise ValueError(f"scale ({scale}) must be at least 1; it says how much larger than the input a target is")
        self.inputs = [Path(path) for path in inputs]
        self.targets = [Path(path) for path in targets]
        self.names = [path.stem for path in self.inputs] if names is None else list(names)
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice or len(self.names) != len(self.inputs):
            raise DataError(
                f"names must be unique, one for each of {len(self.inputs)} inputs, got {len(self.names)}, "
                f"more than once: {listed(twice)}; rename the files"
            )
        self.transform = transform
        self.repeat = repeat
        self.channels = channels
        self.scale = scale
        self.crop_targets = crop_targets

    def __len__(self) -> int:
        return self.repeat * len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, object]:
        """Read one pair and draw its patch.

        Args:
            index: 0 ≤ index < len(self).

        Returns:
            `input` of shape (channels, H, W), `target` of shape (channels, scale·H, scale·W), `name`.

        Raises:
            DataError: if a file is no complete image, or the sizes of the pair do not fit.
        """
        file = self._file(index)
        image = convert_channels(read_image(self.inputs[file]), self.channels)
        target = convert_channels(read_image(self.targets[file]), self.channels)
        target = fit_target(
            target, image, self.scale, self.targets[file], self.inputs[file], crop_targets=self.crop_targets
        )
        if self.transform is not None:
            image, target = self.transform(image, target, self._generator(index))
        return {"input": to_tensor(image), "target": to_tensor(target), "name": self.names[file]}

    def _file(self, index: int) -> int:
        """Number of the file that an index of the data set means."""
        if not 0 <= index < len(self):
            raise IndexError(f"index ({index}) must be in [0, {len(self)})")
        return index % len(self.inputs)

    @staticmethod
    def _generator(index: int) -> np.random.Generator:
        # The index keeps processes apart that start from the same torch seed.
        return np.random.default_rng((int(torch.randint(2**62, ())), index))


class CentreCrops(Dataset[dict[str, object]]):
    """Cuts the middle out of every pair of another data set, so that large images take no longer than others.

    Args:
        dataset: gives dicts of `input` (…, H, W), `target` (…, scale·H, scale·W) and `name`.
        size: largest side that is left of an input, in pixels.
        scale: size of a target relative to its input.
    """

    def __init__(self, dataset: Dataset, size: int, scale: int = 1) -> None:
        self.dataset = dataset
        self.size = size
        self.scale = scale

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # data sets of this package have a length

    def __getitem__(self, index: int) -> dict[str, object]:
        """Read a pair and cut its middle.

        Args:
            index: 0 ≤ index < len(self).

        Returns:
            `input` of shape (…, h, w), `target` of shape (…, scale·h, scale·w) with h, w ≤ size, and `name`.
        """
        sample = dict(self.dataset[index])
        height, width = sample["input"].shape[-2:]
        top, left = (max(0, (side - self.size) // 2) for side in (height, width))
        for key, factor in (("input", 1), ("target", self.scale)):
            rows = slice(factor * top, factor * (top + self.size))
            columns = slice(factor * left, factor * (left + self.size))
            sample[key] = sample[key][..., rows, columns].contiguous()
        return sample


def fit_target(
    target: NDArray, image: NDArray, scale: int, target_path: Path, image_path: Path, *, crop_targets: bool = False
) -> NDArray:
    """Cut a target to what its input needs.

    Args:
        target: shape (H', W', C).
        image: shape (H, W, C).
        scale: size of a target relative to its input; rows and columns beyond a multiple of it are left out.
        target_path: file of the target, for the error message.
        image_path: file of the input.
        crop_targets: cut a larger target at the centre; else it must fit.

    Returns:
        Shape (scale·H, scale·W, C).

    Raises:
        DataError: if the sizes do not fit.
    """
    wanted = (scale * image.shape[0], scale * image.shape[1])
    target = whole_multiple(target, scale)
    if crop_targets:
        target = _centre(target, wanted)
    if target.shape[:2] != wanted:
        raise DataError(
            f"target {target_path} must be {wanted[0]}×{wanted[1]} pixels (height × width) for input {image_path} of "
            f"{image.shape[0]}×{image.shape[1]} at scale {scale}, got {target.shape[0]}×{target.shape[1]}; replace the "
            "wrong file"
        )
    return target


def whole_multiple(image: NDArray, scale: int) -> NDArray:
    """Leave out rows and columns of (H, W, C) beyond multiples of `scale`, at the bottom and right."""
    return image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]


def _centre(image: NDArray, size: tuple[int, int]) -> NDArray:
    """Crop (H, W, C) at the centre to at most a size."""
    top, left = (max(0, (have - wanted) // 2) for have, wanted in zip(image.shape, size, strict=False))
    return image[top : top + size[0], left : left + size[1]]
