"""A recipe on the hardware at hand: batches and accumulation that keep the samples of each step of the optimiser."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer

from datamodules.base.restoration import RestorationDataModule
from datamodules.loading.samples import device_batch


@dataclass(frozen=True)
class StepBatches:
    """How a step's samples are shared out.

    Attributes:
        samples: of a step, as the recipe has them; one number for each stage of the run.
        devices: that work at once.
        accumulated: batches that each device adds up to a step, the same in all stages.
    """

    samples: Sequence[int]
    devices: int
    accumulated: int

    @property
    def batches(self) -> list[int]:
        """Samples of a batch on one device, stage by stage."""
        return [device_batch(samples, self.devices, self.accumulated) for samples in self.samples]

    @property
    def kept(self) -> list[int]:
        """Samples that a step has in fact, stage by stage."""
        return [batch * self.devices * self.accumulated for batch in self.batches]

    @property
    def deviations(self) -> list[float]:
        """By how much of the recipe's samples those in fact differ, stage by stage."""
        return [abs(kept / samples - 1) for kept, samples in zip(self.kept, self.samples, strict=True)]

    def describe(self) -> str:
        """One line for the user, such as "64 samples a step = 2 devices × 8 × 4 accumulated"."""
        devices = f"{self.devices} device{'s' if self.devices > 1 else ''}"
        stages: list[str] = []
        for samples, kept, batch in zip(self.samples, self.kept, self.batches, strict=True):
            wanted = "" if kept == samples else f" (the recipe's {samples} cannot be shared out)"
            if stages:
                stages.append(f"{kept}{wanted} = {self.devices} × {batch} × {self.accumulated}")
            else:
                stages.append(f"{kept} samples a step{wanted} = {devices} × {batch} × {self.accumulated} accumulated")
        line = "; later stages: ".join([stages[0], ", ".join(stages[1:])] if len(stages) > 1 else stages)
        return line + ("; the learning rate is left as it is" if any(self.deviations) else "")


def choose_step_batches(
    samples: Sequence[int], devices: int, *, most: int | None = None, accumulated: int | None = None
) -> StepBatches:
    """Choose how many batches a step accumulates, so that its samples stay those of the recipe.

    Of what the limit allows, the number that keeps the samples of every stage; failing that, the one whose worst stage
    differs by the smallest share. Of equals the smallest, which has the largest batches.

    Args:
        samples: of a step, at least 1; one number for each stage.
        devices: that work at once.
        most: samples of a batch on one device; None: no limit.
        accumulated: given number of batches; None: to be chosen.

    Returns:
        The batches of a step.

    Raises:
        ValueError: if `most` is below 1, or less than what `accumulated` asks for.
    """
    if most is not None and most < 1:
        raise ValueError(f"max_batch_per_device ({most}) must be at least 1, or null for no limit")
    largest = math.ceil(max(samples) / devices)
    choices = range(1, largest + 1) if accumulated is None else [accumulated]
    candidates = [StepBatches(samples, devices, choice) for choice in choices]
    allowed = [batches for batches in candidates if most is None or max(batches.batches) <= most]
    if not allowed:
        raise ValueError(
            f"max_batch_per_device ({most}) must be at least {max(candidates[0].batches)} where "
            f"trainer.accumulate_grad_batches is {accumulated}: leave that out, it follows from the limit"
        )
    return min(allowed, key=lambda batches: (max(batches.deviations), sum(batches.deviations), batches.accumulated))


def adapt(trainer: Trainer, data: LightningDataModule | None, most: int | None) -> StepBatches | None:
    """Let a trainer accumulate what a recipe's samples need on its devices, and count validations in steps.

    A `val_check_interval` or `limit_train_batches` that is a whole number is taken as steps of the optimiser; Lightning
    counts batches.

    Args:
        trainer: before its run; an `accumulate_grad_batches` above 1 is kept.
        data: the recipe's.
        most: samples of a batch on one device; None: no limit.

    Returns:
        What was chosen; None for data that are not of this package, which say nothing about steps.

    Raises:
        ValueError: as of `choose_step_batches`, or if there is a limit for such data.
    """
    if not isinstance(data, RestorationDataModule):
        if most is not None:
            raise ValueError(
                f"max_batch_per_device ({most}) must be null for {type(data).__name__}, whose batches are its own: "
                "set them there"
            )
        return None
    given = trainer.accumulate_grad_batches
    batches = choose_step_batches(
        data.batch_sizes, trainer.num_devices * trainer.num_nodes, most=most, accumulated=given if given > 1 else None
    )
    trainer.accumulate_grad_batches = batches.accumulated
    if isinstance(trainer.val_check_interval, int):
        trainer.val_check_interval *= batches.accumulated
    if isinstance(trainer.limit_train_batches, int):
        trainer.limit_train_batches *= batches.accumulated
    return batches


def recount(progress: dict[str, Any], before: int, now: int) -> None:
    """Turn the batches that a run has counted into those of as many steps that accumulate another number of batches.

    Args:
        progress: Lightning's, of batches, as a checkpoint holds it; it is changed.
        before: batches of a step when it was saved.
        now: batches of a step.
    """
    for counts in (progress["total"], progress["current"]):
        difference = counts["ready"] // before * now - counts["ready"]
        for stage in ("ready", "started", "processed", "completed"):
            counts[stage] += difference
