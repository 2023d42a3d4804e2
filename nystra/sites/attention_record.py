"""The attention record of a checkpoint: windows and kernels of a net, as plain data beside its weights.

A record is a dictionary of strings and numbers, so that reading it executes nothing::

    {"window_size": 16, "position_bias": "interpolate",
     "kernels": {"layer1.blocks.3.attn.attn": {"class": "LandmarkPooling", "landmarks": 16, ...}}}

A window or a site that is not named is as released.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from torch import nn

from glmha.shared.checkpoint_files import CheckpointError
from nystra.kernels.base import Kernel
from nystra.kernels.content_pooling import ContentPooling
from nystra.kernels.landmark_pooling import LandmarkPooling
from nystra.kernels.nystrom import Nystrom
from nystra.kernels.nystromformer import Nystromformer
from nystra.kernels.performer import Performer
from nystra.kernels.pnp_nystra import PrintedNystrom, PublishedNystrom
from nystra.kernels.softmax import Softmax
from nystra.sites.host import LARGEST_WINDOW, WindowHost
from nystra.sites.site import WindowAttention, sites_of
from nystra.sites.substitution import find_sites, substitute

KEY = "attention"
"""Key of the attention record in a checkpoint, beside `state_dict`."""

LARGEST_NUMBER = 2**20
"""Largest number that a recorded kernel may be made with."""

RECORDED: dict[str, type[Kernel]] = {
    kernel.__name__: kernel
    for kernel in (
        ContentPooling,
        LandmarkPooling,
        Nystrom,
        Nystromformer,
        Performer,
        PrintedNystrom,
        PublishedNystrom,
        Softmax,
    )
}


def encode_kernel(kernel: Kernel) -> dict[str, Any]:
    """Describe a kernel by its class name ("class") and arguments.

    Raises:
        ValueError: if the kernel is not this package's: reading a record must not import other code; or if its
            arguments are none that a record may hold.
    """
    name = type(kernel).__name__
    if RECORDED.get(name) is not type(kernel):
        raise ValueError(f"kernel ({name}) must be one of {', '.join(RECORDED)} to be recorded in a checkpoint")
    # As it will be read.
    _require_types(kernel)
    return {"class": name, **dataclasses.asdict(kernel)}


def decode_kernel(record: Any) -> Kernel:
    """Make the kernel that `encode_kernel` described.

    Raises:
        ValueError: if the class is unknown or the arguments do not fit it.
    """
    try:
        arguments = dict(record)
        kernel = RECORDED[arguments.pop("class")](**arguments)
        _require_types(kernel)
        return kernel
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"recorded kernel ({str(record)[:300]}) must be one of {', '.join(RECORDED)} with its arguments: {error!r}"
        ) from None


def _require_types(kernel: Kernel) -> None:
    """Refuse what no kernel was made with: Python does not compare arguments with their types."""
    hints = get_type_hints(type(kernel))
    for field in dataclasses.fields(kernel):
        value, hint = getattr(kernel, field.name), hints[field.name]
        if hint == int | None:
            if value is None:
                continue
            hint = int
        limit = 2**63 if field.name == "seed" else LARGEST_NUMBER
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= limit
        if (hint is int and not (number and isinstance(value, int))) or (hint is float and not number):
            kind = "a whole number" if hint is int else "a number"
            raise ValueError(f"{field.name} ({str(value)[:100]}) must be {kind} of at most {limit}")


def record(net: nn.Module) -> dict[str, Any]:
    """Make the record of a net: its windows and kernels that differ from the released ones; empty if none does.

    Args:
        net: any module.

    Raises:
        ValueError: if a kernel is not this package's.
    """
    sites = sites_of(net)
    result: dict[str, Any] = {}
    for site in sites.values():
        if not isinstance(site, WindowAttention):
            continue
        if site.window_size != site.trained_window_size or site.bias_mode != "keep":
            # Hosts set all windows alike.
            result = {"window_size": site.window_size[-1], "position_bias": site.bias_mode}
    kernels = {name: encode_kernel(site.kernel) for name, site in sites.items() if site.kernel != Softmax()}
    return {**result, "kernels": kernels} if kernels else result


def describe(record: Mapping[str, Any]) -> str:
    """Put a record in words, each kernel once."""
    kernels = {str(decode_kernel(kernel)) for kernel in record.get("kernels", {}).values()}
    window = f"window {record['window_size']} ({record['position_bias']})" if "window_size" in record else ""
    return ", ".join(filter(None, [window, *sorted(kernels)])) or "exact attention in trained windows"


def apply_recorded(net: nn.Module, content: Mapping[str, Any], name: str) -> None:
    """Give a net the windows and kernels that a checkpoint records beside the weights, if it records any.

    Args:
        net: as `apply` takes it.
        content: of the checkpoint.
        name: what to call the checkpoint in messages.

    Raises:
        CheckpointError: if what is recorded is no record, or one of another net.
    """
    if content.get(KEY) is None:
        return
    try:
        apply(net, content[KEY])
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{name} must record its windows and kernels as they are: {error}") from None


def apply(net: nn.Module, record: Mapping[str, Any]) -> None:
    """Give a net the windows and kernels of a record; sites that it does not name attend exactly.

    Args:
        net: a `WindowHost`, or any module with window attentions for a record of kernels alone.
        record: as `record` makes it.

    Raises:
        ValueError: if it is no record, or is of another net.
    """
    known = isinstance(record, Mapping) and not set(record) - {"window_size", "position_bias", "kernels"}
    if not known or not isinstance(record.get("kernels", {}), Mapping):
        raise ValueError(
            f"record of the attention must hold window_size, position_bias and kernels, got {str(record)[:300]}"
        )
    if "position_bias" in record and "window_size" not in record:
        raise ValueError(f"position_bias ({str(record['position_bias'])[:100]}) must stand beside its window_size")
    if "window_size" in record:
        side = record["window_size"]
        if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= LARGEST_WINDOW:
            raise ValueError(f"window_size ({str(side)[:100]}) must be a whole number from 1 to {LARGEST_WINDOW}")
        if not isinstance(net, WindowHost):
            raise ValueError(
                f"net ({type(net).__name__}) must be a nystra.sites.WindowHost to attend in the recorded windows of "
                f"{record['window_size']}: other modules keep the windows that they were built with"
            )
        net.set_window(record["window_size"], record.get("position_bias", "keep"))
    sites = find_sites(net)
    kernels = {name: decode_kernel(kernel) for name, kernel in record.get("kernels", {}).items()}
    if strange := sorted(map(str, set(kernels) - set(sites))):
        raise ValueError(
            f"record of the attention must be of this net, got the unknown site {strange[0]}; use the checkpoint's own "
            "network"
        )
    substitute(net, {name: kernels.get(name, Softmax()) for name in sites})
