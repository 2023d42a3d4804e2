"""The device that a command computes on, by its name."""

import torch


def choose_device(name: str) -> torch.device:
    """Find a device of this machine.

    Args:
        name: auto (CUDA, else MPS, else XPU, else CPU), cpu, cuda, cuda:1, …

    Raises:
        ValueError: if there is none of this name.
    """
    if name == "auto":
        found = [each for each in (torch.cuda, torch.mps, torch.xpu) if each.is_available()]
        name = found[0].__name__.rpartition(".")[2] if found else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device ({name}) must be available on this machine, got: {reason}; use auto or cpu"
        ) from error
    return device


def device_name(device: torch.device) -> str:
    """Say what a device is: the card's name, or the instructions that torch uses on the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"processor, {torch.backends.cpu.get_cpu_capability()}" if device.type == "cpu" else device.type.upper()
