"""The clock by which computations are timed: the processor's own where one thread computes, else one on the wall."""

import time

import torch

PROCESSOR, WALL = "time of the processor", "time on the wall"


def is_single() -> bool:
    """Whether computations on the processor run in one thread, so that their time is that which the processor gave."""
    return torch.get_num_threads() == 1


def seconds(device: torch.device | None = None) -> float:
    """Read the clock, in seconds from some moment on.

    With one thread of torch it is the time that the processor has worked for this process: other programs on the
    machine do not count. With several it goes on while they wait for each other, as a clock on the wall does. Work
    of an accelerator goes on without the processor: its clock is that on the wall, read after it has finished.

    Args:
        device: that computes; None: the processor.
    """
    if device is not None and device.type != "cpu":
        torch.accelerator.synchronize(device)
        return time.perf_counter()
    return time.process_time() if is_single() else time.perf_counter()


def name(device: torch.device | None = None) -> str:
    """Say what `seconds` reads now, for tables."""
    return PROCESSOR if is_single() and (device is None or device.type == "cpu") else WALL
