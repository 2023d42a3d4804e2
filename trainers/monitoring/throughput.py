"""Speed of a run, its wait for data, and its memory."""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from trainers.reports.profiling import resident_memory

DECAY = 0.98
"""Share of the past that each batch leaves in a running mean, which then covers the last 50 or so batches."""


class Throughput(Callback):
    """Measures the speed of training steps, and logs it as often as the trainer logs.

    Tags are `train/samples_per_second`, `train/data_wait` and `train/memory_mib`. Validation and the writing of
    checkpoints are left out. Measuring costs some microseconds a batch, and never waits for a device.

    Attributes:
        samples: number of samples of all steps of this run, on all devices; steps before a resumption are left out.
        seconds: duration of these steps.
        waited: part of `seconds` between two steps, in which the next batch was fetched and moved to the device.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.seconds = self.waited = 0.0
        # Samples, seconds, seconds waited and batches, with decay, for the rates of the moment.
        self._recent = (0.0, 0.0, 0.0, 0.0)
        self._loss: Tensor | None = None
        self._weight = 0.0
        self._ended: float | None = None
        self._began = self._wait = 0.0
        self._step = 0
        self._start = self._trained_from = time.monotonic()
        self._validations = 0
        # Of the sanity check: seconds, and batches of images.
        self._checked = (0.0, 0)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, validation and checkpoints included."""
        return time.monotonic() - self._start

    @property
    def samples_per_second(self) -> float:
        """Rate of the last batches; NaN before the first."""
        samples, seconds, _, _ = self._recent
        return samples / seconds if seconds else math.nan

    @property
    def data_wait(self) -> float:
        """Share of the last batches' time that was spent waiting for data; NaN before the first."""
        _, seconds, waited, _ = self._recent
        return waited / seconds if seconds else math.nan

    @property
    def seconds_per_batch(self) -> float:
        """Mean of the last batches, the wait for data included; NaN before the first."""
        _, seconds, _, batches = self._recent
        return seconds / batches if batches else math.nan

    def seconds_per_validation(self, batches: float) -> float:
        """Mean of what every validation took besides the steps, its checkpoint included.

        Args:
            batches: of images in one validation; before the first, the sanity check's speed is taken for it.
        """
        if self._validations:
            return max(0.0, time.monotonic() - self._trained_from - self.seconds) / self._validations
        seconds, checked = self._checked
        return batches * seconds / checked if checked else 0.0

    @property
    def loss(self) -> float:
        """Mean over the last batches, the latest counting most; NaN before the first. Waits for the device."""
        return math.nan if self._loss is None else self._loss.item() / self._weight

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._start = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave behind what came before training."""
        self._trained_from = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the wait for an epoch's first batch, in which data-loading processes start."""
        if self._ended is None:
            self._ended = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the time at which the batch was ready."""
        self._began = time.perf_counter()
        self._wait = 0.0 if self._ended is None else self._began - self._ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time at which the step ended; log if it is due."""
        self._ended = time.perf_counter()
        seconds = self._wait + self._ended - self._began
        samples = len(batch["name"]) * trainer.world_size if isinstance(batch, Mapping) and "name" in batch else 0
        self.samples += samples
        self.seconds += seconds
        self.waited += self._wait
        past = self._recent
        self._recent = (
            DECAY * past[0] + samples,
            DECAY * past[1] + seconds,
            DECAY * past[2] + self._wait,
            DECAY * past[3] + 1,
        )
        if isinstance(outputs, Mapping) and "loss" in outputs:
            # Lightning hands out the share of an accumulated step.
            loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
            self._loss = loss if self._loss is None else torch.add(loss, self._loss, alpha=DECAY)
            self._weight = DECAY * self._weight + 1
        # An accumulated step is logged once, at its end.
        stepped = trainer.global_step > self._step
        self._step = trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a connector
        if stepped and trainer.global_step % every == 0:
            values = {
                "train/samples_per_second": self.samples_per_second,
                "train/data_wait": self.data_wait,
                "train/memory_mib": memory(pl_module.device) / 2**20,
            }
            for name, value in values.items():
                # Not the task's own `log`, for which this step is over.
                LightningModule.log(pl_module, name, value, batch_size=1)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave validation out."""
        self._ended = None
        self._began = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the validation, or note how long the sanity check took."""
        if trainer.sanity_checking:
            # A check of some of the images; their numbers are cut to it while it lasts.
            self._checked = time.perf_counter() - self._began, round(sum(trainer.num_sanity_val_batches))
        else:
            self._validations += 1

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Leave the writing of a checkpoint out."""
        self._ended = None


def memory(device: torch.device) -> float:
    """Return bytes: the most that tensors took on a GPU so far; elsewhere, the process's resident memory now."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return resident_memory()


def throughput(trainer: Trainer) -> Throughput | None:
    """Find a trainer's `Throughput`; None if it has none."""
    # mypy does not see what Lightning's connectors give the trainer.
    found = (each for each in trainer.callbacks if isinstance(each, Throughput))  # type: ignore[attr-defined]
    return next(found, None)
