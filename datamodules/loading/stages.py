"""Patch and batch sizes that change at given steps of a training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from datamodules.loading.samples import NumberedSamples, SeededSamples, sample_order


@dataclass(frozen=True)
class Stage:
    """Patches and batches of a run from one of its steps on.

    Attributes:
        start: steps of the optimiser that are taken before the stage.
        patch_size: side of a training patch, in pixels of the input.
        batch_size: training patches in a step of the optimiser, over all devices.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import numpy as np
        >>> from datamodules.files import write_image
        >>> from datamodules import PairedFolderDataModule, Stage
        >>> for place in ("input", "target"):
        ...     for number in range(4):
        ...         _ = write_image(f"{place}/{number}.png", np.full((32, 48, 3), 200, np.uint8))
        >>> stages = [Stage(start=2, patch_size=24, batch_size=2)]
        >>> data = PairedFolderDataModule(root=".", patch_size=16, batch_size=4, stages=stages, num_workers=0)
        >>> data.setup("fit")
        >>> data.patch_sizes, data.batch_sizes
        ([16, 24], [4, 2])
        >>> loader = data.train_dataloader()
        >>> [tuple(batch["input"].shape) for _ in range(3) for batch in loader]
        [(4, 3, 16, 16), (4, 3, 16, 16), (2, 3, 24, 24)]
    """

    start: int
    patch_size: int
    batch_size: int

    def __post_init__(self) -> None:
        if self.start < 0:
            raise ValueError(f"start ({self.start}) of a stage must be at least 0; it counts the optimiser's steps")
        if self.patch_size < 1 or self.batch_size < 1:
            raise ValueError(f"patch_size ({self.patch_size}) and batch_size ({self.batch_size}) must be at least 1")


class StagedBatches(NumberedSamples):
    """Batches of a run whose patches grow by stages: each a list of (patch size, number of the sample).

    A batch is a formula of its number in the run, which is that of its step: a stage begins at its step to the batch,
    also in the middle of an epoch, with workers that read ahead, or in a run that is resumed. The samples of the data
    set follow on one another in the order of their epochs, however many a batch takes of them. What the trainer takes
    for an epoch is as many batches as a pass over the data has in the first stage, in whole steps.

    Args:
        dataset: its length is that of a pass over the data.
        num_replicas: number of devices.
        rank: of this device among them.
        seed: of a new order in every pass.
        stages: in their order, the first with start 0; `batch_size` is that of a batch on one device.
        batches_per_step: batches on each device that a step of the optimiser accumulates.
        steps_taken: asked for the run's steps when an epoch begins; None: epochs are counted instead.
    """

    def __init__(
        self,
        dataset: Dataset,
        num_replicas: int,
        rank: int,
        seed: int,
        *,
        stages: Sequence[Stage],
        batches_per_step: int = 1,
        steps_taken: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, seed)
        self.stages = list(stages)
        self.batches_per_step = batches_per_step
        self.steps_taken = steps_taken
        steps = len(dataset) // (self.stages[0].batch_size * num_replicas * batches_per_step)  # type: ignore[arg-type]
        # What the base class calls samples is what the loader asks for: batches.
        self.step = batches_per_step
        self.num_samples = max(1, steps) * batches_per_step

    def __iter__(self) -> Iterator[Any]:
        if self.steps_taken is None:
            first = self.epoch * self.num_samples + self.skipped
        else:
            first = self.steps_taken() * self.batches_per_step + self.skipped % self.batches_per_step
        return map(self._batch, range(first, first + self.num_samples - self.skipped))

    def _batch(self, number: int) -> list[tuple[int, int]]:
        stage, before = self.stages[0], 0
        for following in self.stages[1:]:
            if number < following.start * self.batches_per_step:
                break
            before += (following.start - stage.start) * self.batches_per_step * stage.batch_size
            stage = following
        before += (number - stage.start * self.batches_per_step) * stage.batch_size
        length = len(self.dataset)  # type: ignore[arg-type]
        batch = []
        for own in range(before, before + stage.batch_size):
            epoch, place = divmod(own * self.num_replicas + self.rank, length)
            batch.append((stage.patch_size, epoch * length + int(sample_order(length, self.seed, epoch)[place])))
        return batch


class StagedSamples(Dataset[list[Any]]):
    """The samples of a batch of `StagedBatches`.

    Args:
        samples: patch size → the same samples with patches of that size.
    """

    def __init__(self, samples: Mapping[int, "SeededSamples"]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(next(iter(self.samples.values())))

    def __getitem__(self, batch: list[tuple[int, int]]) -> list[Any]:
        return [self.samples[patch_size][number] for patch_size, number in batch]
