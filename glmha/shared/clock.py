"""The clock by which computations are timed: the processor's own where one thread computes."""

import time

import torch

PROCESSOR, WALL = "time of the processor", "time on the wall"


def is_single() -> bool:
    """Whether computations on the processor run in one thread, so that their time is that which the processor gave."""
    return torch.get_num_threads() == 1


def seconds() -> float:
    """Read the clock, in seconds from some moment on.

    With one thread of torch it is the time that the processor has worked for this process: other programs on the
    machine do not count. With several it goes on while they wait for each other, as a clock on the wall does. Work
    of an accelerator goes on without the processor: for that read `time.perf_counter`, after it has finished.
    """
    return time.process_time() if is_single() else time.perf_counter()


def name() -> str:
    """Say what `seconds` reads now, for tables."""
    return PROCESSOR if is_single() else WALL
