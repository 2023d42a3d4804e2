"""What this installation has (versions, devices, threads, native programs), or what a checkpoint is."""

import json as text
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from glmha.shared.released.locate import locate
from nystra.programs.cpu.library import load, object_file, threads
from nystra.programs.gpu import availability
from trainers.errors import printable
from trainers.networks import load_network
from trainers.runs.cards import make_card
from trainers.runtimes.running import GRAPH_SUFFIXES, load_graph


def run_info(files: Sequence[str] = (), *, json: bool = False) -> None:
    """Print versions, devices, instruction set, threads and native programs; or describe checkpoints.

    Of a checkpoint: architecture and constructor arguments, parameters, multiply-adds at 256×256, attention, whether
    the weights are an average, what training started from, recipe, scores and licence, as far as the file or its run's
    folder tell. Of a graph that `lowrank export` wrote: the network and attention that it came from, the images that it
    takes, its precision and the versions that made it. Nothing in a file is executed.

    Args:
        files: checkpoints, as released or as trained here, graphs (.onnx, .xml, .pt2), names of `lowrank models`, or
            addresses; none describes the installation.
        json: as JSON instead of lines.

    Raises:
        CheckpointError: if a checkpoint cannot be read or is of no network of this package.
        ValueError: if a graph cannot be read or has no description.
    """
    if files:
        _describe_files(files, json)
        return
    described = describe()
    if json:
        print(text.dumps(described, indent=2))
        return
    width = max(map(len, described))
    for name, value in described.items():
        print(f"{name:{width}}  {value}")


def _describe_files(files: Sequence[str], json: bool) -> None:
    for given in files:
        file = locate(given, "files")
        card = _describe_graph(file) if file.suffix in GRAPH_SUFFIXES else _describe_checkpoint(file)
        if json:
            print(text.dumps(card, indent=2, ensure_ascii=False, default=str))
        else:
            print("\n".join(_lines(card)))


def _describe_checkpoint(file: Path) -> Mapping[str, Any]:
    return make_card(load_network(file, argument="files"), file)


def _describe_graph(file: Path) -> Mapping[str, Any]:
    return asdict(load_graph(file, "files").description)


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
        "programs for CUDA": availability.phrase(),
    }
