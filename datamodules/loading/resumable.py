"""Loaders whose workers are started whole; those of training keep their place in the run in checkpoints."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from datamodules.loading.samples import NumberedSamples
from datamodules.signals import delayed_signals


class WorkerLoader(DataLoader[Any]):
    """A loader whose workers are started whole, whatever signals come."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's own type is private
        """Start the workers, unless they persist, and hand out batches."""
        with delayed_signals():
            return super().__iter__()


class ResumableLoader(WorkerLoader):
    """A loader that counts the batches that it hands out, and goes on after them when a run is resumed.

    Lightning keeps the state of a training loader that has one in every checkpoint. Batches that workers have read
    ahead do not count. The sampler is a `NumberedSamples`; its epoch, which Lightning sets, is where a new loader
    begins. From there on the loader counts by itself: Lightning's number is one too high after a run that `max_steps`
    had ended. Where the sampler makes the batches (`batch_size` None), batches are what is counted.
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
