"""When the programs for graphics processors are taken: where Triton is there, and they are faster than torch."""

import functools
import importlib.util
from collections.abc import Callable, Hashable, Iterable

import torch
from torch import Tensor

from nystra.programs.operators import plain_torch, takes

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Of NVIDIA's cards, from Ampere on: older ones have no products of bfloat16.
LEAST_CAPABILITY = (8, 0)
REPEATS = 5

_faster: dict[Hashable, bool] = {}


def usable(*tensors: Tensor, parameters: Iterable[Tensor] = ()) -> bool:
    """Whether the programs can take tensors: of one dtype that they know, on one device, without gradients.

    Args:
        *tensors: inputs.
        parameters: what tables are made of: of any dtype, on the same device, without gradients.
    """
    if tensors[0].device.type != "cuda":
        return False
    return takes(tensors, parameters, "cuda", DTYPES) and _can_run(tensors[0].device.index or 0)


def phrase() -> str:
    """Say for people whether the programs can run here."""
    if not torch.cuda.is_available():
        return "none: there is no CUDA device"
    return _obstacle(torch.cuda.current_device()) or "Triton's"


@torch.compiler.assume_constant_result
def _can_run(index: int) -> bool:
    return not _obstacle(index)


@functools.cache
def _obstacle(index: int) -> str:
    """Why a device runs no programs; empty where it does."""
    if torch.version.hip is not None:
        return "none: they were never tried on ROCm"
    if importlib.util.find_spec("triton") is None:
        return "none: Triton is not installed"
    if torch.cuda.get_device_capability(index) < LEAST_CAPABILITY:
        return f"none: the card's capability must be {'.'.join(map(str, LEAST_CAPABILITY))} at least"
    return ""


def is_faster(
    call: tuple[Hashable, ...], program: Callable[[], Tensor], plain: Callable[[], Tensor], query: Tensor
) -> bool:
    """Whether a program takes less time than plain torch: measured at the first call of its kind in this process.

    Where operations are traced or recorded nothing can be measured: there the program is taken if it was measured to be
    faster before.

    Args:
        call: what tells calls apart but for their sizes.
        program: runs the program.
        plain: computes the same by torch.
        query: its shape and dtype tell sizes apart, numbers of windows by powers of two.
    """
    key = (*call, *query.shape[-2:], query.dtype, query.device, query.numel().bit_length())
    if torch.compiler.is_compiling():
        return _was_faster(key)
    if key not in _faster and not (query.is_cuda and torch.cuda.is_current_stream_capturing()):
        with plain_torch():
            limit = _milliseconds(plain)
        _faster[key] = _milliseconds(program) < limit
    return _was_faster(key)


@torch.compiler.assume_constant_result
def _was_faster(key: Hashable) -> bool:
    return _faster.get(key, False)


def _milliseconds(run: Callable[[], Tensor]) -> float:
    """The shortest of several times; the first call may compile."""
    run()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return min(times)
