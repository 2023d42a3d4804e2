"""The base of data modules of a user's own images: validation split off, short epochs made longer."""

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from datamodules.base.paired import PairedImageDataModule
from datamodules.errors import DataError
from datamodules.pairs.dataset import CentreCrops
from datamodules.pairs.folders import PartName
from datamodules.pairs.matching import Pairs, select


class OwnImagesDataModule(PairedImageDataModule, ABC):
    """Images of a user's own, of any number and size; subclasses implement `find` and `has_validation`.

    Args:
        val_images: images that validate at most. Where there is no validation part, so many of the training images are
            split off at random, at most a fifth of them and at least one. 0: none; None: the whole validation part,
            and none where there is no such part.
        val_size: largest side of a validation image in pixels of the input; of a larger one the middle validates, and
            the name of the set says so. None: whole images.
        split_seed: of the choice of images that are split off, at least 0.
        epoch_length: training patches that an epoch has at least: images are repeated as often as that takes. None:
            `repeat` alone decides.
        **kwargs: of `PairedImageDataModule`.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        *,
        val_images: int | None = None,
        val_size: int | None = None,
        split_seed: int = 0,
        epoch_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value, least in (
            ("val_images", val_images, 0),
            ("val_size", val_size, 8),
            ("split_seed", split_seed, 0),
            ("epoch_length", epoch_length, 1),
        ):
            if value is not None and value < least:
                raise ValueError(f"{name} ({value}) must be at least {least}")
        self.val_images = val_images
        self.val_size = val_size
        self.split_seed = split_seed
        self.epoch_length = epoch_length

    @abstractmethod
    def find(self, part: PartName) -> tuple[str, Pairs]:
        """Find a part of the images.

        Args:
            part: which.

        Returns:
            The set's name, and its pairs.

        Raises:
            DataError: if the part is not there, or cannot be used.
        """

    @abstractmethod
    def has_validation(self) -> bool:
        """Whether there is a validation part."""

    def train_pairs(self) -> Pairs:
        """Find the training pairs, without those that are split off to validate."""
        _, pairs = self.find("train")
        if self._splits():
            held_out = set(self._held_out(pairs))
            names = ", ".join(pairs.names[i] for i in sorted(held_out))
            self._say(
                f"validation: {len(held_out)} of {len(pairs)} training images are split off (split_seed "
                f"{self.split_seed}) and not trained on: {names}"
            )
            pairs = select(pairs, [i for i in range(len(pairs)) if i not in held_out])
        if self.epoch_length is not None:
            self.repeat = max(self.repeat, math.ceil(self.epoch_length / len(pairs)))
        return pairs

    def val_pairs(self) -> dict[str, Pairs]:
        """Find the validation pairs, or those of the training that are split off; empty if there are to be none."""
        if self.val_images == 0:
            return {}
        if self._splits():
            name, pairs = self.find("train")
            name, chosen = f"{name}-val", self._held_out(pairs)
        elif self.has_validation():
            name, pairs = self.find("val")
            count = len(pairs) if self.val_images is None else min(self.val_images, len(pairs))
            chosen = [i * len(pairs) // count for i in range(count)]
        else:
            return {}
        if self.val_size is not None:
            name = f"{name}-centre{self.val_size}"
        return {name: select(pairs, chosen)}

    def test_pairs(self) -> dict[str, Pairs]:
        """Find the test pairs."""
        return dict([self.find("test")])

    def _splits(self) -> bool:
        return bool(self.val_images) and not self.has_validation()

    def _held_out(self, pairs: Pairs) -> list[int]:
        """Numbers of the pairs that are split off."""
        if len(pairs) < 2:
            raise DataError(
                f"training images ({len(pairs)}) must be at least 2 where validation is split off; add images, or give "
                "--data.val_images 0 to train without validation"
            )
        count = min(self.val_images or 0, max(1, len(pairs) // 5))
        return sorted(np.random.default_rng(self.split_seed).permutation(len(pairs))[:count].tolist())

    def _val_datasets(self) -> dict[str, Dataset]:
        sets = super()._val_datasets()
        if self.val_size is None:
            return sets
        return {name: CentreCrops(dataset, self.val_size, self.scale) for name, dataset in sets.items()}
