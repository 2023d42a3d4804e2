"""Data modules of image pairs on disk: parts of training, validation and test, crops and stages."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from torch.utils.data import DataLoader, Dataset, default_collate

from datamodules.base.restoration import RestorationDataModule
from datamodules.errors import DataError
from datamodules.loading.resumable import ResumableLoader
from datamodules.loading.samples import SeededSamples
from datamodules.loading.stages import Stage, StagedBatches, StagedSamples
from datamodules.pairs.dataset import PairedImageDataset
from datamodules.pairs.degraded import CleanImages, DegradedImageDataset
from datamodules.pairs.matching import Pairs
from datamodules.pairs.transforms import PairedTransform


class PairedImageDataModule(RestorationDataModule, ABC):
    """Pairs of files on disk: subclasses implement `train_pairs`, `val_pairs` and `test_pairs`.

    Args:
        patch_size: side of a training patch, in pixels of the input; smaller images are extended by reflection.
        batch_size: training patches in a step of the optimiser, over all devices.
        num_workers: processes that read images; 0 reads in the main process.
        augment: flips and quarter turns of training patches.
        repeat: passes over the training images that count as one epoch; raises the epoch's length for small sets.
        channels: 1 (grey) or 3 (RGB) of both images.
        scale: size of a target relative to its input; above 1 for super-resolution.
        stages: other patch and batch sizes from a step of the optimiser on, in the order of their steps; before the
            first, `patch_size` and `batch_size` hold. A batch reads as many images as it has patches.

    Raises:
        ValueError: if a number is out of range, or the stages are not in the order of their steps.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from pathlib import Path
        >>> from datamodules import PairedImageDataModule
        >>> from datamodules.pairs.matching import pair_folders
        >>> class Scans(PairedImageDataModule):
        ...     def train_pairs(self):
        ...         return pair_folders("scans/noisy", "scans/clean")
        ...     def val_pairs(self):
        ...         return {}
        ...     def test_pairs(self):
        ...         return {"scans": self.train_pairs()}
        >>> for place in ("noisy", "clean"):
        ...     _ = write_image(f"scans/{place}/1.png", np.full((32, 48, 3), 200, np.uint8))
        >>> data = Scans(patch_size=16, batch_size=2, repeat=2, num_workers=0)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader()))["name"]
        ['1', '1']
    """

    # Whether larger targets are cut at the centre, where a data set's convention is so.
    crops_targets = False

    def __init__(
        self,
        *,
        patch_size: int = 128,
        batch_size: int = 8,
        num_workers: int = 2,
        augment: bool = True,
        repeat: int = 1,
        channels: int = 3,
        scale: int = 1,
        stages: Sequence[Stage] = (),
    ) -> None:
        super().__init__(patch_size=patch_size, batch_size=batch_size, num_workers=num_workers)
        starts = [0, *(stage.start for stage in stages)]
        if any(later <= earlier for earlier, later in pairwise(starts)):
            raise ValueError(
                f"stages must begin after step 0, each later than the one before, got starts {starts[1:]}: sort them; "
                "before the first, patch_size and batch_size hold"
            )
        self.stages = list(stages)
        self.augment = augment
        self.repeat = repeat
        self.channels = channels
        self.scale = scale
        self._train_pairs: Pairs | None = None

    @property
    def patch_sizes(self) -> list[int]:
        """Sides of training patches: `patch_size`, then those of the stages."""
        return [self.patch_size, *(stage.patch_size for stage in self.stages)]

    @property
    def batch_sizes(self) -> list[int]:
        """Samples of an optimiser's step: `batch_size`, then those of the stages."""
        return [self.batch_size, *(stage.batch_size for stage in self.stages)]

    @abstractmethod
    def train_pairs(self) -> Pairs:
        """Find the training pairs; DataError if there are none."""

    @abstractmethod
    def val_pairs(self) -> dict[str, Pairs]:
        """Find the named validation sets; empty where a data set has none."""

    @abstractmethod
    def test_pairs(self) -> dict[str, Pairs]:
        """Find the named test sets; DataError if there are none."""

    def test_set(self, name: str) -> Pairs:
        """Find one of the test sets; DataError if there are none."""
        return self.test_pairs()[name]

    def setup(self, stage: str) -> None:
        """Find the files that a stage needs.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            DataError: if they are missing or do not match, or there are fewer training patches than a batch.
            ValueError: if `channels` or `scale` is out of range.
        """
        if stage == "fit":
            self._train_pairs = self.train_pairs()
            if self.repeat * len(self._train_pairs) < self.batch_size:
                raise DataError(
                    f"batch_size ({self.batch_size}) must not exceed the patches of an epoch, got "
                    f"{len(self._train_pairs)} training images × repeat {self.repeat}; raise repeat"
                )
        if stage in ("fit", "validate"):
            self._val_sets = self._val_datasets()
            if stage == "validate" and not self._val_sets:
                raise DataError(
                    f"{type(self).__name__} must have a validation set to validate, got none; name one or run test"
                )
        if stage in ("test", "predict"):
            self._test_sets = self._datasets(self.test_pairs())

    def train_dataloader(self) -> DataLoader:
        """Make a loader of shuffled, augmented patches, with the present `patch_size` and `batch_size`."""
        if self._train_pairs is None:
            raise RuntimeError('setup("fit") must run before train_dataloader()')
        seed = self._run_seed()
        samples = {}
        for patch_size in self.patch_sizes:
            transform = PairedTransform(patch_size, scale=self.scale, augment=self.augment)
            samples[patch_size] = SeededSamples(self._dataset(self._train_pairs, transform, self.repeat), seed)
        if self.stages:
            return self._staged_loader(samples, seed)
        return self._training_loader(samples[self.patch_size], seed)

    def _staged_loader(self, samples: Mapping[int, SeededSamples], seed: int) -> ResumableLoader:
        trainer = self.trainer
        if trainer is not None and trainer.overfit_batches:  # type: ignore[attr-defined]  # set by a connector
            raise ValueError(
                "overfit_batches must be 0 where the data have stages: leave them out (--data.stages '[]')"
            )
        dataset = StagedSamples(samples)
        stages = [Stage(0, self.patch_size, self.batch_size), *self.stages]
        batches = StagedBatches(
            dataset,
            self._world_size,
            self._rank,
            seed,
            stages=[replace(stage, batch_size=self._share(stage.batch_size)) for stage in stages],
            batches_per_step=self._accumulated,
            steps_taken=None if trainer is None else lambda: trainer.global_step,
        )
        # The sampler makes the batches. (Lightning would take a batch sampler apart.)
        return self._loader(dataset, batches, batch_size=None, collate_fn=default_collate)

    def _val_datasets(self) -> dict[str, Dataset]:
        return self._datasets(self.val_pairs())

    def _datasets(self, sets: Mapping[str, Pairs]) -> dict[str, Dataset]:
        return {name: self._dataset(pairs) for name, pairs in sets.items()}

    def _dataset(self, pairs: Pairs, transform: PairedTransform | None = None, repeat: int = 1) -> Dataset:
        if isinstance(pairs, CleanImages):
            patch_size = None if transform is None else transform.patch_size
            return DegradedImageDataset(pairs, patch_size, augment=self.augment, repeat=repeat, channels=self.channels)
        return PairedImageDataset(
            pairs.inputs,
            pairs.targets,
            transform,
            repeat,
            names=pairs.names,
            channels=self.channels,
            scale=self.scale,
            crop_targets=self.crops_targets,
        )
