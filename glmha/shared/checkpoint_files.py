"""Reading of checkpoint files: plain data out of a file on this machine, or one clear refusal.

Nothing else calls `torch.load`, and only with `weights_only=True`: a checkpoint is data, never code. Every verb, option
and class of the packages reads checkpoints here.
"""

import json
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

# Where the weights lie in the files of upstream's and of Lightning's trainers; averaged weights first.
CONTAINERS = ("params_ema", "params", "state_dict")

SAFETENSORS_FORMAT = "format"
"""Key of safetensors' metadata by which other libraries tell torch's files."""
CARD = "card"
"""Key of a model's card in a checkpoint, beside its state dict."""

# Exceptions of the readers of pickle and zip files at bytes of another format.
UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)

# `https://…`, `s3://…`, `memory:…`, chains such as `simplecache::…` and model registries; drives have one letter. Of
# the two slashes `Path` leaves one.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")

NESTING = 64
"""Deepest nesting of containers that is read; a run's checkpoint has about ten levels."""
VALUES = 1_000_000
"""Most values that a checkpoint's containers may stand for, each counted as often as it is referred to."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, is of no known architecture, or does not fit the one that its keys are of.

    Examples:
        >>> import glmha
        >>> glmha.load_pretrained({})
        Traceback (most recent call last):
        ...
        glmha.shared.checkpoint_files.CheckpointError: the given state dict must map parameter names to tensors, ...
    """


def read(path: Path, argument: str = "pretrained") -> Mapping[str, Any]:
    """Read a checkpoint file without executing anything in it.

    Args:
        path: of a file on this machine; addresses are refused.
        argument: name of the option or argument that gave the path, for messages.

    Raises:
        CheckpointError: if it is an address, missing, truncated, damaged, or holds anything but data.
    """
    require_file(path, argument)
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        _check_archive(path)
        with warnings.catch_warnings():
            # Of what it reads torch warns in its own words, about protocols and types.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        _check_containers(content)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{argument} ({path}) must hold tensors in plain containers; it holds other Python objects, which are "
            "never executed, or is no checkpoint (a web page, a pointer to a large file). Save its state_dict() alone"
        ) from None
    except (*UNREADABLE, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{argument} ({path}) cannot be read, it may be truncated, damaged or no checkpoint: download it again "
            f"({type(error).__name__}: {shortened(str(error), 1)})"
        ) from None
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{argument} ({path}) must hold a state dict, got {type(content).__name__}")
    return content


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    """Read tensors, and what this package wrote beside them: JSON in the file's metadata, which holds strings alone."""
    tensors = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if CARD not in metadata:
        return tensors
    beside = {name: json.loads(value) for name, value in metadata.items() if name != SAFETENSORS_FORMAT}
    _check_containers(beside)
    return {"state_dict": tensors, **beside}


def write_safetensors(content: Mapping[str, Any]) -> bytes:
    """Make a safetensors file of a checkpoint; `read` gives the same content back.

    Args:
        content: a state dict under `state_dict`, and plain values beside it, a card among them.
    """
    # Views and shared tensors are written out.
    tensors = {name: value.contiguous().clone() for name, value in content["state_dict"].items()}
    beside = {name: json.dumps(value) for name, value in content.items() if name != "state_dict"}
    return safetensors.torch.save(tensors, {SAFETENSORS_FORMAT: "pt", **beside})


def require_file(path: Path | str, argument: str) -> None:
    """Refuse what is no file on this machine.

    Args:
        path: that was given.
        argument: name of the option or argument that gave it.

    Raises:
        CheckpointError: with the remedy.
    """
    if Path(path).is_file():
        return
    if _ADDRESS.match(str(path)):
        raise CheckpointError(
            f"{argument} ({path}) must be a file on this machine, got an address: download it first, then give the "
            "file's path"
        )
    raise CheckpointError(f"{argument} ({path}) must be a checkpoint file: there is none at this path")


def averaged(path: Path) -> bool | None:
    """Return whether the weights that are taken of a file (`unwrap`) are an average over training (EMA).

    Returns:
        None if the file does not state it.

    Raises:
        CheckpointError: see `read`.
    """
    content = read(path)
    # Lightning puts the average in the weights' place and keeps those in training beside it.
    if "pytorch-lightning_version" in content:
        return "current_model_state" in content
    container = next((key for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
    return {"params_ema": True, "params": False}.get(container or "")


def shortened(message: str, lines: int = 6) -> str:
    """Join the first lines of a long error message, each cut at 300 characters."""
    kept = [line.strip()[:300] for line in message.splitlines() if line.strip()]
    return " ".join(kept[:lines]) + (f" … ({len(kept) - lines} more lines)" if len(kept) > lines else "")


def _check_archive(path: Path) -> None:
    """Refuse a zip archive whose checksums do not fit its bytes; torch does not look at them.

    Older files are bare pickles, which have no checksums.

    Raises:
        ValueError: naming the damaged part.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    with zipfile.ZipFile(path) as archive:
        # torch stores parts as they are. Without this check a small file could unpack to any size.
        if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
            raise ValueError("its parts are larger than the file")
        if damaged := archive.testzip():
            raise ValueError(f"the checksum of its part {damaged} is wrong")


def _check_containers(content: Any) -> None:
    """Refuse containers that hold each other, are nested too deeply, or stand for more values than memory holds.

    A few lists that refer to each other many times stand for more values than there is memory for: to print or
    compare them would never end.

    Raises:
        ValueError: with the limit that is passed.
    """
    known: dict[int, tuple[int, int]] = {}

    def measure(value: Any, depth: int) -> tuple[int, int]:
        """Number of values, and levels, below and with a value."""
        if isinstance(value, Mapping):
            parts = [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            parts = list(value)
        else:
            return 1, 1
        if id(value) not in known:
            inner = [measure(part, depth + 1) for part in parts] if depth < NESTING else [(1, NESTING)]
            known[id(value)] = 1 + sum(size for size, _ in inner), 1 + max((level for _, level in inner), default=0)
        size, levels = known[id(value)]
        if levels > NESTING:
            raise ValueError(f"its containers are nested more than {NESTING} deep")
        if size > VALUES:
            raise ValueError(f"its containers stand for more than {VALUES} values")
        return size, levels

    measure(content, 1)
