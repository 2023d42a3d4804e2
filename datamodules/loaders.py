"""Training loaders whose place in the run is kept in checkpoints, so that a resumed run goes on with the next batch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler


class NumberedSamples(DistributedSampler):
    """Numbers the samples of a run through all its epochs: epoch · length + index, each given to one device.

    Lightning sets the epoch, also of a resumed run, and leaves alone a sampler that is distributed already.

    Args:
        dataset: its length is the epoch's, over all devices.
        num_replicas: number of devices.
        rank: of this device among them.
        seed: of a new order in every epoch; None: in order.
    """

    def __init__(self, dataset: Dataset, num_replicas: int, rank: int, seed: int | None = None) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=seed is not None, seed=seed or 0, drop_last=True)
        self.skipped = 0
        """Samples of the epoch that this device had before the run was resumed."""

    def __iter__(self) -> Iterator[int]:
        length = len(self.dataset)  # type: ignore[arg-type]  # a data set of ours has one
        indices = np.arange(length)
        if self.shuffle:
            # Not torch's generator, which takes one number: run 0 in epoch 1 would be run 1 in epoch 0.
            indices = np.random.default_rng((self.seed, self.epoch)).permutation(length)
        mine = indices[self.rank : self.total_size : self.num_replicas][self.skipped :]
        return iter((self.epoch * length + mine).tolist())


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


class ResumableLoader(DataLoader[Any]):
    """A loader that counts the batches that it hands out, and goes on after them when a run is resumed.

    Lightning keeps the state of a training loader that has one in every checkpoint. What workers have read ahead does
    not count. The sampler is a `NumberedSamples`; its epoch, which Lightning sets, is where a new loader begins. From
    there on the loader counts by itself: Lightning's number is one too high after a run that `max_steps` had ended.
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
        """The place in the run: the epoch, and how many of its samples this device was given."""
        return {} if self._epoch is None else {"epoch": self._epoch, "samples": self._samples}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a place."""
        self._epoch, self._samples = state.get("epoch"), state.get("samples", 0)
        self._resumed = True
