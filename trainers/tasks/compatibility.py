"""Whether weights, shapes and configurations fit a task."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glmha.shared.checkpoint_files import read
from glmha.shared.released.locate import locate
from glmha.shared.state_dicts import unwrap
from nystra.sites import attention_record
from trainers.networks import load_network


def initialise(net: nn.Module | None, pretrained: str | Path | None) -> nn.Module:
    """The network that a task starts from: given, or loaded, or given and filled with loaded weights.

    Raises:
        CheckpointError: if the checkpoint cannot be read or is of no network of this package.
        ValueError: if there is neither, or the weights do not fit the network.
    """
    if pretrained is None:
        if net is None:
            raise ValueError("net (null) must be a network, or pretrained a checkpoint to infer it from, got neither")
        return net
    loaded = load_network(pretrained)
    if net is None:
        # Loaded networks are in eval mode.
        return loaded.train()
    weights = loaded.state_dict()
    differing = differing_entries(net.state_dict(), weights)
    if differing:
        raise ValueError(
            f"pretrained ({pretrained}) must hold the weights of net ({type(net).__name__}), got other tensors: "
            f"{differing}; leave net out to infer it from the checkpoint, or choose the net that was trained"
        )
    recorded, own = attention_record.record(loaded), attention_record.record(net)
    if recorded != own:
        raise ValueError(
            f"net ({type(net).__name__}) must attend as pretrained ({pretrained}) was trained to "
            f"({attention_record.describe(recorded)}), got {attention_record.describe(own)}: leave net out"
        )
    net.load_state_dict(weights)
    return net


def initialise_parts(net: nn.Module, parts: Mapping[str, str | Path], pretrained: str | Path | None) -> None:
    """Fill parts of a network with weights of their own files.

    Args:
        net: the network.
        parts: checkpoints by the names of the parts. Buffers that a file lacks, as SpyNet's does, stay as they are.
        pretrained: where the network's weights are of; None: it is as it was made.

    Raises:
        CheckpointError: if a checkpoint cannot be read.
        ValueError: if the network has no part of a name or is pretrained, or the weights are not those of the part.
    """
    if parts and pretrained is not None:
        raise ValueError(
            f"pretrained_parts ({', '.join(parts)}) must be null with pretrained ({pretrained}), which has every part"
        )
    modules = dict(net.named_modules())
    for name, path in parts.items():
        if not name or name not in modules:
            known = ", ".join(child for child, _ in net.named_children())
            raise ValueError(
                f"pretrained_parts ({name}) must name a part of net ({type(net).__name__}), such as one of {known}"
            )
        part = modules[name]
        given = f"pretrained_parts ({name}: {path})"
        own = part.state_dict()
        weights = unwrap(read(locate(path, "pretrained_parts"), "pretrained_parts"), given, own)
        weights = {**{key: buffer for key, buffer in part.named_buffers() if key in own}, **weights}
        if differing := differing_entries(own, weights):
            raise ValueError(f"{given} must hold the weights of that part alone, got other tensors: {differing}")
        part.load_state_dict(weights)


def differing_entries(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Name the first tensors whose presence or shape differs; an empty string if none does."""
    keys = [key for key in {**expected, **found} if _shape(expected, key) != _shape(found, key)]
    shown = [f"{key} ({_shape(found, key)} where {_shape(expected, key)} is due)" for key in keys[:3]]
    return ", ".join(shown) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def seed_everything_else(*numbers: int) -> None:
    """Seed Python's, NumPy's and torch's generators from some numbers."""
    state = np.random.SeedSequence(numbers).generate_state(4)
    random.seed(int(state[0]))
    np.random.seed(state[1])
    seed = int(state[2]) << 32 | int(state[3])
    # `torch.manual_seed` would have every kind of device remember the call, with its stack, until it is first used:
    # without a GPU, some kilobytes more at each step.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def class_path(instance: object) -> str:
    """Module and name of an instance's class."""
    return f"{type(instance).__module__}.{type(instance).__qualname__}"


def _shape(tensors: Mapping[str, Any], key: str) -> str:
    if key not in tensors:
        return "absent"
    # What a module says of itself (`get_extra_state`) is its own to judge.
    return "×".join(map(str, tensors[key].shape)) or "scalar" if isinstance(tensors[key], Tensor) else "of its own"


def check_shapes(restored: Tensor, target: Tensor) -> None:
    """Refuse a restored image of another shape than its target's.

    Raises:
        ValueError: if it has.
    """
    # L1 and mean squared error would broadcast, with no more than a warning.
    if restored.shape != target.shape:
        raise ValueError(
            f"net's output (shape {tuple(restored.shape)}) must have the target's shape, got {tuple(target.shape)}: "
            "choose a net and data of the same channels and scale"
        )
