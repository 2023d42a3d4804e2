"""Training loaders whose place in the run is kept in checkpoints, so that a resumed run goes on with the next batch."""

import functools
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, DistributedSampler


def device_batch(samples: int, devices: int, accumulated: int) -> int:
    """Samples of one batch on one device, where a step of the optimiser is shared out evenly.

    Args:
        samples: that the step should have.
        devices: that work at once.
        accumulated: batches that each of them adds up.

    Returns:
        The number that comes nearest, at least 1; of two, the smaller.
    """
    parts = devices * accumulated
    return max(1, (2 * samples + parts - 1) // (2 * parts))


class NumberedSamples(DistributedSampler):
    """Numbers the samples of a run through all its epochs: epoch · length + index, each given to one device.

    Lightning sets the epoch, also of a resumed run, and leaves alone a sampler that is distributed already.

    Args:
        dataset: its length is the epoch's, over all devices.
        num_replicas: number of devices.
        rank: of this device among them.
        seed: of a new order in every epoch; None: in order.
        step: samples of an optimiser's step on this device; an epoch has whole steps.
    """

    def __init__(
        self, dataset: Dataset, num_replicas: int, rank: int, seed: int | None = None, *, step: int = 1
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=seed is not None, seed=seed or 0, drop_last=True)
        self.step = step
        self.num_samples = self.num_samples // step * step
        self.total_size = self.num_samples * num_replicas
        self.skipped = 0
        """Samples of the epoch that this device had before the run was resumed."""

    def __iter__(self) -> Iterator[int]:
        length = len(self.dataset)  # type: ignore[arg-type]  # a data set of ours has one
        order = _order(length, self.seed if self.shuffle else None, self.epoch)
        mine = order[self.rank : self.total_size : self.num_replicas][self.skipped :]
        return iter((self.epoch * length + mine).tolist())


@dataclass(frozen=True)
class Stage:
    """Patches and batches of a run from one of its steps on.

    Attributes:
        start: steps of the optimiser that are taken before the stage.
        patch_size: side of a training patch, in pixels of the input.
        batch_size: training patches in a step of the optimiser, over all devices.

    Raises:
        ValueError: if a number is out of range.
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
            batch.append((stage.patch_size, epoch * length + int(_order(length, self.seed, epoch)[place])))
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


@functools.lru_cache(maxsize=2)
def _order(length: int, seed: int | None, epoch: int) -> NDArray[np.int64]:
    if seed is None:
        return np.arange(length)
    # Not torch's generator, which takes one number: run 0 in epoch 1 would be run 1 in epoch 0.
    return np.random.default_rng((seed, epoch)).permutation(length)


class SeededSamples(Dataset[Any]):
    """Gives each numbered sample of a run a random state of its own, whichever process draws it, and whenever.

    Args:
        dataset: draws from torch's global state; every epoch has each of its indices once.
        seed: of the run.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, number: int) -> Any:
        state = torch.get_rng_state()
        seed = np.random.SeedSequence((self.seed, number)).generate_state(1, np.uint64)
        torch.default_generator.manual_seed(int(seed[0]))
        try:
            return self.dataset[number % len(self)]
        finally:
            torch.set_rng_state(state)


def outlive_signals(worker: int) -> None:
    """Let a worker live on when its whole process group is told to end, as schedulers do, until the loader ends.

    The main process finishes its step, which may need what the worker reads. A signal that comes twice counts.

    Args:
        worker: its number.
    """
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            number = getattr(signal, name)
            signal.signal(number, lambda number, _: signal.signal(number, signal.SIG_DFL))


class ResumableLoader(DataLoader[Any]):
    """A loader that counts the batches that it hands out, and goes on after them when a run is resumed.

    Lightning keeps the state of a training loader that has one in every checkpoint. What workers have read ahead does
    not count. The sampler is a `NumberedSamples`; its epoch, which Lightning sets, is where a new loader begins. From
    there on the loader counts by itself: Lightning's number is one too high after a run that `max_steps` had ended.
    Where the sampler makes the batches (`batch_size` None), batches are what is counted.
    """

    _epoch: int | None = None
    _samples = 0  # of that epoch, handed out on this device
    _resumed = False

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's own iterator cannot be resumed
        """Hand out the next epoch's batches, or what is left of the present one's just after `load_state_dict`."""
        # Lightning makes an iterator as it resumes, and uses it if the epoch goes on, or makes another one.
        resumed, self._resumed = self._resumed, False
        return self._batches(resumed)

    def _batches(self, resumed: bool) -> Iterator[Any]:
        # As a generator this begins when the first batch is asked for: by then Lightning has set the epoch, and workers
        # do not read for iterators that are never used.
        sampler = self.sampler
        # Lightning puts in another one for overfit_batches, which has no epochs.
        if isinstance(sampler, NumberedSamples):
            if self._epoch is None:
                self._epoch = sampler.epoch
            elif not resumed or self._samples >= len(self) * (self.batch_size or 1):
                self._epoch, self._samples = self._epoch + 1, 0
            sampler.set_epoch(self._epoch)
            sampler.skipped = self._samples
        for batch in super().__iter__():
            self._samples += self.batch_size or 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The place in the run: the epoch, and how many of its samples this device was given; also those of a step."""
        return {} if self._epoch is None else {"epoch": self._epoch, "samples": self._samples, "step": self._step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a place; where devices have another part of a step now, after the same steps."""
        self._epoch, self._samples = state.get("epoch"), state.get("samples", 0)
        before = state.get("step", self._step)
        if before != self._step:
            self._samples = self._samples // before * self._step
        self._resumed = True

    @property
    def _step(self) -> int:
        return self.sampler.step if isinstance(self.sampler, NumberedSamples) else 1
