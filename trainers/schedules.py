"""Learning-rate schedules that torch does not have.

A step is whatever the schedule is stepped by: an iteration or an epoch, as the task's interval says. Every rate is a
closed formula of the step, so that a resumed run follows the same curve to the last bit.
"""

import math
from itertools import accumulate

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class CosineRestart(LRScheduler):
    """Anneal by a cosine in each of several periods, each restarting from the base rate, each with its own minimum.

    minimum + ½ (base - minimum) (1 + cos(π t / period)), t from 0 to period. A period that ends at a restart ends at
    its minimum: the restart is one step later. After the last period its minimum is kept.

    Restormer's schedule (there `CosineAnnealingRestartCyclicLR` with weights 1) has periods [92000, 208000] and
    minima [3e-4, 1e-6] with a base rate of 3e-4: constant first, then one cosine.

    Args:
        optimizer: its parameter groups' rates are the base rates.
        periods: steps of each period, at least 1 each.
        minima: rate at the end of each period, 0 or more.
        last_epoch: last step taken, -1 to start.

    Raises:
        ValueError: if `periods` is empty, or not as long as `minima`, or a value is out of range.
    """

    def __init__(self, optimizer: Optimizer, periods: list[int], minima: list[float], last_epoch: int = -1) -> None:
        if not periods or len(periods) != len(minima):
            raise ValueError(
                f"periods ({periods}) must be as many as minima, and at least one, got minima {minima}: "
                "give each period its own minimum"
            )
        if min(periods) < 1:
            raise ValueError(f"periods ({periods}) must be at least 1 step each")
        if min(minima) < 0:
            raise ValueError(f"minima ({minima}) must be 0 or more")
        self.periods = periods
        self.minima = minima
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each parameter group at the present step."""
        ends = list(accumulate(self.periods))
        step = min(self.last_epoch, ends[-1])
        index = next(i for i, end in enumerate(ends) if step <= end)
        period, minimum = self.periods[index], self.minima[index]
        return [_cosine(base, minimum, (step - ends[index] + period) / period) for base in self.base_lrs]


class WarmupCosine(LRScheduler):
    """Raise the rate linearly over the first steps, then anneal it by one cosine.

    base · (t + 1) / warmup for t < warmup, then minimum + ½ (base - minimum) (1 + cos(π (t - warmup) / (total -
    warmup))), and the minimum from `total` on. Uformer steps it once per epoch, with warmup 3, total 250 and minimum
    1e-6. (torch's `SequentialLR` could compose it, but its parts cannot be written in a configuration file.)

    Args:
        optimizer: its parameter groups' rates are the base rates.
        warmup: steps of the rise, 0 or more.
        total: steps of the whole schedule, more than `warmup`.
        minimum: last rate, 0 or more.
        last_epoch: last step taken, -1 to start.

    Raises:
        ValueError: if a value is out of range.
    """

    def __init__(
        self, optimizer: Optimizer, warmup: int, total: int, minimum: float = 0.0, last_epoch: int = -1
    ) -> None:
        if not 0 <= warmup < total:
            raise ValueError(f"warmup ({warmup}) must be 0 or more and less than total, got total {total}")
        if minimum < 0:
            raise ValueError(f"minimum ({minimum}) must be 0 or more")
        self.warmup = warmup
        self.total = total
        self.minimum = minimum
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each parameter group at the present step."""
        if self.last_epoch < self.warmup:
            return [base * (self.last_epoch + 1) / self.warmup for base in self.base_lrs]
        fraction = min(1.0, (self.last_epoch - self.warmup) / (self.total - self.warmup))
        return [_cosine(base, self.minimum, fraction) for base in self.base_lrs]


def _cosine(base: float | Tensor, minimum: float, fraction: float) -> float | Tensor:
    """Go from `base` at fraction 0 to `minimum` at fraction 1."""
    return minimum + (base - minimum) * (1 + math.cos(math.pi * fraction)) / 2
