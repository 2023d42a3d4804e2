"""The base of every data module: loaders of training and evaluation, and the settings of training."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Dataset

from datamodules.errors import DataError
from datamodules.loading.resumable import ResumableLoader, WorkerLoader
from datamodules.loading.samples import NumberedSamples, device_batch
from datamodules.signals import outlive_signals

_logger = logging.getLogger(__name__)


def available_cores() -> int:
    """Cores that this process may use, which are fewer than the machine's in a container or a batch job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class RestorationDataModule(LightningDataModule):
    """Loaders of batches `{"input", "target", "name"}`; subclasses choose the data sets.

    Training batches are patches. Validation, test and prediction take every whole image exactly once, one a batch, in
    one loader for each named set. (Over several devices Lightning repeats some so that all get as many; names are
    unique within a set, so that each image can be counted once.) `patch_size` and `batch_size` may be changed between
    epochs: a training loader obeys their values at the time when it is made.

    `batch_size` counts the samples of a step of the optimiser. A device's batch follows from it: the share of one
    device in one of the batches that the trainer accumulates (`trainers.devices.step_batches` chooses how many).

    A training sample depends on the run's seed and its number in the run alone, whatever the number of workers: a run
    that is resumed, also within an epoch, sees what it would have seen without the interruption.

    Args:
        patch_size: side of a training patch, in pixels of the input.
        batch_size: training patches in a step of the optimiser, over all devices.
        num_workers: processes that load data, at most one a core; 0 loads in the main process.

    Attributes:
        val_set_names: names of the sets of `val_dataloader()`, in its order; empty before `setup`.
        test_set_names: names of the sets of `test_dataloader()` and `predict_dataloader()`, in their order.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import torch
        >>> from datamodules import RestorationDataModule
        >>> class Grey(RestorationDataModule):
        ...     def setup(self, stage):
        ...         image = torch.full((3, 8, 8), 0.5)
        ...         self._test_sets = {"grey": [{"input": image, "target": image, "name": "1"}]}
        >>> data = Grey(patch_size=8, batch_size=1, num_workers=0)
        >>> data.setup("test")
        >>> data.test_set_names
        ['grey']
        >>> next(iter(data.test_dataloader()[0]))["input"].shape
        torch.Size([1, 3, 8, 8])
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
        """Make one loader for each validation set; in training, its workers live on until the next validation."""
        again = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        return [self._evaluation_loader(dataset, again=again) for dataset in self._val_sets.values()]

    def test_dataloader(self) -> list[DataLoader]:
        """Make one loader for each test set."""
        return [self._evaluation_loader(dataset) for dataset in self._test_sets.values()]

    def predict_dataloader(self) -> list[DataLoader]:
        """Make one loader for each test set."""
        return self.test_dataloader()

    def _training_loader(self, dataset: Dataset, shuffle_seed: int | None = None) -> ResumableLoader:
        """Load a data set of numbered samples (`NumberedSamples`), in a new order in each epoch if there is a seed."""
        batch, length = self._share(self.batch_size), len(dataset)  # type: ignore[arg-type]  # data sets of this package have a length
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

    def _evaluation_loader(self, dataset: Dataset, *, again: bool = False) -> DataLoader:
        return WorkerLoader(
            dataset,
            batch_size=1,
            num_workers=self._workers,
            persistent_workers=again and self._workers > 0,
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
