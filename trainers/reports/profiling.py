"""Time and memory of calls, compared fairly: interleaved in one process for time, one fresh process each for memory."""

import functools
import multiprocessing
import os
import resource
import signal
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn

from datamodules.signals import choose_handlers, delayed_signals
from glmha.shared import clock

Call = tuple[Callable[[nn.Module, Tensor], object], nn.Module, Tensor]
"""`training_step` or `inference`, the network and its input."""

_MOST_THREADS = 1024
_PROCESSOR = torch.device("cpu")


def check_counts(**counts: int) -> None:
    """Refuse numbers below 1.

    Args:
        **counts: options that count something, by name.

    Raises:
        ValueError: if one is below 1.
    """
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} ({count}) must be at least 1")


def use_threads(count: int) -> None:
    """Compute with so many threads from now on.

    Raises:
        ValueError: if there are none, or more than any machine could start, which would end the process.
    """
    if not 1 <= count <= _MOST_THREADS:
        raise ValueError(
            f"threads ({count}) must be at least 1 and at most {_MOST_THREADS}; this machine has {os.cpu_count()} cores"
        )
    torch.set_num_threads(count)


def profile(
    groups: Sequence[Mapping[str, Callable[[], object]]],
    *,
    repeats: int,
    memory: Mapping[str, Call] | None = None,
    device: torch.device = _PROCESSOR,
) -> dict[str, dict[str, float]]:
    """Measure the time of calls, and the memory of some.

    Args:
        groups: name → function; those of a group are timed in turn (see `interleaved_medians`).
        repeats: counted calls of each, >= 1.
        memory: name → call whose memory is measured, on the CPU each in a fresh process.
        device: on which they compute.

    Returns:
        Name → "seconds", and "bytes" where memory was measured, in the order of the groups.
    """
    # Memory first: the pages that the timed calls leave to this process would be missing in the measured ones.
    peaks = {name: {"bytes": peak_memory(*call)} for name, call in (memory or {}).items()}
    return {
        name: {"seconds": seconds, **peaks.get(name, {})}
        for group in groups
        for name, seconds in interleaved_medians(group, repeats=repeats, device=device).items()
    }


def add_ratio(results: Mapping[str, dict[str, float]], key: str, to: str) -> None:
    """Add to each result how many times faster it is than another one.

    Args:
        results: name → "seconds", …; changed in place.
        key: under which the ratio is added.
        to: name of the result that is compared with.
    """
    for values in results.values():
        values[key] = results[to]["seconds"] / values["seconds"]


def timed(calls: Mapping[str, Call]) -> dict[str, Callable[[], object]]:
    """Bind calls to their networks and inputs, for timing."""
    return {name: functools.partial(call, net, image) for name, (call, net, image) in calls.items()}


def interleaved_medians(
    calls: Mapping[str, Callable[[], object]], *, repeats: int, device: torch.device = _PROCESSOR
) -> dict[str, float]:
    """Median seconds of every call, measured in turn after one warm-up each, so that a drift of the machine hits all.

    Of one thread the processor's time counts (`glmha.shared.clock`): other programs do not disturb it.

    Args:
        calls: name → function.
        repeats: counted calls of each, >= 1.
        device: on which they compute.

    Returns:
        Name → median seconds.
    """
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = clock.seconds(device)
            call()
            seconds[name].append(clock.seconds(device) - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def training_step(net: nn.Module, image: Tensor) -> None:
    """One forward and backward pass of an L1 loss, gradients dropped before."""
    net.zero_grad()
    net(image).abs().mean().backward()


def inference(net: nn.Module, image: Tensor) -> Tensor:
    """One forward pass without gradients."""
    with torch.inference_mode():
        return net(image)


def peak_memory(call: Callable[[nn.Module, Tensor], object], net: nn.Module, image: Tensor) -> float:
    """Bytes that a call needs beside the network and its input.

    On the CPU it is that by which the call raises the resident memory of a fresh process; on an accelerator the peak
    of what is allocated there.

    Args:
        call: `training_step` or `inference`, importable by name.
        net: network, on the CPU sent to the process.
        image: its input.
    """
    if image.device.type != "cpu":
        call(net, image)
        torch.accelerator.reset_peak_memory_stats(image.device)
        before = torch.accelerator.memory_allocated(image.device)
        call(net, image)
        return float(torch.accelerator.max_memory_allocated(image.device) - before)
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_end_on_interruption)
    try:
        with delayed_signals():
            measured = pool.submit(_increase, call, net, image)
        return measured.result()
    finally:
        with delayed_signals():
            pool.shutdown()


def _end_on_interruption() -> None:
    choose_handlers({signal.SIGINT: signal.SIG_DFL})


def _increase(call: Callable[[nn.Module, Tensor], object], net: nn.Module, image: Tensor) -> float:
    before = resident_memory()
    call(net, image)
    return max(0.0, _resident("VmHWM") - before)


def resident_memory() -> float:
    """Return the bytes that this process has in memory now; where the system does not report them, the peak."""
    return _resident("VmRSS")


def _resident(field: str) -> float:
    # getrusage would report the parent's peak in a process that has just been started.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return float(line.split()[1]) * 1024
    # Bytes on macOS, which has no /proc.
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
