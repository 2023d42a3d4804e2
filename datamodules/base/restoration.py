"""What every datamodule of image pairs shares: its loaders and the settings of training."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset, default_collate

from datamodules.errors import DataError
from datamodules.loaders import (
    NumberedSamples,
    ResumableLoader,
    SeededSamples,
    Stage,
    StagedBatches,
    StagedSamples,
    device_batch,
    outlive_signals,
)
from datamodules.paired import PairedImageDataset, Pairs
from datamodules.transforms import PairedTransform

_logger = logging.getLogger(__name__)


def available_cores() -> int:
    """Cores that this process may use, which are fewer than the machine's in a container or a batch job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class RestorationDataModule(LightningDataModule):
    """Loaders of batches `{"input", "target", "name"}`; subclasses say which data sets there are.

    Training batches are patches. Validation, test and prediction take every whole image exactly once, one a batch, in
    one loader for each named set. (Over several devices Lightning repeats some so that all get as many; names are
    unique within a set, so that each image can be counted once.) `patch_size` and `batch_size` may be changed between
    epochs: a training loader obeys their values at the time when it is made.

    `batch_size` is what a recipe is about, the samples of a step of the optimiser. A device's batch follows from it:
    the share of one device in one of the batches that the trainer accumulates (`trainers.hardware` chooses how many).

    A training sample depends on the run's seed and its number in the run alone, whatever the number of workers: a run
    that is resumed, also within an epoch, sees what it would have seen without the interruption.

    Attributes:
        val_set_names: names of the sets of `val_dataloader()`, in its order; empty before `setup`.
        test_set_names: names of the sets of `test_dataloader()` and `predict_dataloader()`, in their order.

    Args:
        patch_size: side of a training patch, in pixels of the input.
        batch_size: training patches in a step of the optimiser, over all devices.
        num_workers: processes that load data, at most one a core; 0 loads in the main process.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(self, *, patch_size: int, batch_size: int, num_workers: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size ({batch_size}) must be at least 1")
        if num_workers < 0:
            raise ValueError(f"num_workers ({num_workers}) must be at least 0; 0 loads in the main process")
        self.patch_size = patch_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self._val_sets: Mapping[str, Dataset] = {}
        self._test_sets: Mapping[str, Dataset] = {}
        self._seed = 0
        self._seeded_trainer: Trainer | None = None

    @property
    def patch_sizes(self) -> list[int]:
        """Every size that training patches have in the course of a run, in their order."""
        return [self.patch_size]

    @property
    def batch_sizes(self) -> list[int]:
        """Samples that a step of the optimiser has in the course of a run, in their order."""
        return [self.batch_size]

    @property
    def val_set_names(self) -> list[str]:
        """Names of the validation sets, in the order of their loaders."""
        return list(self._val_sets)

    @property
    def published_counts(self) -> Mapping[str, int]:
        """Number of images of every published test set, also of those that are absent; empty where none is known."""
        return {}

    @property
    def test_set_names(self) -> list[str]:
        """Names of the test sets, in the order of their loaders."""
        return list(self._test_sets)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Send training batches to the device; whole images stay on the CPU, from where their tiles go one by one."""
        if self.trainer is None or self.trainer.training:
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        return batch

    def val_dataloader(self) -> list[DataLoader]:
        """Make one loader for each validation set."""
        return [self._evaluation_loader(dataset) for dataset in self._val_sets.values()]

    def test_dataloader(self) -> list[DataLoader]:
        """Make one loader for each test set."""
        return [self._evaluation_loader(dataset) for dataset in self._test_sets.values()]

    def predict_dataloader(self) -> list[DataLoader]:
        """Make one loader for each test set."""
        return self.test_dataloader()

    def _training_loader(self, dataset: Dataset, shuffle_seed: int | None = None) -> ResumableLoader:
        """Load a data set of numbered samples (`NumberedSamples`), in a new order in each epoch if there is a seed."""
        batch, length = self._share(self.batch_size), len(dataset)  # type: ignore[arg-type]  # ours have one
        step = batch * self._accumulated
        if step * self._world_size > length:
            raise DataError(
                f"batch_size ({self.batch_size}, here {step * self._world_size}) must not exceed the patches of an "
                f"epoch, got {length}; lower it, or use fewer devices"
            )
        sampler = NumberedSamples(dataset, self._world_size, self._rank, shuffle_seed, step=step)
        return self._loader(dataset, sampler, batch_size=batch, drop_last=True)

    def _share(self, samples: int) -> int:
        """Samples of one batch on one device where a step should have `samples`."""
        return device_batch(samples, self._world_size, self._accumulated)

    def _loader(self, dataset: Dataset, sampler: NumberedSamples, **options: Any) -> ResumableLoader:
        return ResumableLoader(
            dataset,
            sampler=sampler,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=outlive_signals,
            **options,
        )

    def _evaluation_loader(self, dataset: Dataset) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=1,
            num_workers=self._workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=outlive_signals,
        )

    def _run_seed(self) -> int:
        # All devices have to share out one order; `seed_everything` gave them one seed, if it was called. Tasks seed
        # each step: a loader that is made again within a run has to ask before that.
        if self._seeded_trainer is not self.trainer or self.trainer is None:
            seed = torch.initial_seed()
            self._seed = seed if self.trainer is None else self.trainer.strategy.broadcast(seed)
            self._seeded_trainer = self.trainer
        return self._seed

    def _say(self, message: str) -> None:
        if self._rank == 0:
            _logger.warning(message)

    @property
    def _workers(self) -> int:
        # torch warns of more, which would only stand in each other's way.
        return min(self.num_workers, available_cores())

    @property
    def _accumulated(self) -> int:
        return 1 if self.trainer is None else self.trainer.accumulate_grad_batches

    @property
    def _world_size(self) -> int:
        return 1 if self.trainer is None else self.trainer.world_size

    @property
    def _rank(self) -> int:
        return 0 if self.trainer is None else self.trainer.global_rank


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
        """See base class."""
        return [self.patch_size, *(stage.patch_size for stage in self.stages)]

    @property
    def batch_sizes(self) -> list[int]:
        """See base class."""
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
            self._val_sets = self._datasets(self.val_pairs())
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

    def _datasets(self, sets: Mapping[str, Pairs]) -> dict[str, Dataset]:
        return {name: self._dataset(pairs) for name, pairs in sets.items()}

    def _dataset(self, pairs: Pairs, transform: PairedTransform | None = None, repeat: int = 1) -> Dataset:
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
