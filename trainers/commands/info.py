"""What this installation has: versions, devices, threads, native programs."""

import json as text
import platform
from importlib.metadata import version

import torch

from nystra.programs.cpu.library import load, object_file, threads


def run_info(json: bool = False) -> None:
    """Print versions, devices, the processor's instruction set, threads and the native programs.

    Args:
        json: as JSON instead of lines.
    """
    described = describe()
    if json:
        print(text.dumps(described, indent=2))
        return
    width = max(map(len, described))
    for name, value in described.items():
        print(f"{name:{width}}  {value}")


def describe() -> dict[str, str]:
    """Describe the installation: a phrase for each of its parts, by name."""
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    path, phrase = object_file()
    library = load()
    return {
        **{name: version(name) for name in ("lowrank-attention", "torch", "lightning")},
        "python": platform.python_version(),
        "devices": ", ".join(["cpu", *devices]),
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": str(torch.get_num_threads()),
        "native programs": phrase if library is None else f"{path}, threads: {threads(library)}",
    }
