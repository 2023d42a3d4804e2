"""Reading of checkpoint files: weights out of their containers, built into a network strictly.

Nothing else calls `torch.load`, and only with `weights_only=True`: a checkpoint is data, never code. Both attention
packages read checkpoints here.
"""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

StateDict = dict[str, Tensor]
Host = TypeVar("Host", bound=nn.Module)

# Where the weights lie in the files of upstream's and of Lightning's trainers; averaged weights first.
CONTAINERS = ("params_ema", "params", "state_dict")
# DataParallel, torch.compile and the tasks of `trainers` put these before every key.
PREFIXES = ("module.", "_orig_mod.", "net.")

# Exceptions of the readers of pickle and zip files at bytes of another format.
UNREADABLE = (RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError)


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, is of no known architecture, or does not fit the one that its keys are of.

    Examples:
        >>> import glmha
        >>> glmha.load_pretrained({})
        Traceback (most recent call last):
        ...
        glmha.shared.checkpoint_files.CheckpointError: the given state dict must map parameter names to tensors, ...
    """


def read_weights(source: str | Path | Mapping[str, Any]) -> tuple[StateDict, str]:
    """Read the bare state dict of a checkpoint, and the checkpoint's name in messages.

    Args:
        source: path of a .pth, .pt, .ckpt or .safetensors file, or a loaded checkpoint or state dict.

    Raises:
        CheckpointError: see `read` and `unwrap`.
    """
    name = "the given state dict" if isinstance(source, Mapping) else str(source)
    return unwrap(source if isinstance(source, Mapping) else read(Path(source)), name), name


def build_host(
    host: Callable[..., Host],
    arguments: Mapping[str, Any],
    overrides: Mapping[str, Any],
    weights: StateDict,
    name: str,
) -> Host:
    """Build a network and load it strictly.

    Args:
        host: class of the network.
        arguments: constructor arguments inferred from the weights.
        overrides: constructor arguments that the user gave; they replace the inferred ones.
        weights: bare state dict.
        name: what to call the checkpoint in messages.

    Returns:
        The network, in eval mode and float32.

    Raises:
        CheckpointError: if an override is no argument or the weights do not fit.
    """
    try:
        net = host(**{**arguments, **overrides})
    except TypeError as error:
        raise CheckpointError(
            f"overrides must be arguments of {host.__name__}, got {sorted(overrides)}: {error}"
        ) from None
    try:
        net.load_state_dict(weights, strict=True)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{name} does not fit {host.__name__}({arguments}): {shortened(str(error))}") from None
    return net.float().eval()


def read(path: Path) -> Mapping[str, Any]:
    """Read a checkpoint file without executing anything in it.

    Raises:
        CheckpointError: if it is missing, truncated or holds anything but data.
    """
    if not path.is_file():
        raise CheckpointError(f"pretrained ({path}) must be a checkpoint file: there is none at this path")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"pretrained ({path}) must hold tensors in plain containers; it holds other Python objects, which are "
            "never executed, or is no checkpoint (a web page, a pointer to a large file). Save its state_dict() alone"
        ) from None
    except (*UNREADABLE, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"pretrained ({path}) cannot be read, it may be truncated or no checkpoint: download it again "
            f"({type(error).__name__}: {shortened(str(error), 1)})"
        ) from None
    if not isinstance(content, Mapping):
        raise CheckpointError(f"pretrained ({path}) must hold a state dict, got {type(content).__name__}")
    return content


def averaged(path: Path) -> bool | None:
    """Return whether the weights that `unwrap` takes of a file are an average over training (EMA).

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


def unwrap(content: Mapping[str, Any], name: str) -> StateDict:
    """Take the state dict out of its container and strip wrappers' prefixes from its keys.

    Raises:
        CheckpointError: if no mapping from names to tensors is found.
    """
    for container in CONTAINERS:
        if isinstance(content.get(container), Mapping):
            content = content[container]
            break
    strange = [key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))][:3]
    if not content or strange:
        raise CheckpointError(
            f"{name} must map parameter names to tensors, alone or under one of {', '.join(CONTAINERS)}; "
            f"{'it is empty' if not content else f'found other values under {strange}'}"
        )
    weights = dict(content)
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in weights)), None):
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def shortened(message: str, lines: int = 6) -> str:
    """Join the first lines of a long error message, each cut at 300 characters."""
    kept = [line.strip()[:300] for line in message.splitlines() if line.strip()]
    return " ".join(kept[:lines]) + (f" … ({len(kept) - lines} more lines)" if len(kept) > lines else "")


def count(weights: StateDict, prefix: str) -> int:
    """Count the entries of the module list `prefix`, at least one.

    Raises:
        KeyError: if there is none.
    """
    entries = {key[len(prefix) + 1 :].partition(".")[0] for key in weights if key.startswith(f"{prefix}.")}
    if not entries:
        raise KeyError(f"{prefix}.0")
    return len(entries)
