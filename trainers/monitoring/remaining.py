"""How long a run still takes: its steps, and what lies between them."""

import math

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

from trainers.monitoring.throughput import throughput


def duration(seconds: float) -> str:
    """Write a time in its two largest units."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def remaining_seconds(trainer: Trainer) -> float | None:
    """Estimate the seconds until the end of training, at the speed of the last steps.

    Validations and checkpoints count with their mean so far. Before the first validation it is estimated from the
    images of the sanity check. Steps before a resumption are no part of any mean.

    Args:
        trainer: in training, with `Throughput` among its callbacks.

    Returns:
        None before the first step, and in a run without an end. `trainer.max_time` is an end.
    """
    measured = throughput(trainer)
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    limits = [left for timer in timers if (left := timer.time_remaining()) is not None]
    last = last_step(trainer)
    if measured is not None and measured.seconds and last < math.inf:
        accumulated = trainer.accumulate_grad_batches
        batches = max(0, last - trainer.global_step) * accumulated
        validations = validations_within(trainer, last * accumulated)
        validations -= validations_within(trainer, trainer.global_step * accumulated)
        limits.append(
            batches * measured.seconds_per_batch
            + validations * measured.seconds_per_validation(sum(trainer.num_val_batches))
        )
    return min(limits, default=None)


def last_step(trainer: Trainer) -> float:
    """Count the optimiser steps of the whole run; infinite if it has no end."""
    steps = math.inf if trainer.max_steps < 0 else float(trainer.max_steps)
    # Before the loaders are set up, and with data without an end, an epoch has no number of batches.
    if trainer.max_epochs is None or trainer.max_epochs < 0 or trainer.num_training_batches == math.inf:
        return steps
    return min(steps, trainer.max_epochs * math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches))


def validations_within(trainer: Trainer, batches: float) -> int:
    """Count the validations of the run's first training batches.

    Args:
        trainer: with its loaders set up.
        batches: >= 0, finite.
    """
    every = trainer.val_check_batch
    # Without validation, or with one every so many seconds, the number is not known.
    if not sum(trainer.num_val_batches) or every is None or every == math.inf:
        return 0
    if trainer.check_val_every_n_epoch is None:
        return int(batches // every)
    epoch, batch = divmod(batches, trainer.num_training_batches)
    counted = int(epoch // trainer.check_val_every_n_epoch) * int(trainer.num_training_batches // every)
    validated = (epoch + 1) % trainer.check_val_every_n_epoch == 0
    return counted + (int(batch // every) if validated else 0)
