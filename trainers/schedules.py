"""Learning-rate schedules that torch does not have, and the length that a schedule takes from its run.

Every rate is a closed formula of the step, so that a resumed run follows the same curve to the last bit. The tasks of
this package step a schedule once per optimiser step.
"""

import math
from abc import abstractmethod
from itertools import accumulate
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler


class _RunLengthSchedule(LRScheduler):
    """A schedule that ends with its run where it is given no length.

    Attributes:
        run_steps: steps of the run; None before `follow_run` gave them. They are no part of the schedule's state, so
            that a run that is resumed with another number of steps follows that number.
    """

    run_steps: int | None = None

    @property
    @abstractmethod
    def length(self) -> int | None:
        """Steps of the whole schedule as given; None if it ends with its run."""

    @property
    @abstractmethod
    def shortest(self) -> int:
        """Steps that a run must exceed, so that the schedule has a last part."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state without the run's steps."""
        return {key: value for key, value in super().state_dict().items() if key != "run_steps"}

    def end(self) -> int:
        """Return the step at which the schedule ends.

        Raises:
            ValueError: if that is the run's end, no run gave it, and the first step has been taken.
        """
        if self.length is not None:
            return self.length
        if self.run_steps is None and self.last_epoch > 0:
            raise ValueError(
                f"length of {type(self).__name__} (null) must be given where no task trains with the schedule: name "
                "the steps, or call follow_run"
            )
        # The rate of the first step, which torch asks for at once, does not depend on the length.
        return self.shortest + 1 if self.run_steps is None else self.run_steps


class CosineRestart(_RunLengthSchedule):
    """Anneal by a cosine in each of several periods, each restarting from the base rate, each with its own minimum.

    minimum + ½ (base - minimum) (1 + cos(π t / period)), t from 0 to period. A period that ends at a restart ends at
    its minimum: the restart is one step later. After the last period its minimum is kept.

    Restormer's schedule (there `CosineAnnealingRestartCyclicLR` with weights 1) has periods [92000, 208000] and
    minima [3e-4, 1e-6] with a base rate of 3e-4: constant first, then one cosine.

    Args:
        optimizer: its parameter groups' rates are the base rates.
        periods: steps of each period, at least 1 each. The last may be None: it ends with the run (`follow_run`).
        minima: rate at the end of each period, 0 or more.
        last_epoch: last step taken, -1 to start.

    Raises:
        ValueError: if `periods` is empty, or not as long as `minima`, or a value is out of range.

    Examples:
        >>> import torch
        >>> from trainers.schedules import CosineRestart
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule = CosineRestart(optimizer, periods=[2, 4], minima=[0.5, 0.0])
        >>> rates = []
        >>> for _ in range(7):
        ...     rates.append(round(schedule.get_last_lr()[0], 3))
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates
        [1.0, 0.75, 0.5, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(
        self, optimizer: Optimizer, periods: list[int | None], minima: list[float], last_epoch: int = -1
    ) -> None:
        if not periods or len(periods) != len(minima):
            raise ValueError(
                f"periods ({periods}) must be as many as minima, and at least one, got minima {minima}: "
                "give each period its own minimum"
            )
        if any(period is None for period in periods[:-1]):
            raise ValueError(
                f"periods ({periods}) must be numbers of steps, got null before the last: only that may be"
            )
        if any(period is not None and period < 1 for period in periods):
            raise ValueError(f"periods ({periods}) must be at least 1 step each")
        if min(minima) < 0:
            raise ValueError(f"minima ({minima}) must be 0 or more")
        self.periods = periods
        self.minima = minima
        super().__init__(optimizer, last_epoch)

    @property
    def length(self) -> int | None:
        """Steps of all periods; None if the last ends with the run."""
        return None if self.periods[-1] is None else self.shortest + self.periods[-1]

    @property
    def shortest(self) -> int:
        """Steps of all periods but the last."""
        return sum(period for period in self.periods[:-1] if period is not None)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each parameter group at the present step."""
        periods = [self.end() - self.shortest if period is None else period for period in self.periods]
        ends = list(accumulate(periods))
        step = min(self.last_epoch, ends[-1])
        index = next(i for i, end in enumerate(ends) if step <= end)
        period, minimum = periods[index], self.minima[index]
        return [_cosine(base, minimum, (step - ends[index] + period) / period) for base in self.base_lrs]


class WarmupCosine(_RunLengthSchedule):
    """Raise the rate linearly over the first steps, then anneal it by one cosine.

    base · (t + 1) / warmup for t < warmup, then minimum + ½ (base - minimum) (1 + cos(π (t - warmup) / (total -
    warmup))), and the minimum from `total` on. Uformer steps it once per epoch, with warmup 3, total 250 and minimum
    1e-6. (torch's `SequentialLR` could compose it, but its parts cannot be written in a configuration file.)

    Args:
        optimizer: its parameter groups' rates are the base rates.
        warmup: steps of the rise, 0 or more.
        total: steps of the whole schedule, more than `warmup`; None: those of the run (`follow_run`).
        minimum: last rate, 0 or more.
        last_epoch: last step taken, -1 to start.

    Raises:
        ValueError: if a value is out of range.

    Examples:
        >>> import torch
        >>> from trainers.schedules import WarmupCosine
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule = WarmupCosine(optimizer, warmup=2, total=6)
        >>> rates = []
        >>> for _ in range(7):
        ...     rates.append(round(schedule.get_last_lr()[0], 3))
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup: int = 0,
        total: int | None = None,
        minimum: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if warmup < 0 or (total is not None and warmup >= total):
            raise ValueError(f"warmup ({warmup}) must be 0 or more and less than total, got total {total}")
        if minimum < 0:
            raise ValueError(f"minimum ({minimum}) must be 0 or more")
        self.warmup = warmup
        self.total = total
        self.minimum = minimum
        super().__init__(optimizer, last_epoch)

    @property
    def length(self) -> int | None:
        """Steps of rise and fall; None if the fall ends with the run."""
        return self.total

    @property
    def shortest(self) -> int:
        """Steps of the rise."""
        return self.warmup

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each parameter group at the present step."""
        if self.last_epoch < self.warmup:
            return [base * (self.last_epoch + 1) / self.warmup for base in self.base_lrs]
        fraction = min(1.0, (self.last_epoch - self.warmup) / (self.end() - self.warmup))
        return [_cosine(base, self.minimum, fraction) for base in self.base_lrs]


def follow_run(schedule: LRScheduler, steps: float) -> str | None:
    """Let a schedule without a length end with its run, and compare a length that was given with the run's.

    Args:
        schedule: at its first step. Lengths of `CosineRestart`, `WarmupCosine` and torch's `CosineAnnealingLR` are
            known; others are left as they are.
        steps: of the run; infinite if it has no end.

    Returns:
        A sentence for the user where the given length is not the run's; None otherwise.

    Raises:
        ValueError: if a schedule without a length finds no end in the run, or one too early for it.

    Examples:
        >>> import torch
        >>> from trainers.schedules import WarmupCosine, follow_run
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule = WarmupCosine(optimizer, warmup=20)
        >>> follow_run(schedule, steps=100)
        >>> schedule.end()
        100
        >>> print(follow_run(WarmupCosine(optimizer, warmup=20, total=50), steps=100))
        total of WarmupCosine (50) is not the run's steps (100), at which its last rate is meant to come; give both ...
    """
    name = type(schedule).__name__
    if isinstance(schedule, _RunLengthSchedule) and schedule.length is None:
        if not schedule.shortest < steps < math.inf:
            raise ValueError(
                f"max_steps ({steps}) must be finite and above the {schedule.shortest} steps before the last part of "
                f"{name}, which ends with the run: raise --trainer.max_steps, or give the schedule its length"
            )
        schedule.run_steps = int(steps)
        return None
    if isinstance(schedule, WarmupCosine):
        option, length = "total", schedule.length
    elif isinstance(schedule, CosineRestart):
        option, length = "sum of periods", schedule.length
    elif isinstance(schedule, CosineAnnealingLR):
        option, length = "T_max", int(schedule.T_max)
    else:
        return None
    if length == steps or steps == math.inf:
        return None
    return (
        f"{option} of {name} ({length}) is not the run's steps ({steps:.0f}), at which its last rate is meant to come; "
        "give both the same (--model.scheduler, --trainer.max_steps)"
    )


def _cosine(base: float | Tensor, minimum: float, fraction: float) -> float | Tensor:
    """Go from `base` at fraction 0 to `minimum` at fraction 1."""
    return minimum + (base - minimum) * (1 + math.cos(math.pi * fraction)) / 2
