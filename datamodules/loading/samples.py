"""Numbered samples of a run, each with a random state that neither order nor workers change."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, DistributedSampler


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
        length = len(self.dataset)  # type: ignore[arg-type]  # data sets of this package have a length
        order = sample_order(length, self.seed if self.shuffle else None, self.epoch)
        mine = order[self.rank : self.total_size : self.num_replicas][self.skipped :]
        return iter((self.epoch * length + mine).tolist())


@functools.lru_cache(maxsize=2)
def sample_order(length: int, seed: int | None, epoch: int) -> NDArray[np.int64]:
    """Return the order of an epoch's samples: shuffled by seed and epoch, or unchanged without a seed."""
    if seed is None:
        return np.arange(length)
    # Not torch's generator, which takes one number: run 0 in epoch 1 would be run 1 in epoch 0.
    return np.random.default_rng((seed, epoch)).permutation(length)


class SeededSamples(Dataset[Any]):
    """Gives each numbered sample of a run a random state that depends on its number and the seed alone.

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
