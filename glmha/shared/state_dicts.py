"""State dicts as other tools save them, made bare: out of their containers, without wrappers, plain tensors only."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glmha.shared.checkpoint_files import CONTAINERS, CheckpointError, read
from glmha.shared.released.locate import locate

StateDict = dict[str, Tensor]

# DataParallel, torch.compile, FSDP and recomputation put these into keys, before all of them or within.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# The network's place in the tasks of `trainers`; what lies beside it, such as a loss's buffers, is no part of it.
TASK_PREFIX = "net."
# Last words of keys that FLOP counters (thop) and averages of weights (torch, ema_pytorch) add to a state dict.
BOOKKEEPING = frozenset({"total_ops", "total_params", "n_averaged", "num_updates", "decay", "initted", "step"})
# The largest published networks of these families have about two thousand entries.
ENTRIES = 5000
# Tensors may share memory, such as one table of indices for all blocks; beyond this a file claims what it has not got.
SHARED_BYTES = 64 * 2**20

_logger = logging.getLogger(__name__)


def read_weights(source: str | Path | Mapping[str, Any]) -> tuple[StateDict, str]:
    """Read the bare state dict of a checkpoint, and the checkpoint's name in messages.

    Args:
        source: path, name or address of a .pth, .pt, .ckpt or .safetensors file (`locate`), or a loaded checkpoint or
            state dict.

    Raises:
        CheckpointError: see `locate`, `read` and `unwrap`.
    """
    name = "the given state dict" if isinstance(source, Mapping) else str(source)
    return unwrap(source if isinstance(source, Mapping) else read(locate(source)), name), name


EXTRA_STATE = "_extra_state"


def _is_extra_state(key: Any) -> bool:
    return isinstance(key, str) and key.endswith(EXTRA_STATE)


def unwrap(content: Mapping[str, Any], name: str, expected: Collection[str] | None = None) -> StateDict:
    """Take the state dict out of its container, strip wrappers from its keys, and leave other tools' counters out.

    Args:
        content: of a checkpoint.
        name: what to call the checkpoint in messages.
        expected: keys of the network, where it is known: a first word of them is no wrapper's. None: unknown.

    Raises:
        CheckpointError: if no mapping from names to tensors is found, or its tensors are not plain real numbers.
    """
    for container in CONTAINERS:
        if isinstance(content.get(container), Mapping):
            content = content[container]
            break
    if expected is None:
        # What modules of a task say of themselves (`get_extra_state`) may be no tensor; no known network says that.
        content = {k: value for k, value in content.items() if isinstance(value, Tensor) or not _is_extra_state(k)}
    strange = [key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))][:3]
    if not content or strange:
        raise CheckpointError(
            f"{name} must map parameter names to tensors, alone or under one of {', '.join(CONTAINERS)}; "
            f"{'it is empty' if not content else f'found other values under {strange}'}"
        )
    if len(content) > ENTRIES:
        raise CheckpointError(f"{name} must hold the weights of one network, got {len(content)} entries")
    bare = {key: ".".join(word for word in key.split(".") if word not in WRAPPERS) for key in content}

    def is_whole() -> bool:
        return expected is not None and set(expected) <= set(bare.values())

    while not is_whole() and any(key.startswith(TASK_PREFIX) for key in bare.values()):
        bare = {key: inner[len(TASK_PREFIX) :] for key, inner in bare.items() if inner.startswith(TASK_PREFIX)}
    left_out = [key for key in bare if key.split(".")[-1] in BOOKKEEPING and content[key].numel() <= 1]
    weights = {bare[key]: content[key] for key in bare if key not in left_out}
    if len(weights) + len(left_out) < len(bare):
        raise CheckpointError(f"{name} must hold every parameter once, got some with and without a wrapper's name")
    if left_out:
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        _logger.warning("%s: left out %s%s, which other tools added", name, ", ".join(left_out[:3]), more)
    check_tensors(weights, name)
    return weights


def check_tensors(weights: Mapping[str, Tensor], name: str) -> None:
    """Refuse tensors that are no plain real numbers, or claim to be larger than what they hold.

    Args:
        weights: bare state dict.
        name: what to call the checkpoint in messages.

    Raises:
        CheckpointError: naming the first such tensor.
    """
    held: dict[int, int] = {}
    claimed = 0
    for key, value in weights.items():
        if value.layout != torch.strided or value.is_quantized or value.is_nested or value.is_meta:
            raise CheckpointError(f"{name} must hold plain tensors, got a sparse, quantised or empty one under {key}")
        if value.is_complex() or value.dtype == torch.bool:
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{name} must hold real numbers, got {kind} under {key}")
        storage, size = value.untyped_storage(), value.numel() * value.element_size()
        held[storage.data_ptr()] = storage.nbytes()
        claimed += size
        if size > storage.nbytes():
            shape = "×".join(map(str, value.shape))
            raise CheckpointError(
                f"{name} must hold what its shapes claim, got {key} ({shape}) of {storage.nbytes()} bytes"
            )
    if claimed > 2 * sum(held.values()) + SHARED_BYTES:
        raise CheckpointError(f"{name} must hold what its shapes claim, got {sum(held.values())} bytes for {claimed}")


def held_bytes(weights: Mapping[str, Tensor]) -> int:
    """Bytes of all tensors of a state dict."""
    return sum(value.numel() * value.element_size() for value in weights.values())


def count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Count the entries of the module list `prefix`, at least one.

    Raises:
        KeyError: if there is none.
    """
    entries = {key[len(prefix) + 1 :].partition(".")[0] for key in weights if key.startswith(f"{prefix}.")}
    if not entries:
        raise KeyError(f"{prefix}.0")
    return len(entries)
