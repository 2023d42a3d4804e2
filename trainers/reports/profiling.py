"""Time and memory of calls, compared fairly: interleaved in one process for time, one fresh process each for memory."""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn


def interleaved_medians(calls: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, float]:
    """Median seconds of every call, measured in turn after one warm-up each, so that a drift of the machine hits all.

    Args:
        calls: name → function.
        repeats: counted calls of each, >= 1.

    Returns:
        Name → median seconds.
    """
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
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
    """Bytes by which a call raises the resident memory of a fresh process, on the CPU.

    Args:
        call: `training_step` or `inference`, importable by name.
        net: network, sent to the process.
        image: its input.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_increase, call, net, image).result()


def _increase(call: Callable[[nn.Module, Tensor], object], net: nn.Module, image: Tensor) -> float:
    before = resident_memory()
    call(net, image)
    return max(0.0, _resident("VmHWM") - before)


def resident_memory() -> float:
    """Bytes that this process has in memory now; where the system does not say, the most that it ever had."""
    return _resident("VmRSS")


def _resident(field: str) -> float:
    # getrusage would report the parent's peak in a process that has just been started.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return float(line.split()[1]) * 1024
    # Bytes on macOS, which has no /proc.
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
