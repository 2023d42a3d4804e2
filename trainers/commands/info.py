"""What this installation has (versions, devices, threads, native programs), or what a checkpoint is."""

import json as text
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

from glmha.shared.released.locate import locate
from nystra.programs.cpu.library import load, object_file, threads
from trainers.errors import printable
from trainers.networks import load_network
from trainers.runs.cards import make_card


def run_info(files: Sequence[str] = (), *, json: bool = False) -> None:
    """Print versions, devices, instruction set, threads and native programs; or describe checkpoints.

    Of a checkpoint: architecture and constructor arguments, parameters, multiply-adds at 256×256, attention, whether
    the weights are an average, what training started from, recipe, scores and licence, as far as the file or its run's
    folder tell. Nothing in it is executed.

    Args:
        files: checkpoints, as released or as trained here, names of `lowrank models`, or addresses; none describes the
            installation.
        json: as JSON instead of lines.

    Raises:
        CheckpointError: if a checkpoint cannot be read or is of no network of this package.
    """
    if files:
        _describe_checkpoints(files, json)
        return
    described = describe()
    if json:
        print(text.dumps(described, indent=2))
        return
    width = max(map(len, described))
    for name, value in described.items():
        print(f"{name:{width}}  {value}")


def _describe_checkpoints(files: Sequence[str], json: bool) -> None:
    for given in files:
        file = locate(given, "files")
        card = make_card(load_network(file, argument="files"), file)
        if json:
            print(text.dumps(card, indent=2, ensure_ascii=False, default=str))
        else:
            print("\n".join(_lines(card)))


def _lines(card: Mapping[str, Any], indent: str = "") -> list[str]:
    """The card in lines; what is not known is left out, and of a recipe the names of its classes are shown."""
    lines = []
    for name, value in card.items():
        if isinstance(value, Mapping) and value and len(indent) < 8 and name not in ("init_args", "trainer"):
            lines += [f"{indent}{printable(str(name))}:", *_lines(value, f"{indent}  ")]
        elif value not in (None, {}, []) and name not in ("init_args", "trainer"):
            lines.append(f"{indent}{printable(str(name))}: {printable(str(value))}")
    return lines


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
